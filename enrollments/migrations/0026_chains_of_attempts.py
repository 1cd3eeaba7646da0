"""Attempts say which certificates above the leaf are kept as evidence. The version before leaves it empty."""

from django.db import migrations, models


class Migration(migrations.Migration):
    WHILE_SERVING = 'The version before leaves it empty, and then no chain is drawn of the attempt.'

    dependencies = [
        ('enrollments', '0025_history_shut_outs'),
    ]

    operations = [
        migrations.AddField(
            model_name='registrationattempt',
            name='chain',
            field=models.TextField(blank=True, db_default='', help_text='SHA-256 thumbprints of what is kept above the leaf, of who proved itself by a certificate.'),
        ),
    ]
