"""Certificates say which of them were sent by devices and never enrolled. The version before enrolls them all the same."""

from django.db import migrations, models


class Migration(migrations.Migration):
    WHILE_SERVING = (
        'What the version before stores counts as enrolled, and is not forgotten. What it enrolls, after this version has '
        'stored it as only sent, goes on counting as that: once no entry has it any more, it is forgotten.'
    )

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
