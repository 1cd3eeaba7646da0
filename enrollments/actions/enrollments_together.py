"""Individual enrollments added and changed, many in a fixed number of statements; one alone is a batch of one."""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Prefetch, prefetch_related_objects

from enrollments.actions.enrollment_specs import (
    IndividualSpec,
    Keep,
    check_enrollment,
    checked,
    checked_or_problem,
    no_endorsement_key,
)
from enrollments.actions.entries import (
    REHEARSAL,
    AlreadyEnrolled,
    EnrollmentNotFound,
    check_epoch,
    held,
    write_common,
)
from enrollments.actions.entry_snapshots import (
    happened,
    may_replace_secrets,
    note_replaced_secrets,
    read_secrets,
    snapshot,
)
from enrollments.actions.entry_switches import disabled_for_good
from enrollments.actions.judging import individual_ref
from enrollments.actions.key_identifiers import secret_read_once
from enrollments.actions.outcomes import Outcome, outcome_of
from enrollments.actions.schedule import SWITCH_COLUMNS, settle_entry
from enrollments.attestation.x509 import DeviceCertificate, ParsedCertificate
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import Happened, changes, clean_reason, record_all, require_still
from enrollments.errors import ChangedMeanwhile, DpsError, Invalid
from enrollments.models import (
    AttestationMechanism,
    Certificate,
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
    ProvisioningService,
    Slot,
)
from enrollments.models.enrollments import SECRETS
from enrollments.models.inserting import insert_all, made, numbers_by, update_all
from enrollments.models.locks import change_lock
from enrollments.policy.names import registration_key, same_registration_id


def add_individual_enrollments(
    service: ProvisioningService, specs: Iterable[IndividualSpec], *, actor: Actor, reason: str = ""
) -> list[IndividualEnrollment | DpsError]:
    """Enroll many devices in one transaction: for each spec its enrollment, or why there is none."""
    reason = clean_reason(reason)
    given: list[IndividualSpec | DpsError] = [checked_or_problem(service, spec) for spec in specs]
    accepted = [one for one in given if not isinstance(one, DpsError)]
    with change_lock(service), secret_read_once():
        added = iter(add_all(service, accepted, actor=actor, reason=reason))
    return [one if isinstance(one, DpsError) else next(added) for one in given]


def foresee_enrollment(
    service: ProvisioningService, spec: IndividualSpec, current: IndividualEnrollment | None
) -> Outcome:
    """What adding this, or changing `current` to it, would do as things stand; nothing is locked or changed.

    Raises Invalid. That a name is taken is not looked at.
    """
    spec = check_enrollment(service, spec, current)
    if current is None:
        return outcome_of(None, spec, changed=True)
    became = _become(current, spec, actor=REHEARSAL, reason="")
    return outcome_of(current, became.enrollment, changed=became.is_changed)


def add_all(
    service: ProvisioningService, specs: Sequence[IndividualSpec], *, actor: Actor, reason: str
) -> list[IndividualEnrollment | DpsError]:
    """Inside the change lock, of specs that were checked. A fixed number of statements, however many they are."""
    keys = [registration_key(spec.registration_id) for spec in specs]
    in_use = numbers_by(IndividualEnrollment, "registration_key", keys, service_id=service.pk)
    entries = service.individualenrollments.without_secrets().filter(pk__in=in_use.values())
    taken = {one.registration_key: one for one in entries} if in_use else {}
    outcomes: dict[int, IndividualEnrollment | DpsError] = {}
    new: list[tuple[IndividualEnrollment, IndividualSpec]] = []
    repeated: dict[int, str] = {}
    for position, (key, spec) in enumerate(zip(keys, specs, strict=True)):
        enrollment = made(IndividualEnrollment, service_id=service.pk, registration_key=key, etag="")
        if key in taken:
            repeated[position] = key
            continue
        try:
            _set(enrollment, spec, actor=actor, reason=reason)
        except Invalid as problem:
            outcomes[position] = problem
            continue
        taken[key] = outcomes[position] = enrollment
        new.append((enrollment, spec))
    if new:
        record_all(_insert(service, new), actor=actor, service=service, reason=reason)
    outcomes |= {position: _name_taken(taken[key]) for position, key in repeated.items()}
    return [outcomes[position] for position in range(len(specs))]


