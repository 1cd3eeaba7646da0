import hashlib
import hmac

import enrollments.models.enrollments
import enrollments.models.fields
from django.db import migrations, models
from enrollments.attestation.symmetric_key import derive_device_key, key_bytes
from enrollments.errors import SecretUnreadable
from enrollments.models.fields import current_key_name, fingerprint

BATCH = 1000


def identify_keys(apps, schema_editor):
    """Each key that is enrolled gets its identifier, and each record that of the key which its device proved.

    What cannot be decrypted stays without one; what depends on it is then not known when somebody asks for the past.
    """
    secret = apps.get_model('enrollments', 'KeyIdentifierSecret').objects.create(pk=1).secret.encode()

    def identifier(key):
        return hmac.digest(secret, key, hashlib.sha256).hex()[:32]

    individuals, groups = {}, {}
    for name, identified in (('IndividualEnrollment', individuals), ('EnrollmentGroup', groups)):
        entries = apps.get_model('enrollments', name).objects
        for pk in list(entries.filter(mechanism='symmetricKey').values_list('pk', flat=True)):
            try:
                entry = entries.only('primary_key', 'secondary_key').get(pk=pk)
                keys = entry.primary_key, entry.secondary_key
            except SecretUnreadable:
                continue
            ids = [identifier(key_bytes(key)) for key in keys]
            entries.filter(pk=pk).update(primary_key_id=ids[0], secondary_key_id=ids[1])
            identified.update((fingerprint(key), (key, one)) for key, one in zip(keys, ids, strict=True))
    tpms = apps.get_model('enrollments', 'IndividualEnrollment').objects.filter(mechanism='tpm')
    for row in tpms.only('endorsement_key').iterator(chunk_size=BATCH):
        key = bytes(row.endorsement_key)
        individuals[fingerprint(key.hex())] = (None, hashlib.sha256(key).hexdigest())
    records = apps.get_model('enrollments', 'RegistrationRecord').objects
    proven = records.filter(key_fingerprint__startswith=current_key_name())
    batch = []
    for record in proven.only('registration_id', 'key_fingerprint', 'group_id', 'owner_group_id').iterator(chunk_size=BATCH):
        if (record.group_id or record.owner_group_id) and record.key_fingerprint in groups:
            key, one = groups[record.key_fingerprint]
            own = identifier(derive_device_key(key_bytes(key), record.registration_id))
            record.key_ids = ' '.join(sorted({own, f'group:{one}'}))
        elif record.key_fingerprint in individuals:
            record.key_ids = individuals[record.key_fingerprint][1]
        else:
            continue
        batch.append(record)
    records.bulk_update(batch, ['key_ids'], batch_size=BATCH)


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0017_history_pages'),
    ]

    operations = [
        migrations.AddField(
            model_name='enrollmentgroup',
            name='primary_key_id',
            field=models.CharField(blank=True, help_text='Identifies the key, and tells nothing about it.', max_length=32),
        ),
        migrations.AddField(
            model_name='enrollmentgroup',
            name='secondary_key_id',
            field=models.CharField(blank=True, max_length=32),
        ),
        migrations.AddField(
            model_name='individualenrollment',
            name='primary_key_id',
            field=models.CharField(blank=True, help_text='Identifies the key, and tells nothing about it.', max_length=32),
        ),
        migrations.AddField(
            model_name='individualenrollment',
            name='secondary_key_id',
            field=models.CharField(blank=True, max_length=32),
        ),
        migrations.AddField(
            model_name='registrationrecord',
            name='key_ids',
            field=models.CharField(blank=True, help_text='What identifies the key that was proven, and outlives it (actions/key_identifiers.py).', max_length=120),
        ),
        migrations.CreateModel(
            name='KeyIdentifierSecret',
            fields=[
                ('id', models.PositiveSmallIntegerField(default=1, editable=False, primary_key=True, serialize=False)),
                ('secret', enrollments.models.fields.EncryptedTextField(default=enrollments.models.enrollments.new_symmetric_key)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('id', 1)), name='one_secret_for_key_identifiers')],
            },
        ),
        migrations.RunPython(identify_keys, migrations.RunPython.noop),
    ]
