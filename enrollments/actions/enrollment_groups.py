"""Enrollment groups: add, change, disable, enable, delete. Each is the same act from every door."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from django.db import transaction

from enrollments.actions.entries import (
    REHEARSAL,
    AlreadyEnrolled,
    EnrollmentGroupNotFound,
    check_epoch,
    delete_all,
    held,
    write_common,
)
from enrollments.actions.entry_snapshots import happened, note_told_keys, snapshot, written
from enrollments.actions.entry_switches import cancel_schedule, disable_entry, set_enabled
from enrollments.actions.group_specs import Ca, GroupSpec, check_group
from enrollments.actions.judging import group_ref
from enrollments.actions.outcomes import Outcome, outcome_of
from enrollments.actions.schedule import settle_entry
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import clean_reason, record, record_all, require_still
from enrollments.errors import ChangedMeanwhile, Invalid, NotFound
from enrollments.models import (
    AttestationMechanism,
    CaCertificate,
    Certificate,
    EnrollmentGroup,
    HeldRole,
    ProvisioningService,
    Slot,
    TrustAnchor,
)
from enrollments.models.locks import change_lock, rehearsal
from enrollments.policy.names import registration_key, same_registration_id

# The contract (8) has the same number. Each costs two HMACs for every token of a device without an enrollment.
MAX_GROUPS_WITH_KEYS = 100


def add_enrollment_group(
    service: ProvisioningService,
    spec: GroupSpec,
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
    tells_keys: bool = False,
) -> EnrollmentGroup:
    """Enroll a CA: all devices below it, or, disabled from the start, none of them (R7).

    tells_keys: the caller is about to tell keys that are made here, on record.
    Raises Invalid, AlreadyEnrolled; PreviewOutdated (see check_epoch).
    """
    check_group(service, spec)
    reason = clean_reason(reason)
    with change_lock(service):
        check_epoch(service, expected_epoch)
        group = EnrollmentGroup(service=service)
        _refuse_keys_where_switched_off(service, spec, group)
        _write(group, spec, actor=actor, reason=reason)
        event = Event.GROUP_ADDED if group.enabled else Event.GROUP_ADDED_DISABLED
        added = happened(event, group, spec, None, snapshot(group))
        record_all([added], actor=actor, service=service, reason=reason)
        if tells_keys:
            note_told_keys(service, group, spec, actor=actor)
    return group


def change_enrollment_group(
    service: ProvisioningService,
    group_id: str,
    spec: GroupSpec,
    *,
    expected_etag: str,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
) -> EnrollmentGroup:
    """Make a group what the spec says, if it is still what the caller saw.

    Where it is so already nothing changes: no row, no etag, no epoch. Raises Invalid, AlreadyEnrolled,
    EnrollmentGroupNotFound, ChangedMeanwhile; PreviewOutdated (see check_epoch).
    The group ID cannot change.
    """
    if spec.group_id and not same_registration_id(spec.group_id, group_id):
        raise Invalid({"group_id": ["The ID of a group cannot change: add another group."]})
    spec, reason = replace(spec, group_id=group_id), clean_reason(reason)
    check_group(service, spec)
    with change_lock(service, raises_epoch=False):
        group = _get(service, group_id)
        # What was due before this change stands before it in the history, and the caller has not seen it.
        settle_entry(service, group, ProvisioningService.epoch_and_time(service.pk)[1])
        if group.etag != expected_etag:
            raise ChangedMeanwhile(f"Enrollment group {group}")
        check_epoch(service, expected_epoch)
        if spec.predecessor is not None and spec.predecessor.pk == group.pk:
            raise Invalid({"predecessor": ["A group cannot be its own predecessor."]})
        _refuse_keys_where_switched_off(service, spec, group)
        was_enabled = group.enabled
        spec = replace(spec, group_id=group.group_id)
        was, now = written(group, lambda: _write(group, spec, actor=actor, reason=reason))
        if not (was or now):
            require_still(actor)
            return _get(service, group_id)
        event = Event.GROUP_CHANGED
        if was_enabled != group.enabled:
            event = Event.GROUP_ENABLED if group.enabled else Event.GROUP_DISABLED
        record_all([happened(event, group, spec, was, now)], actor=actor, service=service, reason=reason)
        service.raise_epoch()
    return group


def foresee_group(service: ProvisioningService, spec: GroupSpec, current: EnrollmentGroup | None) -> Outcome:
    """What adding this, or changing `current` to it, would do as things stand: it is done, and taken back.

    Raises what the two raise.
    """
    with rehearsal():
        if current is None:
            group = add_enrollment_group(service, spec, actor=REHEARSAL)
            return outcome_of(None, group, changed=True)
        group = change_enrollment_group(
            service, current.group_id, spec, expected_etag=current.etag, actor=REHEARSAL
        )
        return outcome_of(current, group, changed=group.etag != current.etag)


def disable_enrollment_group(
    service: ProvisioningService,
    group_id: str,
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
    until: datetime | None = None,
    at: datetime | None = None,
) -> EnrollmentGroup:
    """Bar a CA and every chain through its key (R7). Disabling twice changes nothing and records nothing.

    until: it is enabled again then, unless somebody sets its switch before. at: it stays as it is until then.
    Raises Invalid for times that cannot be scheduled, and Conflict; PreviewOutdated (see set_enabled) where it is
    disabled already and would be enabled earlier than now, or disabled later.
    """
    return disable_entry(
        service,
        lambda: _get(service, group_id),
        Event.GROUP_DISABLED,
        Event.GROUP_DISABLING_SCHEDULED,
        actor=actor,
        reason=reason,
        expected_epoch=expected_epoch,
        until=until,
        at=at,
    )


def enable_enrollment_group(
    service: ProvisioningService,
    group_id: str,
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
    until: datetime | None = None,
    for_good: bool = False,
) -> EnrollmentGroup:
    """Let the devices below a CA in again. `until`: it is disabled again then.

    for_good: also where it is enabled already, and to be disabled at a time: that is dropped.
    Raises Invalid; PreviewOutdated (see set_enabled).
    """
    return set_enabled(
        service,
        lambda: _get(service, group_id),
        True,
        Event.GROUP_ENABLED,
        actor=actor,
        reason=reason,
        expected_epoch=expected_epoch,
        until=until,
        for_good=for_good,
    )


def cancel_group_schedule(
    service: ProvisioningService,
    group_id: str,
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
) -> EnrollmentGroup:
    """Leave the switch as it stands, until somebody turns it. Raises PreviewOutdated (see set_enabled)."""
    return cancel_schedule(
        service,
        lambda: _get(service, group_id),
        Event.GROUP_SCHEDULE_CANCELLED,
        actor=actor,
        reason=reason,
        expected_epoch=expected_epoch,
    )


def delete_enrollment_groups(
    service: ProvisioningService,
    group_ids: Iterable[str],
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
    expected_etags: tuple[str, ...] = (),
) -> int:
    """Delete groups, all or none. A deleted group neither admits nor bars: this can widen access (R7).

    Raises EnrollmentGroupNotFound, PreviewOutdated (see check_epoch). Registration records and what hubs
    know stay (R13).
    """
    return delete_all(
        service,
        group_ids,
        lambda group_id: _get(service, group_id),
        Event.GROUP_DELETED,
        actor=actor,
        reason=reason,
        expected_epoch=expected_epoch,
        expected_etags=expected_etags,
    )


@transaction.atomic
def reveal_group_keys(
    service: ProvisioningService, group_id: str, *, actor: Actor, reason: str = ""
) -> tuple[EnrollmentGroup, str, str]:
    """A group with its two keys, after recording who looks (R17). Raises NotFound where it holds none."""
    group = _get(service, group_id)
    if group.mechanism != AttestationMechanism.SYMMETRIC_KEY:
        raise NotFound(f"Enrollment group {group} holds certificates: it has no keys to show.")
    record(Event.KEYS_REVEALED, subject=group, actor=actor, service=service, reason=clean_reason(reason))
    return group, group.primary_key, group.secondary_key


def _get(service: ProvisioningService, group_id: str) -> EnrollmentGroup:
    # R16: keys are read where they are needed; shutting out works without the key that decrypts them.
    groups = service.enrollmentgroups.without_secrets()
    try:
        return groups.select_for_update().by_group_id(group_id)
    except EnrollmentGroup.DoesNotExist:
        raise EnrollmentGroupNotFound(group_id) from None


def _refuse_keys_where_switched_off(
    service: ProvisioningService, spec: GroupSpec, group: EnrollmentGroup
) -> None:
    """R4: groups with symmetric keys have to be wanted. Inside the change lock; one that exists may be changed."""
    if spec.mechanism != AttestationMechanism.SYMMETRIC_KEY:
        return
    if group.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        return
    if not ProvisioningService.what_decisions_read(service.pk).groups_with_keys_admit:
        raise Invalid(
            {
                "mechanism": [
                    "Groups with symmetric keys are switched off in this service: whoever reads the key of such a "
                    "group can be any device of it. An administrator can switch them on in the settings (R4)."
                ]
            }
        )
    held = service.enrollmentgroups.filter(mechanism=AttestationMechanism.SYMMETRIC_KEY)
    if held.count() >= MAX_GROUPS_WITH_KEYS:
        raise Invalid(
            {
                "mechanism": [
                    f"A service has at most {MAX_GROUPS_WITH_KEYS} groups with symmetric keys: each token is tried "
                    "against all of them."
                ]
            }
        )


def _write(group: EnrollmentGroup, spec: GroupSpec, *, actor: Actor, reason: str) -> None:
    group.group_id = spec.group_id
    group.predecessor = spec.predecessor
    write_common(group, spec, actor=actor, reason=reason)
    _refuse_taken_name(group)
    group.save()
    group.hubs.set(spec.hubs)
    group.certificates.all().delete()
    group.trust_anchors.all().delete()
    if spec.mechanism != AttestationMechanism.X509:
        return
    for slot, certificate in spec.certificates.items():
        _enroll_ca(group, slot, certificate, _reference(group, slot, spec))
    own = {certificate.thumbprint_sha256 for certificate in spec.certificates.values()}
    for helper in {one.thumbprint_sha256: one for one in spec.helpers}.values():
        if helper.thumbprint_sha256 not in own:
            row = Certificate.objects.stored(helper)
            held(row, helper, service=group.service, role=HeldRole.HELPER, group=group).save()


def _reference(group: EnrollmentGroup, slot: Slot, spec: GroupSpec) -> CaCertificate | None:
    """As it is now, inside the lock: what was found before may have been deleted. Its content never changes."""
    if slot not in spec.references:
        return None
    named = spec.references[slot]
    found = CaCertificate.objects.filter(pk=named.pk, service=group.service_id).select_related("certificate")
    current = found.first()
    if current is None or current.certificate.thumbprint_sha256 != spec.certificates[slot].thumbprint_sha256:
        raise Invalid(
            {f"{slot}_certificate": [f"There is no CA certificate {named} in this service any more."]}
        )
    return current


def _enroll_ca(group: EnrollmentGroup, slot: Slot, certificate: Ca, reference: CaCertificate | None) -> None:
    """One subject and key belongs to one group per service (R7)."""
    names = {"subject_sha256": certificate.subject_sha256, "spki_sha256": certificate.spki_sha256}
    anchor, created = TrustAnchor.objects.get_or_create(
        service=group.service, **names, defaults={"group": group}
    )
    if not created and anchor.group_id != group.pk:
        raise AlreadyEnrolled(
            f"The CA {certificate.subject} is already enrolled in group {anchor.group}.",
            group_ref(anchor.group),
            f"{slot}_certificate",
        )
    row = Certificate.objects.stored(certificate)
    held(
        row,
        certificate,
        service=group.service,
        role=HeldRole.ANCHOR,
        slot=slot,
        group=group,
        anchor=anchor,
        ca_certificate=reference,
    ).save()


def _refuse_taken_name(group: EnrollmentGroup) -> None:
    other = (
        EnrollmentGroup.objects.filter(service=group.service, group_key=registration_key(group.group_id))
        .exclude(pk=group.pk)
        .first()
    )
    if other is not None:
        raise AlreadyEnrolled(
            f"A group {other.group_id} exists already in this service (case does not count).",
            group_ref(other),
            "group_id",
        )
