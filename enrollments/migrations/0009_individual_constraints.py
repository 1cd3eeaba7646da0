"""What only save() held, the database holds: keys are those of the names, and an X.509 entry has no symmetric key."""

import enrollments.models.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0008_record_evidence_class'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='individualenrollment',
            name='individual_has_credential_of_its_mechanism',
        ),
        migrations.AddConstraint(
            model_name='enrollmentgroup',
            constraint=models.CheckConstraint(condition=models.Q(('group_key', enrollments.models.fields.AsciiLower('group_id'))), name='group_key_is_lower_case'),
        ),
        migrations.AddConstraint(
            model_name='individualenrollment',
            constraint=models.CheckConstraint(condition=models.Q(('registration_key', enrollments.models.fields.AsciiLower('registration_id'))), name='registration_key_is_lower_case'),
        ),
        migrations.AddConstraint(
            model_name='individualenrollment',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('endorsement_key__isnull', True), ('mechanism', 'x509'), ('primary_key', ''), ('secondary_key', '')), models.Q(('endorsement_key__isnull', True), ('mechanism', 'symmetricKey'), models.Q(('primary_key', ''), _negated=True), models.Q(('secondary_key', ''), _negated=True)), models.Q(('endorsement_key__isnull', False), ('mechanism', 'tpm'), ('primary_key', ''), ('secondary_key', '')), _connector='OR'), name='individual_has_credential_of_its_mechanism'),
        ),
        migrations.AddConstraint(
            model_name='registrationrecord',
            constraint=models.CheckConstraint(condition=models.Q(('registration_key', enrollments.models.fields.AsciiLower('registration_id'))), name='record_key_is_lower_case'),
        ),
    ]
