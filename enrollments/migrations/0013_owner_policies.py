from django.db import migrations
from django.utils import timezone

OWNER = 'provisioningserviceowner'
RIGHTS = [
    'EnrollmentRead', 'EnrollmentWrite', 'RegistrationStatusRead', 'RegistrationStatusWrite', 'ServiceConfig',
]


def add_owner_policies(apps, schema_editor):
    """Services from before there were access policies get the one that new services begin with."""
    services = apps.get_model('enrollments', 'ProvisioningService')
    policies = apps.get_model('enrollments', 'AccessPolicy')
    history = apps.get_model('enrollments', 'HistoryEvent')
    for service in services.objects.filter(access_policies__isnull=True).order_by('pk'):
        policy = policies.objects.create(service=service, name=OWNER, name_key=OWNER, rights=RIGHTS)
        history.objects.create(
            at=timezone.now(), event='policy.added', service_id=service.pk, service_name=service.name,
            actor_kind='cli', actor_name='migrate', way='command line', subject_kind='AccessPolicy',
            subject_id=str(policy.pk), subject_name=OWNER, reason='services begin with this policy',
            after={'name': OWNER, 'rights': RIGHTS, 'enabled': True},
        )


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0012_access_policies'),
    ]

    operations = [
        migrations.RunPython(add_owner_policies, migrations.RunPython.noop),
    ]
