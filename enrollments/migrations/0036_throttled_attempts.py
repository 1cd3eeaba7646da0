"""Devices that come too often leave attempts. The version before shows them in its list, and has no page for one."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0035_counted_while_held_off'),
    ]

    operations = [
        migrations.AlterField(
            model_name='registrationattempt',
            name='outcome',
            field=models.CharField(choices=[('assigned', 'Assigned'), ('failed', 'Failed'), ('disabled', 'Disabled'), ('refused', 'Not proven'), ('throttled', 'Throttled')], max_length=10),
        ),
    ]
