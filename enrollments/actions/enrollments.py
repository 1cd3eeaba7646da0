"""Individual enrollments: add, change, disable, enable, delete. Each is the same act from every door."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from django.db import transaction

from enrollments.actions.enrollment_specs import IndividualSpec, checked
from enrollments.actions.enrollments_together import Asked, add_all, change_all, checked_change
from enrollments.actions.entries import EnrollmentNotFound, check_epoch, delete_all
from enrollments.actions.entry_snapshots import note_told_keys, written
from enrollments.actions.entry_switches import cancel_schedule, disable_entry, set_enabled
from enrollments.actions.reach import shuts_out_by_fewer_pins
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import clean_reason, record
from enrollments.errors import ChangedMeanwhile, DpsError, NotFound
from enrollments.models import IndividualEnrollment, ProvisioningService, Slot
from enrollments.models.enrollments import new_etag
from enrollments.models.locks import change_lock


def add_individual_enrollment(
    service: ProvisioningService,
    spec: IndividualSpec,
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
    tells_keys: bool = False,
) -> IndividualEnrollment:
    """Enroll one device. `tells_keys`: the caller is about to tell keys that are made here, on record.

    Raises Invalid, AlreadyEnrolled; PreviewOutdated (see check_epoch).
    """
    spec, reason = checked(service, spec), clean_reason(reason)
    with change_lock(service):
        check_epoch(service, expected_epoch)
        (added,) = add_all(service, [spec], actor=actor, reason=reason)
        if isinstance(added, DpsError):
            raise added
        if tells_keys:
            note_told_keys(service, added, spec, actor=actor)
    return added


def change_individual_enrollment(
    service: ProvisioningService,
    registration_id: str,
    spec: IndividualSpec,
    *,
    expected_etag: str,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
) -> IndividualEnrollment:
    """Make an enrollment what the spec says, if it is still what the caller saw.

    Where it is so already nothing changes: no row, no etag, no epoch. The registration ID itself cannot change.
    Raises Invalid, EnrollmentNotFound, ChangedMeanwhile; PreviewOutdated (see check_epoch).
    """
    asked = checked_change(service, Asked(registration_id, spec, expected_etag))
    reason = clean_reason(reason)
    with change_lock(service, raises_epoch=False):
        (changed,) = change_all(service, [asked], actor=actor, reason=reason, expected_epoch=expected_epoch)
    if isinstance(changed, DpsError):
        raise changed
    return changed


def drop_certificates(
    service: ProvisioningService,
    registration_id: str,
    thumbprints: Mapping[Slot, str],
    *,
    actor: Actor,
    reason: str = "",
) -> IndividualEnrollment:
    """Take certificates from an enrollment, whatever else of it has changed: by that alone nobody comes in (R12).

    Raises EnrollmentNotFound; ChangedMeanwhile where it does not hold every one of them in that slot, where it would
    keep none, and where a certificate less may let somebody in (see shuts_out_by_fewer_pins).
    """
    reason = clean_reason(reason)
    with change_lock(service, raises_epoch=False):
        enrollment = _get(service, registration_id)
        held = {one.slot: one for one in enrollment.certificates.select_related("certificate")}
        dropped = [
            held[slot]
            for slot, thumbprint in thumbprints.items()
            if slot in held and held[slot].certificate.thumbprint_sha256 == thumbprint
        ]
        is_as_seen = 0 < len(dropped) == len(thumbprints) < len(held)
        if not is_as_seen or not shuts_out_by_fewer_pins(enrollment):
            raise ChangedMeanwhile(f"Individual enrollment {enrollment}")

        def write() -> None:
            enrollment.certificates.filter(pk__in=[one.pk for one in dropped]).delete()
            enrollment.etag = new_etag()
            enrollment.save(update_fields=["etag", "updated_at"])

        was, now = written(enrollment, write)
        record(
            Event.ENROLLMENT_CHANGED,
            subject=enrollment,
            actor=actor,
            service=service,
            reason=reason,
            before=was,
            after=now,
        )
        service.raise_epoch()
    return enrollment


def disable_enrollment(
    service: ProvisioningService,
    registration_id: str,
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
    until: datetime | None = None,
    at: datetime | None = None,
) -> IndividualEnrollment:
    """Shut one device out (R5, R6). Disabling twice changes nothing and records nothing.

    until: it is enabled again then, unless somebody sets its switch before. at: it stays as it is until then.
    Raises Invalid for times that cannot be scheduled, and Conflict; PreviewOutdated (see set_enabled) where it is
    disabled already and would be enabled earlier than now, or disabled later.
    """
    return disable_entry(
        service,
        lambda: _get(service, registration_id),
        Event.ENROLLMENT_DISABLED,
        Event.ENROLLMENT_DISABLING_SCHEDULED,
        actor=actor,
        reason=reason,
        expected_epoch=expected_epoch,
        until=until,
        at=at,
    )


def enable_enrollment(
    service: ProvisioningService,
    registration_id: str,
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
    until: datetime | None = None,
    for_good: bool = False,
) -> IndividualEnrollment:
    """Let the enrollment's own device in again. `until`: it is disabled again then.

    for_good: also where it is enabled already, and to be disabled at a time: that is dropped.
    Raises Invalid; PreviewOutdated (see set_enabled).
    """
    return set_enabled(
        service,
        lambda: _get(service, registration_id),
        True,
        Event.ENROLLMENT_ENABLED,
        actor=actor,
        reason=reason,
        expected_epoch=expected_epoch,
        until=until,
        for_good=for_good,
    )


def cancel_enrollment_schedule(
    service: ProvisioningService,
    registration_id: str,
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
) -> IndividualEnrollment:
    """Leave the switch as it stands, until somebody turns it. Raises PreviewOutdated (see set_enabled)."""
    return cancel_schedule(
        service,
        lambda: _get(service, registration_id),
        Event.ENROLLMENT_SCHEDULE_CANCELLED,
        actor=actor,
        reason=reason,
        expected_epoch=expected_epoch,
    )


def delete_enrollments(
    service: ProvisioningService,
    registration_ids: Iterable[str],
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
    expected_etags: tuple[str, ...] = (),
) -> int:
    """Delete entries, all or none. Their devices may come back through a group (R7); callers say so first.

    Raises EnrollmentNotFound, PreviewOutdated (see check_epoch). What hubs know stays (R13).
    """
    return delete_all(
        service,
        registration_ids,
        lambda registration_id: _get(service, registration_id),
        Event.ENROLLMENT_DELETED,
        actor=actor,
        reason=reason,
        expected_epoch=expected_epoch,
        expected_etags=expected_etags,
    )


@transaction.atomic
def reveal_enrollment_keys(
    service: ProvisioningService, registration_id: str, *, actor: Actor, reason: str = ""
) -> tuple[IndividualEnrollment, str, str]:
    """An enrollment with its two keys, after recording who looks (R17). Raises NotFound where it holds none."""
    enrollment = _get(service, registration_id)
    if not enrollment.primary_key:
        raise NotFound(f"Individual enrollment {enrollment} holds certificates: it has no keys to show.")
    record(Event.KEYS_REVEALED, subject=enrollment, actor=actor, service=service, reason=clean_reason(reason))
    return enrollment, enrollment.primary_key, enrollment.secondary_key


def _get(service: ProvisioningService, registration_id: str) -> IndividualEnrollment:
    # R16: keys are read where they are needed; shutting out works without the key that decrypts them.
    entries = service.individualenrollments.without_secrets()
    try:
        return entries.select_for_update().by_registration_id(registration_id)
    except IndividualEnrollment.DoesNotExist:
        raise EnrollmentNotFound(registration_id) from None
