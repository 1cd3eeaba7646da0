"""Sign-ins that are tried while held off are counted too. The version before counts none, and says no last time."""

from django.db import migrations, models


class Migration(migrations.Migration):
    WHILE_SERVING = 'The version before leaves both out: it counts none that are held off, and no last time.'

    dependencies = [
        ('enrollments', '0034_evidence_class_of_attempts'),
    ]

    operations = [
        migrations.AddField(
            model_name='signinfailures',
            name='held_off',
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='signinfailures',
            name='last_at',
            field=models.DateTimeField(null=True),
        ),
    ]
