"""Linked hubs: link, change, unlink; and disclosing the keys of their device identities."""

from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from enrollments.actions.validation import validate
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import changes, clean_reason, record, require_still
from enrollments.errors import Conflict, Invalid, NotFound
from enrollments.models import HubDevice, HubKind, LinkedHub, ProvisioningService
from enrollments.models.locks import change_lock
from enrollments.policy.words import counted

MAX_NAMES = 5


@transaction.atomic
def reveal_device_keys(
    service: ProvisioningService, device: HubDevice, *, actor: Actor, reason: str = ""
) -> tuple[str, str]:
    """The keys of a device identity, after recording who looks (R17). Raises NotFound where it holds none."""
    if device.hub.service_id != service.pk or not device.primary_key:
        raise NotFound(f"Device {device.device_id} proves itself by a certificate: it has no keys to show.")
    record(Event.KEYS_REVEALED, subject=device, actor=actor, service=service, reason=clean_reason(reason))
    return device.primary_key, device.secondary_key


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSpec:
    name: str
    host_name: str
    allocation_weight: int = 1
    latency_ms: int = 0
    region_latencies: dict[str, int] = field(default_factory=dict)
    apply_allocation_policy: bool = True


def link_hub(service: ProvisioningService, spec: HubSpec, *, actor: Actor, reason: str = "") -> LinkedHub:
    """Link a built-in hub. Raises Invalid."""
    reason = clean_reason(reason)
    with change_lock(service):
        return add_hub_row(
            LinkedHub(service=service, kind=HubKind.BUILT_IN, **_hub_values(spec)), actor=actor, reason=reason
        )


def change_hub(
    service: ProvisioningService, hub_pk: int, spec: HubSpec, *, actor: Actor, reason: str = ""
) -> LinkedHub:
    """Change weight, latency or participation. Name and host name stay as devices were told. Raises Invalid."""
    reason = clean_reason(reason)
    with change_lock(service):
        require_still(actor)
        hub = _hub(service, hub_pk)
        if (spec.name, spec.host_name) != (hub.name, hub.host_name):
            raise Invalid(
                {"host_name": ["Name and host name of a linked hub cannot change: link another hub."]}
            )
        before = _hub_state(hub)
        for name, value in _hub_values(spec).items():
            setattr(hub, name, value)
        validate(hub)
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
            identities = "1 device identity" if devices == 1 else f"{devices:,} device identities"
            raise Conflict(
                f"Hub {hub} still holds {identities} and {counted(records, 'registration record')}: "
                "deprovision them first, or take the hub out of allocation."
            )
        if naming := _entries_naming(hub):
            # Without it an entry would name no hub, and that means all of them.
            raise Conflict(
                f"Hub {hub} is chosen by {', '.join(naming[:MAX_NAMES])}{' and others' * (len(naming) > MAX_NAMES)}: "
                "choose another hub there first."
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


def add_hub_row(hub: LinkedHub, *, actor: Actor, reason: str = "") -> LinkedHub:
    validate(hub)
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
        "region_latencies": spec.region_latencies,
        "apply_allocation_policy": spec.apply_allocation_policy,
    }


def _hub_state(hub: LinkedHub) -> dict[str, Any]:
    return {
        "name": hub.name,
        "host_name": hub.host_name,
        "allocation_weight": hub.allocation_weight,
        "latency_ms": hub.latency_ms,
        "region_latencies": hub.region_latencies,
        "apply_allocation_policy": hub.apply_allocation_policy,
    }


def _entries_naming(hub: LinkedHub) -> list[str]:
    """The first entries that choose this hub, one more than are named."""
    groups = hub.service.enrollmentgroups.filter(hubs=hub).values_list("group_id", flat=True)
    individuals = hub.service.individualenrollments.filter(hubs=hub).values_list("registration_id", flat=True)
    return [*(f"group {name}" for name in groups[: MAX_NAMES + 1]), *individuals[: MAX_NAMES + 1]]
