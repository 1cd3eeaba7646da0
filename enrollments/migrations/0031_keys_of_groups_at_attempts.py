"""Attempts say whether the key that a token proved is that of a group. The version before leaves it empty."""

from django.db import migrations, models


class Migration(migrations.Migration):
    WHILE_SERVING = 'The version before leaves it empty, which says that it was not kept.'

    dependencies = [
        ('enrollments', '0030_history_takes_what_belongs'),
    ]

    operations = [
        migrations.AddField(
            model_name='registrationattempt',
            name='key_of_group',
            field=models.BooleanField(help_text='Whether that is the key of a group, from which the device has its own; empty if that was not kept.', null=True),
        ),
    ]
