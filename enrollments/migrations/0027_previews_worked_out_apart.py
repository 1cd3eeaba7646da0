"""Previews of checked imports, worked out apart from requests and kept with their devices. The version before has none."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    WHILE_SERVING = 'New tables. The version before works out previews in the request that shows them, and keeps none.'

    dependencies = [
        ('enrollments', '0026_chains_of_attempts'),
    ]

    operations = [
        migrations.CreateModel(
            name='ImportPreview',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('everyone', models.BooleanField()),
                ('epoch', models.PositiveBigIntegerField()),
                ('holder', models.CharField(blank=True, max_length=40)),
                ('held_until', models.DateTimeField(null=True)),
                ('progress', models.JSONField(default=dict)),
                ('told', models.JSONField(null=True)),
                ('problem', models.CharField(blank=True, max_length=500)),
                ('began_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(null=True)),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='previews', to='enrollments.importrun')),
            ],
        ),
        migrations.CreateModel(
            name='ImportPreviewPortion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('is_later', models.BooleanField()),
                ('number', models.PositiveIntegerField()),
                ('first_key', models.CharField(max_length=130)),
                ('counts', models.JSONField()),
                ('rows', models.TextField()),
                ('preview', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='portions', to='enrollments.importpreview')),
            ],
        ),
        migrations.AddConstraint(
            model_name='importpreview',
            constraint=models.UniqueConstraint(fields=('run', 'everyone'), name='each_preview_of_an_import_once'),
        ),
        migrations.AddConstraint(
            model_name='importpreviewportion',
            constraint=models.UniqueConstraint(fields=('preview', 'is_later', 'number'), name='each_portion_of_a_preview_once'),
        ),
    ]
