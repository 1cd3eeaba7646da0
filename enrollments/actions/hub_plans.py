"""What is to be done at which hub for a device that is admitted: its identity there, with keys and twin (R10)."""

import base64
from dataclasses import replace

from enrollments.actions.allocation import Choice
from enrollments.actions.hub_moves import HubMove
from enrollments.actions.judging import Judgement
from enrollments.actions.tpm_challenges import hub_key_of
from enrollments.attestation.symmetric_key import derive_device_key, key_bytes
from enrollments.hubs import DeviceIdentity, connector_of
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    LinkedHub,
    RegistrationRecord,
)
from enrollments.policy.allocation import HubFacts
from enrollments.policy.reprovisioning import Assignment, Plan, ReprovisioningPolicy, Twin, plan_assignment

Entry = IndividualEnrollment | EnrollmentGroup


def plan_of(
    record: RegistrationRecord, entry: Entry, hub: HubFacts | None, *, identity_exists: bool
) -> Plan | None:
    policy = ReprovisioningPolicy(entry.reprovisioning_policy)
    device_id = entry.device_id if isinstance(entry, IndividualEnrollment) else ""
    current = Assignment(record.hub_id, record.device_id) if record.hub_id else None
    if hub is not None:
        target = Assignment(hub.pk, device_id or record.registration_id)
    elif policy is ReprovisioningPolicy.NEVER and current is not None:
        target = current  # it stays where it is, whatever there is to choose from
    else:
        return None
    return plan_assignment(policy, current, target, identity_exists=identity_exists)


def at_its_hub(record: RegistrationRecord) -> tuple[bool, DeviceIdentity | None]:
    """Whether the hub of the record knows the device, and what it holds of it.

    Only our own hubs are asked inside a transaction; of others the last answer counts.
    """
    if record.hub is None or not connector_of(record.hub).transactional:
        return True, None
    held = connector_of(record.hub).held(record.hub, record.device_id, record.registration_key)
    return held is not None, held


def move_of(
    record: RegistrationRecord,
    entry: Entry,
    plan: Plan,
    judgement: Judgement,
    choice: Choice | None,
    held: DeviceIdentity | None,
) -> HubMove:
    answer = choice.answer if choice is not None else None
    record.returned_payload = answer.payload if answer is not None else None
    if answer is not None and answer.initial_twin is not None and plan.twin is Twin.MIGRATE:
        plan = replace(
            plan, twin=Twin.INITIAL
        )  # contract 7.3: the webhook's twin comes before what would move along
    twin = None
    if plan.twin is not Twin.KEEP:
        twin = answer.initial_twin if answer is not None else None
        twin = entry.initial_twin if twin is None else twin
    primary, secondary = _keys_at_hub(entry, plan, judgement)
    hub = record.hub
    if hub is None or hub.pk != plan.assignment.hub:
        hub = LinkedHub.objects.get(pk=plan.assignment.hub)
    identity = DeviceIdentity(
        device_id=plan.assignment.device_id,
        registration_key=record.registration_key,
        thumbprint_sha256=judgement.leaf_thumbprint,
        primary_key=primary,
        secondary_key=secondary,
        iot_edge=entry.iot_edge,
        twin=twin,
    )
    return HubMove(
        plan,
        identity,
        hub,
        record.hub if plan.leaves else None,
        is_new=plan.twin is not Twin.KEEP,
        # Of another hub it says nothing.
        held=held if hub.pk == record.hub_id else None,
    )


def _keys_at_hub(entry: Entry, plan: Plan, judgement: Judgement) -> tuple[str, str]:
    """What the device signs its tokens to the hub with: its own keys, derived ones, or one that its TPM is given."""
    if isinstance(entry, IndividualEnrollment) and entry.mechanism == AttestationMechanism.TPM:
        return hub_key_of(entry, is_new=plan.twin is not Twin.KEEP), ""
    if isinstance(entry, EnrollmentGroup) and entry.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        # Over the ID as the device spells it, which is what it derived its key from (contract 2.2).
        name = judgement.facts.claimed_registration_id
        keys = [derive_device_key(key_bytes(key), name) for key in (entry.primary_key, entry.secondary_key)]
        return base64.b64encode(keys[0]).decode(), base64.b64encode(keys[1]).decode()
    return entry.primary_key, entry.secondary_key