def _insert(
    service: ProvisioningService, new: Sequence[tuple[IndividualEnrollment, IndividualSpec]]
) -> list[Happened]:
    insert_all([enrollment for enrollment, _ in new])
    keys = [enrollment.registration_key for enrollment, _ in new]
    numbers = numbers_by(IndividualEnrollment, "registration_key", keys, service_id=service.pk)
    for enrollment, _ in new:
        enrollment.pk, enrollment._state.adding = numbers[enrollment.registration_key], False
    _link_hubs(new)
    kept = _hold_certificates(new)
    return [
        happened(
            Event.ENROLLMENT_ADDED if enrollment.enabled else Event.ENROLLMENT_ADDED_DISABLED,
            enrollment,
            spec,
            None,
            snapshot(enrollment, certificates=kept.get(enrollment.pk, ()), hubs=set(spec.hubs)),
        )
        for enrollment, spec in new
    ]


Written = Sequence[tuple[IndividualEnrollment, IndividualSpec]]


def _link_hubs(entries: Written) -> None:
    through = IndividualEnrollment.hubs.through
    through._default_manager.bulk_create(
        through(individualenrollment_id=enrollment.pk, linkedhub_id=hub.pk)
        for enrollment, spec in entries
        for hub in dict.fromkeys(spec.hubs)
    )


def _hold_certificates(entries: Written) -> dict[int, list[HeldCertificate]]:
    """Of enrollments that hold none: what they hold by now, by their numbers."""
    places = [
        (enrollment, slot, parsed) for enrollment, spec in entries for slot, parsed in _certificates_of(spec)
    ]
    rows = Certificate.objects.store_all(parsed for *_, parsed in places)
    kept: dict[int, list[HeldCertificate]] = {}
    for (enrollment, slot, parsed), row in zip(places, rows, strict=True):
        one = held(
            row,
            parsed,
            service_id=enrollment.service_id,
            role=HeldRole.DEVICE,
            slot=slot,
            individual=enrollment,
        )
        kept.setdefault(enrollment.pk, []).append(one)
    insert_all([one for of_entry in kept.values() for one in of_entry])
    return kept


@dataclass(frozen=True, slots=True)
class Asked:
    """That an enrollment becomes what the spec says, if it has this etag still; without a spec, that it is disabled."""

    registration_id: str
    spec: IndividualSpec | None = None
    expected_etag: str = ""


def change_individual_enrollments(
    service: ProvisioningService, asked: Iterable[Asked], *, actor: Actor, reason: str = ""
) -> list[IndividualEnrollment | DpsError]:
    """Change and disable many in one transaction, each one once: what each is by now, or why it is not as asked.

    As change_individual_enrollment and disable_enrollment do it with one. The epoch is raised once, if at all.
    """
    reason = clean_reason(reason)
    given = [_checked_change_or_problem(service, one) for one in asked]
    accepted = [one for one in given if isinstance(one, Asked)]
    with change_lock(service, raises_epoch=False), secret_read_once():
        changed = iter(change_all(service, accepted, actor=actor, reason=reason))
    return [one if isinstance(one, DpsError) else next(changed) for one in given]


def read_what_changing_reads(entries: Iterable[IndividualEnrollment]) -> None:
    """What says whether a spec would change them, in a fixed number of queries; but for secrets."""
    certificates = HeldCertificate.objects.select_related("certificate").order_by("slot")
    prefetch_related_objects(list(entries), "hubs", Prefetch("certificates", certificates))


def checked_change(service: ProvisioningService, one: Asked) -> Asked:
    """Raises Invalid."""
    if one.spec is None:
        return one
    if one.spec.registration_id and not same_registration_id(one.spec.registration_id, one.registration_id):
        raise Invalid(
            {"registration_id": ["The registration ID of an enrollment cannot change: add another one."]}
        )
    spec = checked(service, replace(one.spec, registration_id=one.registration_id))
    return replace(one, spec=spec)


