"""What one person is refused again and again is added up. The version before has no such table, and writes each."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    WHILE_SERVING = 'A new table. The version before writes a row of the history for each, and adds nothing up.'

    dependencies = [
        ('enrollments', '0031_keys_of_groups_at_attempts'),
    ]

    operations = [
        migrations.CreateModel(
            name='RefusedAgain',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=64, unique=True)),
                ('actor_kind', models.CharField(max_length=20)),
                ('actor_name', models.CharField(max_length=150)),
                ('way', models.CharField(max_length=20)),
                ('address', models.CharField(blank=True, max_length=45)),
                ('what', models.CharField(max_length=200)),
                ('started_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
                ('count', models.PositiveIntegerField(default=0)),
                ('service', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='enrollments.provisioningservice')),
            ],
            options={
                'indexes': [models.Index(fields=['started_at'], name='refused_again_by_age'), models.Index(fields=['actor_name', 'started_at'], name='refused_again_by_person')],
            },
        ),
    ]
