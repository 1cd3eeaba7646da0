"""Devices that come too often leave attempts. The version before shows them in its list, and has no page for one."""

from django.db import migrations, models


class Migration(migrations.Migration):
    WHILE_SERVING = (
        'Nothing changes in the database. The version before shows such attempts in its list; the page and the explanation '
        'of one fail there, as does the explanation of a name whose latest attempt it is.'
    )

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
