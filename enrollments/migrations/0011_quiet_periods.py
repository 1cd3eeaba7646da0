import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0010_history_seals'),
    ]

    operations = [
        migrations.AddField(
            model_name='registrationattempt',
            name='credential',
            field=models.CharField(blank=True, help_text='Who came, as rates and back-off tell one caller from another.', max_length=64),
        ),
        migrations.CreateModel(
            name='QuietPeriod',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('registration_id', models.CharField(max_length=128)),
                ('registration_key', models.CharField(max_length=128)),
                ('credential', models.CharField(max_length=64)),
                ('is_proven', models.BooleanField()),
                ('started_at', models.DateTimeField()),
                ('until', models.DateTimeField()),
                ('actor', models.CharField(max_length=150)),
                ('reason', models.CharField(blank=True, max_length=500)),
                ('service', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='quiet_periods', to='enrollments.provisioningservice')),
            ],
            options={
                'indexes': [models.Index(fields=['service', 'until'], name='quiet_period_by_end')],
                'constraints': [
                    models.UniqueConstraint(fields=('service', 'registration_key', 'credential', 'is_proven'), name='one_quiet_period_per_caller'),
                    models.CheckConstraint(condition=models.Q(('until__gt', models.F('started_at'))), name='quiet_period_ends_after_it_starts'),
                ],
            },
        ),
    ]
