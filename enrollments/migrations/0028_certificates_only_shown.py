"""Certificates say which of them were sent by devices and never enrolled. The version before enrolls them all the same."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0027_previews_worked_out_apart'),
    ]

    operations = [
        migrations.AddField(
            model_name='certificate',
            name='only_shown',
            field=models.BooleanField(db_default=False, default=False, help_text='A device sent it above its own, on no valid path, and it was never enrolled.'),
        ),
    ]
