"""Attempts say which enrolled key a token proved. The version before leaves it empty."""

from django.db import migrations, models


class Migration(migrations.Migration):
    WHILE_SERVING = 'The version before leaves it empty: which key was proven at such an attempt is not known.'

    dependencies = [
        ('enrollments', '0023_previews_of_imports'),
    ]

    operations = [
        migrations.AddField(
            model_name='registrationattempt',
            name='key_id',
            field=models.CharField(blank=True, db_default='', help_text='What identifies the enrolled key that a token proved (actions/key_identifiers.py).', max_length=64),
        ),
    ]
