"""Device identities at built-in hubs: disclosing their keys. Linking hubs is among the services' actions."""

from django.db import transaction

from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import clean_reason, record
from enrollments.errors import NotFound
from enrollments.models import HubDevice, ProvisioningService


@transaction.atomic
def reveal_device_keys(
    service: ProvisioningService, device: HubDevice, *, actor: Actor, reason: str = ""
) -> tuple[str, str]:
    """The keys of a device identity, after recording who looks (R17). Raises NotFound where it holds none."""
    if device.hub.service_id != service.pk or not device.primary_key:
        raise NotFound(f"Device {device.device_id} proves itself by a certificate: it has no keys to show.")
    record(Event.KEYS_REVEALED, subject=device, actor=actor, service=service, reason=clean_reason(reason))
    return device.primary_key, device.secondary_key
