import django.db.models.deletion
import enrollments.models.enrollments
import enrollments.models.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0018_key_identifiers'),
    ]

    operations = [
        migrations.AddField(
            model_name='provisioningservice',
            name='proof_of_possession',
            field=models.BooleanField(default=False, help_text="Lets enrollment groups admit devices only where possession of their CA's key is proven (R7). Off for every new service."),
        ),
        migrations.CreateModel(
            name='CaCertificate',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='Enrollment groups refer to it, and it cannot be changed. Letters, digits and . _ - with a letter or digit first, at most 64 characters.', max_length=64)),
                ('name_key', models.CharField(editable=False, max_length=64)),
                ('subject_sha256', models.CharField(max_length=64)),
                ('spki_sha256', models.CharField(max_length=64)),
                ('code', models.CharField(blank=True, max_length=64)),
                ('code_expires_at', models.DateTimeField(null=True)),
                ('verified_at', models.DateTimeField(null=True)),
                ('etag', models.CharField(default=enrollments.models.enrollments.new_etag, max_length=80)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('certificate', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='ca_certificates', to='enrollments.certificate')),
                ('proof', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='enrollments.certificate')),
                ('service', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='ca_certificates', to='enrollments.provisioningservice')),
            ],
        ),
        migrations.AddField(
            model_name='heldcertificate',
            name='ca_certificate',
            field=models.ForeignKey(help_text='The uploaded CA certificate that the group refers to by its name, where it does.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='held', to='enrollments.cacertificate'),
        ),
        migrations.AddConstraint(
            model_name='heldcertificate',
            constraint=models.CheckConstraint(condition=models.Q(('ca_certificate__isnull', True), ('role', 'anchor'), _connector='OR'), name='only_groups_refer_to_ca_certificates'),
        ),
        migrations.AddIndex(
            model_name='cacertificate',
            index=models.Index(condition=models.Q(('verified_at__isnull', False)), fields=['service', 'spki_sha256', 'subject_sha256'], name='ca_with_proof'),
        ),
        migrations.AddIndex(
            model_name='cacertificate',
            index=models.Index(fields=['service', 'created_at', 'id'], name='ca_by_age'),
        ),
        migrations.AddConstraint(
            model_name='cacertificate',
            constraint=models.UniqueConstraint(fields=('service', 'name_key'), name='ca_name_once_per_service'),
        ),
        migrations.AddConstraint(
            model_name='cacertificate',
            constraint=models.CheckConstraint(condition=models.Q(('name_key', enrollments.models.fields.AsciiLower('name'))), name='ca_name_key_is_lower_case'),
        ),
        migrations.AddConstraint(
            model_name='cacertificate',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('code', ''), ('code_expires_at__isnull', True)), models.Q(models.Q(('code', ''), _negated=True), ('code_expires_at__isnull', False)), _connector='OR'), name='code_has_an_end'),
        ),
        migrations.AddConstraint(
            model_name='cacertificate',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('proof__isnull', True), ('verified_at__isnull', True)), models.Q(('code', ''), ('proof__isnull', False), ('verified_at__isnull', False)), _connector='OR'), name='verified_by_a_certificate'),
        ),
    ]
