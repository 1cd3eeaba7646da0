"""Provisioning services and their settings; linked hubs."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import changes, clean_reason, record
from enrollments.errors import ChangedMeanwhile, Conflict, Invalid, NotFound
from enrollments.models import HubKind, LinkedHub, ProvisioningService
from enrollments.models.locks import change_lock

SETTINGS = (
    "description",
    "host_name",
    "allocation_policy",
    "symmetric_key_groups",
    "retry_after_seconds",
    "attempts_kept_days",
)
# Words of the portal's own addresses, where a service of that name could not be reached.
RESERVED_NAMES = frozenset({"add"})


@transaction.atomic
def add_service(name: str, *, actor: Actor, description: str = "", reason: str = "") -> ProvisioningService:
    """Add a provisioning service with an ID scope of its own and one built-in hub. Raises Invalid."""
    service = ProvisioningService(name=name.strip(), description=description.strip())
    if service.name in RESERVED_NAMES:
        raise Invalid({"name": [f"A service cannot be named {service.name}: choose another name."]})
    _validate(service)
    service.save()
    record(
        Event.SERVICE_ADDED,
        subject=service,
        actor=actor,
        service=service,
        reason=clean_reason(reason),
        after={"name": service.name, "id_scope": service.id_scope},
    )
    _link(LinkedHub(service=service, name="built-in", host_name=f"{service.name}.hub.internal"), actor=actor)
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
) -> ProvisioningService:
    """Change settings; decisions read some of them, so this takes the lock. Raises Invalid, ChangedMeanwhile.

    `expected_version`: the settings_version that the change was made from; empty where nothing was read.
    """
    if unknown := set(values) - set(SETTINGS):
        raise Invalid({"": [f"{sorted(unknown)[0]} is no setting of a service."]})
    reason = clean_reason(reason)
    with change_lock(service):
        current = ProvisioningService.objects.select_for_update().get(pk=service.pk)
        if expected_version and settings_version(current) != expected_version:
            raise ChangedMeanwhile(f"The settings of {current}")
        before = {name: getattr(current, name) for name in SETTINGS}
        for name, value in values.items():
            setattr(current, name, value)
        current.host_name = current.host_name or None
        _validate(current)
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
    return current


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSpec:
    name: str
    host_name: str
    allocation_weight: int = 1
    latency_ms: int = 0
    apply_allocation_policy: bool = True


def link_hub(service: ProvisioningService, spec: HubSpec, *, actor: Actor, reason: str = "") -> LinkedHub:
    """Link a built-in hub. Raises Invalid."""
    reason = clean_reason(reason)
    with change_lock(service):
        return _link(
            LinkedHub(service=service, kind=HubKind.BUILT_IN, **_hub_values(spec)), actor=actor, reason=reason
        )


def change_hub(
    service: ProvisioningService, hub_pk: int, spec: HubSpec, *, actor: Actor, reason: str = ""
) -> LinkedHub:
    """Change weight, latency or participation. Name and host name stay as devices were told. Raises Invalid."""
    reason = clean_reason(reason)
    with change_lock(service):
        hub = _hub(service, hub_pk)
        if (spec.name, spec.host_name) != (hub.name, hub.host_name):
            raise Invalid(
                {"host_name": ["Name and host name of a linked hub cannot change: link another hub."]}
            )
        before = _hub_state(hub)
        for name, value in _hub_values(spec).items():
            setattr(hub, name, value)
        _validate(hub)
        was, now = changes(before, _hub_state(hub))
        if now:
            hub.save()
            record(
                Event.HUB_CHANGED,
                subject=hub,
                actor=actor,
                service=service,
                reason=reason,
                before=was,
                after=now,
            )
    return hub


def unlink_hub(service: ProvisioningService, hub_pk: int, *, actor: Actor, reason: str = "") -> None:
    """Unlink a hub that holds no devices and no registrations. Raises Conflict, NotFound."""
    reason = clean_reason(reason)
    with change_lock(service):
        hub = _hub(service, hub_pk)
        devices, records = hub.devices.count(), hub.registrations.count()
        if devices or records:
            raise Conflict(
                f"Hub {hub} still holds {devices} device identities and {records} registration records: "
                "deprovision them first, or take the hub out of allocation."
            )
        record(
            Event.HUB_UNLINKED,
            subject=hub,
            actor=actor,
            service=service,
            reason=reason,
            before=_hub_state(hub),
        )
        hub.delete()


def _link(hub: LinkedHub, *, actor: Actor, reason: str = "") -> LinkedHub:
    _validate(hub)
    hub.save()
    record(
        Event.HUB_LINKED, subject=hub, actor=actor, service=hub.service, reason=reason, after=_hub_state(hub)
    )
    return hub


def _hub(service: ProvisioningService, pk: int) -> LinkedHub:
    try:
        return service.hubs.select_for_update().get(pk=pk)
    except LinkedHub.DoesNotExist:
        raise NotFound("There is no such hub in this service.") from None


def _hub_values(spec: HubSpec) -> dict[str, Any]:
    return {
        "name": spec.name.strip(),
        "host_name": spec.host_name.strip().lower(),
        "allocation_weight": spec.allocation_weight,
        "latency_ms": spec.latency_ms,
        "apply_allocation_policy": spec.apply_allocation_policy,
    }


def _hub_state(hub: LinkedHub) -> dict[str, Any]:
    return {
        "name": hub.name,
        "host_name": hub.host_name,
        "allocation_weight": hub.allocation_weight,
        "latency_ms": hub.latency_ms,
        "apply_allocation_policy": hub.apply_allocation_policy,
    }


def _validate(row: ProvisioningService | LinkedHub) -> None:
    try:
        row.full_clean()
    except ValidationError as problem:
        raise Invalid(
            {
                ("" if field == "__all__" else field): list(texts)
                for field, texts in problem.message_dict.items()
            }
        ) from None