def _checked_change_or_problem(service: ProvisioningService, one: Asked) -> Asked | DpsError:
    try:
        return checked_change(service, one)
    except Invalid as problem:
        return problem


@dataclass(slots=True)
class _Became:
    """An enrollment as it is to be, and what differs from before: as the history has it, and which secrets."""

    enrollment: IndividualEnrollment
    event: Event
    was: dict[str, Any]
    now: dict[str, Any]
    secrets: tuple[str, ...]
    spec: IndividualSpec

    @property
    def happened(self) -> Happened:
        return happened(self.event, self.enrollment, self.spec, self.was, self.now)

    @property
    def is_changed(self) -> bool:
        return bool(self.was or self.now)


def _become(current: IndividualEnrollment, spec: IndividualSpec, *, actor: Actor, reason: str) -> _Became:
    """What `current` would be by a spec that was checked; nothing is written, and `current` stays. Raises Invalid."""
    enrollment = copy(current)
    # Not for both of them.
    enrollment._prefetched_objects_cache = {}  # type: ignore[attr-defined]  # Django's own
    _set(enrollment, replace(spec, registration_id=current.registration_id), actor=actor, reason=reason)
    was, now = changes(
        snapshot(current, certificates=current.certificates.all()),
        snapshot(enrollment, certificates=_in_place(enrollment, spec), hubs=set(spec.hubs)),
    )
    secrets = note_replaced_secrets(current, enrollment, was, now)
    event = _change_event(current.enabled, enrollment.enabled)
    return _Became(enrollment, event, was, now, secrets, spec)


def _in_place(enrollment: IndividualEnrollment, spec: IndividualSpec) -> list[HeldCertificate]:
    """The certificates that it would hold, of which nothing is stored."""
    return [
        held(Certificate.unstored(parsed), parsed, role=HeldRole.DEVICE, slot=slot, individual=enrollment)
        for slot, parsed in _certificates_of(spec)
    ]


def _certificates_of(spec: IndividualSpec) -> list[tuple[Slot, ParsedCertificate | DeviceCertificate]]:
    return sorted(spec.certificates.items()) if spec.mechanism == AttestationMechanism.X509 else []


def change_all(
    service: ProvisioningService,
    asked: Sequence[Asked],
    *,
    actor: Actor,
    reason: str,
    expected_epoch: int | None = None,
) -> list[IndividualEnrollment | DpsError]:
    """Inside the change lock, of what was checked. A fixed number of statements, where no switch is due."""
    there = _there(service, asked)
    _, time = ProvisioningService.epoch_and_time(service.pk)
    outcomes: list[IndividualEnrollment | DpsError] = []
    became: list[_Became] = []
    switched: list[Happened] = []
    disabled: list[IndividualEnrollment] = []
    settled = False
    for one in asked:
        current = there.get(registration_key(one.registration_id))
        if current is None:
            outcomes.append(EnrollmentNotFound(one.registration_id))
        elif one.spec is None:
            settled |= settle_entry(service, current, time)
            turned = disabled_for_good(current, time, Event.ENROLLMENT_DISABLED, actor=actor, reason=reason)
            if turned is not None:
                switched.append(turned)
                disabled.append(current)
            outcomes.append(current)
        elif current.is_due(time) or current.etag != one.expected_etag:
            # By the time that its switch is due it is not any more what the caller has seen.
            outcomes.append(ChangedMeanwhile(f"Individual enrollment {current}"))
        else:
            check_epoch(service, expected_epoch)
            try:
                change = _become(current, one.spec, actor=actor, reason=reason)
            except Invalid as problem:
                outcomes.append(problem)
                continue
            became += [change] if change.is_changed else []
            outcomes.append(change.enrollment if change.is_changed else current)
    _write_all(became)
    update_all(disabled, SWITCH_COLUMNS)
    happened_to_all = [*switched, *(one.happened for one in became)]
    if happened_to_all:
        record_all(happened_to_all, actor=actor, service=service, reason=reason)
    else:
        require_still(actor)
    if happened_to_all or settled:
        service.raise_epoch()
    return outcomes


