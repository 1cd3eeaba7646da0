"""Provisioning services and their settings."""

import hashlib
import json
from typing import Any

from django.db import transaction

from enrollments.actions.access_policies import add_owner_policy
from enrollments.actions.entries import check_epoch
from enrollments.actions.hubs import add_hub_row
from enrollments.actions.validation import validate
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import changes, clean_reason, record, require_still
from enrollments.errors import ChangedMeanwhile, Invalid
from enrollments.models import LinkedHub, ProvisioningService
from enrollments.models.locks import change_lock

SETTINGS = (
    "description",
    "host_name",
    "allocation_policy",
    "symmetric_key_groups",
    "proof_of_possession",
    "shared_access_keys",
    "retry_after_seconds",
    "longest_retry_after_seconds",
    "device_registrations_per_minute",
    "registrations_per_minute",
    "attempts_kept_days",
)
# Words of the portal's own addresses, where a service of that name could not be reached.
RESERVED_NAMES = frozenset({"add"})


@transaction.atomic
def add_service(name: str, *, actor: Actor, description: str = "", reason: str = "") -> ProvisioningService:
    """Add a provisioning service with an ID scope, one built-in hub and the policy of its owner. Raises Invalid."""
    service = ProvisioningService(name=name.strip(), description=description.strip())
    if service.name in RESERVED_NAMES:
        raise Invalid({"name": [f"A service cannot be named {service.name}: choose another name."]})
    validate(service)
    service.save()
    record(
        Event.SERVICE_ADDED,
        subject=service,
        actor=actor,
        service=service,
        reason=clean_reason(reason),
        after={"name": service.name, "id_scope": service.id_scope},
    )
    add_owner_policy(service, actor=actor)
    add_hub_row(
        LinkedHub(service=service, name="built-in", host_name=f"{service.name}.hub.internal"), actor=actor
    )
    return service


def settings_version(service: ProvisioningService) -> str:
    """A name for the settings as they stand: it differs as soon as one of them does."""
    values = {name: getattr(service, name) for name in SETTINGS}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def change_settings(
    service: ProvisioningService,
    values: dict[str, Any],
    *,
    actor: Actor,
    reason: str = "",
    expected_version: str = "",
    expected_epoch: int | None = None,
) -> ProvisioningService:
    """Change settings; decisions read some of them, so this takes the lock. What stands so already changes nothing.

    expected_version: the settings_version that the change was made from; empty where nothing was read.
    Raises Invalid, ChangedMeanwhile; PreviewOutdated (see check_epoch).
    """
    if unknown := set(values) - set(SETTINGS):
        raise Invalid({"": [f"{sorted(unknown)[0]} is no setting of a service."]})
    reason = clean_reason(reason)
    with change_lock(service, raises_epoch=False):
        # Before the service is locked: whoever gives somebody a role in it locks the person first.
        require_still(actor)
        current = ProvisioningService.objects.select_for_update().get(pk=service.pk)
        if expected_version and settings_version(current) != expected_version:
            raise ChangedMeanwhile(f"The settings of {current}")
        check_epoch(service, expected_epoch)
        before = {name: getattr(current, name) for name in SETTINGS}
        for name, value in values.items():
            setattr(current, name, value)
        current.host_name = (current.host_name or "").lower() or None
        validate(current)
        was, now = changes(before, {name: getattr(current, name) for name in SETTINGS})
        if now:
            current.save(update_fields=list(SETTINGS))
            record(
                Event.SERVICE_CHANGED,
                subject=current,
                actor=actor,
                service=current,
                reason=reason,
                before=was,
                after=now,
            )
            service.raise_epoch()
    return current
