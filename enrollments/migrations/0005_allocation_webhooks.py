import enrollments.models.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0004_groups_with_keys'),
    ]

    operations = [
        migrations.AddField(
            model_name='enrollmentgroup',
            name='webhook_api_version',
            field=models.CharField(blank=True, max_length=30),
        ),
        migrations.AddField(
            model_name='enrollmentgroup',
            name='webhook_query',
            field=enrollments.models.fields.EncryptedTextField(blank=True, default='', help_text="The query of the webhook's URL, which may hold a key."),
        ),
        migrations.AddField(
            model_name='enrollmentgroup',
            name='webhook_url',
            field=models.CharField(blank=True, help_text='For the policy custom; without its query.', max_length=1000),
        ),
        migrations.AddField(
            model_name='individualenrollment',
            name='webhook_api_version',
            field=models.CharField(blank=True, max_length=30),
        ),
        migrations.AddField(
            model_name='individualenrollment',
            name='webhook_query',
            field=enrollments.models.fields.EncryptedTextField(blank=True, default='', help_text="The query of the webhook's URL, which may hold a key."),
        ),
        migrations.AddField(
            model_name='individualenrollment',
            name='webhook_url',
            field=models.CharField(blank=True, help_text='For the policy custom; without its query.', max_length=1000),
        ),
        migrations.AddField(
            model_name='linkedhub',
            name='region_latencies',
            field=models.JSONField(blank=True, default=dict, help_text='Latency in milliseconds by region, for devices that name theirs in the payload.'),
        ),
        migrations.AddField(
            model_name='registrationrecord',
            name='returned_payload',
            field=models.JSONField(help_text='What the allocation webhook gave for the device.', null=True),
        ),
        migrations.AlterField(
            model_name='enrollmentgroup',
            name='allocation_policy',
            field=models.CharField(blank=True, choices=[('hashed', 'Evenly weighted'), ('geoLatency', 'Lowest latency'), ('static', 'Static'), ('custom', 'Custom (webhook)')], help_text='Empty: the policy of the service.', max_length=20),
        ),
        migrations.AlterField(
            model_name='individualenrollment',
            name='allocation_policy',
            field=models.CharField(blank=True, choices=[('hashed', 'Evenly weighted'), ('geoLatency', 'Lowest latency'), ('static', 'Static'), ('custom', 'Custom (webhook)')], help_text='Empty: the policy of the service.', max_length=20),
        ),
        migrations.AddConstraint(
            model_name='enrollmentgroup',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('allocation_policy', 'custom'), _negated=True), models.Q(('webhook_url', ''), _negated=True), _connector='OR'), name='group_with_custom_policy_has_webhook'),
        ),
        migrations.AddConstraint(
            model_name='individualenrollment',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('allocation_policy', 'custom'), _negated=True), models.Q(('webhook_url', ''), _negated=True), _connector='OR'), name='individual_with_custom_policy_has_webhook'),
        ),
    ]