def _there(service: ProvisioningService, asked: Sequence[Asked]) -> dict[str, IndividualEnrollment]:
    """By their keys, with all that is read of those that are to change."""
    specs = {registration_key(one.registration_id): one.spec for one in asked}
    # R16: keys are read where they are needed; shutting out works without the key that decrypts them.
    entries = service.individualenrollments.without_secrets().select_for_update()
    there = {one.registration_key: one for one in entries.filter(registration_key__in=specs)}
    to_change = [(there[key], spec) for key, spec in specs.items() if spec is not None and key in there]
    read_what_changing_reads(current for current, _ in to_change)
    read_secrets(current for current, spec in to_change if may_replace_secrets(current, spec))
    return there


# What an enrollment says of itself, and a change of it may change. Secrets are written where they are replaced.
_CHANGED_COLUMNS = tuple(
    field.attname
    for field in IndividualEnrollment._meta.concrete_fields
    if field.attname
    not in {"id", "service_id", "registration_id", "registration_key", "created_at", *SECRETS}
)


def _write_all(became: Sequence[_Became]) -> None:
    """What they became, certificates and hubs included: of these only what differs is written anew."""
    of_secrets: dict[tuple[str, ...], list[IndividualEnrollment]] = {}
    for one in became:
        of_secrets.setdefault(one.secrets, []).append(one.enrollment)
    for secrets, enrollments in of_secrets.items():
        update_all(enrollments, (*_CHANGED_COLUMNS, *secrets))
    if moved := [one for one in became if "hubs" in one.now]:
        links = IndividualEnrollment.hubs.through._default_manager
        links.filter(individualenrollment_id__in=[one.enrollment.pk for one in moved]).delete()
        _link_hubs([(one.enrollment, one.spec) for one in moved])
    if renewed := [one for one in became if "certificates" in one.now]:
        HeldCertificate.objects.filter(individual_id__in=[one.enrollment.pk for one in renewed]).delete()
        _hold_certificates([(one.enrollment, one.spec) for one in renewed])


def _set(enrollment: IndividualEnrollment, spec: IndividualSpec, *, actor: Actor, reason: str) -> None:
    """Everything that the row itself holds. Raises Invalid."""
    enrollment.registration_id = spec.registration_id
    enrollment.device_id = spec.device_id
    if spec.device_information is not Keep.AS_IT_IS:
        enrollment.device_information = spec.device_information
    write_common(enrollment, spec, actor=actor, reason=reason)
    _write_tpm_keys(enrollment, spec)


def _write_tpm_keys(enrollment: IndividualEnrollment, spec: IndividualSpec) -> None:
    if spec.mechanism != AttestationMechanism.TPM:
        enrollment.endorsement_key = enrollment.storage_root_key = None
    elif spec.endorsement_key:
        enrollment.endorsement_key = spec.endorsement_key
        enrollment.storage_root_key = spec.storage_root_key or None
    elif enrollment.endorsement_key is None:
        raise no_endorsement_key()
    elif spec.storage_root_key:
        enrollment.storage_root_key = spec.storage_root_key


def _name_taken(other: IndividualEnrollment) -> AlreadyEnrolled:
    return AlreadyEnrolled(
        f"Registration ID {other.registration_id} is already enrolled in this service (case does not count).",
        individual_ref(other),
        "registration_id",
    )


def _change_event(was_enabled: bool, is_enabled: bool) -> Event:
    """Saving the form with the switch turned is disabling or enabling, and the history calls it so."""
    if was_enabled == is_enabled:
        return Event.ENROLLMENT_CHANGED
    return Event.ENROLLMENT_ENABLED if is_enabled else Event.ENROLLMENT_DISABLED
