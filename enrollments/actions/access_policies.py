"""Access policies: add, change, disable, delete; their keys. In force from the moment of the answer (R12)."""

from collections.abc import Iterable
from typing import Any, Literal

from django.db import transaction

from enrollments.actions.validation import validate
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import changes, clean_reason, record, require_still
from enrollments.errors import ChangedMeanwhile, Conflict, Invalid, NotFound
from enrollments.models import AccessPolicy, ProvisioningService
from enrollments.models.access import OWNER_POLICY, policy_key
from enrollments.models.enrollments import new_etag, new_symmetric_key
from enrollments.models.locks import change_lock
from enrollments.policy.access import AccessRight

MAX_POLICIES = 50

Which = Literal["primary", "secondary"]


class PolicyNotFound(NotFound):
    code = "policy_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no access policy {name[:64]} in this service.")


def add_owner_policy(service: ProvisioningService, *, actor: Actor) -> AccessPolicy:
    """The policy with all rights that every service begins with. Inside the transaction that adds the service."""
    return _add(service, OWNER_POLICY, frozenset(AccessRight), actor=actor, reason="")


def add_policy(
    service: ProvisioningService,
    name: str,
    rights: Iterable[AccessRight],
    *,
    actor: Actor,
    reason: str = "",
) -> AccessPolicy:
    """Add a policy with two new keys, which the caller may show this once. Raises Invalid."""
    rights, reason = _some(rights), clean_reason(reason)
    with change_lock(service, raises_epoch=False):
        if service.access_policies.count() >= MAX_POLICIES:
            raise Invalid({"name": [f"A service has at most {MAX_POLICIES} access policies."]})
        return _add(service, name.strip(), rights, actor=actor, reason=reason)


def change_policy(
    service: ProvisioningService,
    name: str,
    *,
    rights: Iterable[AccessRight],
    enabled: bool,
    expected_etag: str,
    actor: Actor,
    reason: str = "",
) -> AccessPolicy:
    """Change what a policy opens, or switch it. Raises Invalid, PolicyNotFound, ChangedMeanwhile."""
    rights, reason = _some(rights), clean_reason(reason)
    with change_lock(service, raises_epoch=False):
        require_still(actor)
        policy = _get(service, name)
        if policy.etag != expected_etag:
            raise ChangedMeanwhile(f"Access policy {policy}")
        before = _state(policy)
        policy.rights, policy.enabled = sorted(rights), enabled
        was, now = changes(before, _state(policy))
        if now:
            policy.etag = new_etag()
            policy.save(update_fields=["rights", "enabled", "etag", "updated_at"])
            event = Event.POLICY_CHANGED
            if "enabled" in now:
                event = Event.POLICY_ENABLED if enabled else Event.POLICY_DISABLED
            record(event, subject=policy, actor=actor, service=service, reason=reason, before=was, after=now)
    return policy


def disable_policy(
    service: ProvisioningService, name: str, *, actor: Actor, reason: str = ""
) -> tuple[AccessPolicy, bool]:
    """Shut out whoever uses its keys; whether that changed anything. Raises PolicyNotFound."""
    reason = clean_reason(reason)
    with change_lock(service, raises_epoch=False):
        policy = _get(service, name)
        if not policy.enabled:
            require_still(actor)
            return policy, False
        policy.enabled, policy.etag = False, new_etag()
        policy.save(update_fields=["enabled", "etag", "updated_at"])
        record(
            Event.POLICY_DISABLED,
            subject=policy,
            actor=actor,
            service=service,
            reason=reason,
            before={"enabled": True},
            after={"enabled": False},
        )
    return policy, True


def delete_policy(service: ProvisioningService, name: str, *, actor: Actor, reason: str = "") -> None:
    """Delete a policy that is disabled: what still uses it shows before. Raises PolicyNotFound, Conflict."""
    reason = clean_reason(reason)
    with change_lock(service, raises_epoch=False):
        policy = _get(service, name)
        if policy.enabled:
            raise Conflict(
                f"Access policy {policy} is enabled: disable it first, and see whether anybody misses it."
            )
        record(
            Event.POLICY_DELETED,
            subject=policy,
            actor=actor,
            service=service,
            reason=reason,
            before=_state(policy),
        )
        policy.delete()


def regenerate_policy_key(
    service: ProvisioningService, name: str, which: Which, *, actor: Actor, reason: str = ""
) -> tuple[AccessPolicy, str]:
    """Replace one key; the other goes on working. The new one, for the caller to show this once.

    Raises PolicyNotFound.
    """
    reason, key = clean_reason(reason), new_symmetric_key()
    with change_lock(service, raises_epoch=False):
        policy = _get(service, name)
        column = f"{which}_key"
        setattr(policy, column, key)
        policy.etag = new_etag()
        policy.save(update_fields=[column, "etag", "updated_at"])
        record(
            Event.POLICY_KEY_REGENERATED,
            subject=policy,
            actor=actor,
            service=service,
            reason=reason,
            before={column: "(a key)"},
            after={column: "(another key)"},
        )
    return policy, key


@transaction.atomic
def reveal_policy_keys(
    service: ProvisioningService, name: str, *, actor: Actor, reason: str = ""
) -> tuple[AccessPolicy, str, str]:
    """A policy with its two keys, after recording who looks (R17). Raises PolicyNotFound."""
    policy = _get(service, name)
    record(Event.KEYS_REVEALED, subject=policy, actor=actor, service=service, reason=clean_reason(reason))
    return policy, policy.primary_key, policy.secondary_key


def policy_to_connect_by(service: ProvisioningService) -> AccessPolicy | None:
    """Whose key goes into a connection string: the first by name that is enabled and has all rights, if keys count."""
    if not service.shared_access_keys:
        return None
    enabled = service.access_policies.filter(enabled=True).defer("primary_key", "secondary_key")
    return next((one for one in enabled if one.access_rights == frozenset(AccessRight)), None)


def _add(
    service: ProvisioningService, name: str, rights: frozenset[AccessRight], *, actor: Actor, reason: str
) -> AccessPolicy:
    policy = AccessPolicy(service=service, name=name, rights=sorted(rights))
    policy.name_key = policy_key(name)[
        :64
    ]  # `save` sets it; what is wrong with a name is told of the name alone
    validate(policy)
    policy.save()
    record(
        Event.POLICY_ADDED,
        subject=policy,
        actor=actor,
        service=service,
        reason=reason,
        after=_state(policy),
    )
    return policy


def _some(rights: Iterable[AccessRight]) -> frozenset[AccessRight]:
    chosen = frozenset(rights)
    if not chosen:
        raise Invalid({"rights": ["Choose at least one right: a policy without any opens nothing."]})
    return chosen


def _get(service: ProvisioningService, name: str) -> AccessPolicy:
    # R16: disabling works without the key that decrypts the policy's keys.
    policies = service.access_policies.select_for_update().defer("primary_key", "secondary_key")
    try:
        return policies.get(name_key=policy_key(name))
    except AccessPolicy.DoesNotExist:
        raise PolicyNotFound(name) from None


def _state(policy: AccessPolicy) -> dict[str, Any]:
    return {"name": policy.name, "rights": sorted(policy.rights), "enabled": policy.enabled}
