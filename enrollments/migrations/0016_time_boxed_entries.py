from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0015_identifiers_of_device_keys'),
    ]

    operations = [
        migrations.AddField(
            model_name='enrollmentgroup',
            name='schedule_reason',
            field=models.CharField(blank=True, max_length=500),
        ),
        migrations.AddField(
            model_name='enrollmentgroup',
            name='scheduled_by',
            field=models.CharField(blank=True, help_text='Who wanted that; the name is frozen, for the history.', max_length=150),
        ),
        migrations.AddField(
            model_name='enrollmentgroup',
            name='switches_at',
            field=models.DateTimeField(help_text="When the switch turns, once, by the database's clock. Empty: when somebody turns it.", null=True),
        ),
        migrations.AddField(
            model_name='individualenrollment',
            name='schedule_reason',
            field=models.CharField(blank=True, max_length=500),
        ),
        migrations.AddField(
            model_name='individualenrollment',
            name='scheduled_by',
            field=models.CharField(blank=True, help_text='Who wanted that; the name is frozen, for the history.', max_length=150),
        ),
        migrations.AddField(
            model_name='individualenrollment',
            name='switches_at',
            field=models.DateTimeField(help_text="When the switch turns, once, by the database's clock. Empty: when somebody turns it.", null=True),
        ),
        migrations.AddIndex(
            model_name='enrollmentgroup',
            index=models.Index(condition=models.Q(('switches_at__isnull', False)), fields=['service', 'switches_at'], name='group_by_switch'),
        ),
        migrations.AddIndex(
            model_name='individualenrollment',
            index=models.Index(condition=models.Q(('switches_at__isnull', False)), fields=['service', 'switches_at'], name='individual_by_switch'),
        ),
        migrations.AddConstraint(
            model_name='enrollmentgroup',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('schedule_reason', ''), ('scheduled_by', ''), ('switches_at__isnull', True)), models.Q(('switches_at__isnull', False), models.Q(('scheduled_by', ''), _negated=True)), _connector='OR'), name='group_schedule_is_whole'),
        ),
        migrations.AddConstraint(
            model_name='individualenrollment',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('schedule_reason', ''), ('scheduled_by', ''), ('switches_at__isnull', True)), models.Q(('switches_at__isnull', False), models.Q(('scheduled_by', ''), _negated=True)), _connector='OR'), name='individual_schedule_is_whole'),
        ),
    ]
