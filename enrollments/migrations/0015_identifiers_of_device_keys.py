from cryptography import x509
from django.db import migrations

from enrollments.attestation.x509.search import computed_key_ids


def keep_those_made_from_the_key(apps, schema_editor):
    """Of devices' certificates only an identifier that is made from the key leads to it (R6)."""
    devices = apps.get_model('enrollments', 'HeldCertificate').objects.filter(role='device')
    for row in devices.exclude(subject_key_id='').select_related('certificate').iterator(chunk_size=1000):
        key = x509.load_pem_x509_certificate(row.certificate.pem.encode()).public_key()
        if row.subject_key_id not in computed_key_ids(key):
            row.subject_key_id = ''
            row.save(update_fields=['subject_key_id'])


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0014_service_api_columns'),
    ]

    operations = [
        migrations.RunPython(keep_those_made_from_the_key, migrations.RunPython.noop),
    ]
