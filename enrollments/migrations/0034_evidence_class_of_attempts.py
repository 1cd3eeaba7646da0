"""Attempts keep the class of their evidence, as records do. The version before leaves it empty."""

from django.db import migrations, models


class Migration(migrations.Migration):
    WHILE_SERVING = 'The version before leaves it empty, and then each of these certificates is looked at by itself.'

    dependencies = [
        ('enrollments', '0033_agreed_on'),
    ]

    operations = [
        migrations.AddField(
            model_name='registrationattempt',
            name='evidence_class',
            field=models.CharField(blank=True, db_default='', help_text='That of what is kept of the certificates (actions/evidence.py); empty if that was not noted.', max_length=64),
        ),
    ]
