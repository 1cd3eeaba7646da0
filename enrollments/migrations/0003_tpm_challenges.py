import django.db.models.deletion
import enrollments.models.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0002_history_is_final'),
    ]

    operations = [
        migrations.CreateModel(
            name='TpmChallenges',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('endorsement_key_sha256', models.CharField(max_length=64)),
                ('pending_secret', enrollments.models.fields.EncryptedTextField()),
                ('pending_since', models.DateTimeField()),
                ('former_secret', enrollments.models.fields.EncryptedTextField(blank=True, default='')),
                ('former_until', models.DateTimeField(null=True)),
                ('recent_storage_root_keys', models.JSONField(default=list, help_text='Who named which in the latest challenges: pairs of source and base64, newest first.')),
                ('proven_key', enrollments.models.fields.EncryptedTextField(blank=True, default='')),
                ('proven_at', models.DateTimeField(null=True)),
                ('proven_storage_root_key', models.BinaryField(null=True)),
                ('hub_key', enrollments.models.fields.EncryptedTextField(blank=True, default='', help_text='What the device was given to sign the tokens for its hub with.')),
            ],
        ),
        migrations.AddField(
            model_name='tpmchallenges',
            name='individual',
            field=models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='tpm_challenges', to='enrollments.individualenrollment'),
        ),
    ]
