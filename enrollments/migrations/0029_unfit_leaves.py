"""Records of devices whose leaves can stand on no path are of a class of evidence of their own."""

from ssl import PEM_cert_to_DER_cert

from django.db import migrations
from django.db.models import Q

from enrollments.attestation.x509 import can_end_a_path, parse_der

PORTION = 1000


def divide_classes(apps, schema_editor):
    """Each by itself: nobody waits for long, and what was interrupted goes on. Who is classified anew is left alone."""
    evidence = apps.get_model('enrollments', 'RegistrationEvidence').objects.filter(position=0)
    records = apps.get_model('enrollments', 'RegistrationRecord').objects
    signed = ~Q(registration__evidence_class='') & ~Q(registration__evidence_class__startswith='?')
    signed &= ~Q(registration__evidence_class__startswith='!')
    last = 0
    while rows := list(
        evidence.filter(signed, pk__gt=last)
        .order_by('pk')
        .values_list('pk', 'registration', 'registration__evidence_class', 'certificate__pem')[:PORTION]
    ):
        for last, record, former, pem in rows:
            if not can_end_a_path(parse_der(PEM_cert_to_DER_cert(pem))):
                records.filter(pk=record, evidence_class=former).update(evidence_class=f'!{former[1:]}')


class Migration(migrations.Migration):
    atomic = False
    WHILE_SERVING = (
        'One row is changed at a time, and only those of devices whose leaves no group could admit. What the version '
        'before classifies meanwhile is classified anew when that device registers again.'
    )

    dependencies = [
        ('enrollments', '0028_certificates_only_shown'),
    ]

    operations = [
        migrations.RunPython(divide_classes, migrations.RunPython.noop, elidable=True),
    ]
