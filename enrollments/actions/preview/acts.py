"""The acts on entries that are there already, one or several at once: carried out, rehearsed, and told afterwards."""

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db import DatabaseError

from enrollments.actions.enrollment_groups import (
    cancel_group_schedule,
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import (
    cancel_enrollment_schedule,
    change_individual_enrollment,
    delete_enrollments,
    disable_enrollment,
    enable_enrollment,
)
from enrollments.actions.entries import check_epoch, is_outdated
from enrollments.actions.judging import group_ref, individual_ref
from enrollments.actions.preview.effects import Preview
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.rehearsing import preview_of
from enrollments.actions.preview.sent_along import preview_with_what_is_sent_along
from enrollments.actions.preview.touched import Entry
from enrollments.actions.services import change_settings
from enrollments.audit.actor import Actor, Way
from enrollments.errors import AttestationError, Conflict, Invalid, NotFound, SecretUnreadable
from enrollments.models import EnrollmentGroup, IndividualEnrollment, ProvisioningService
from enrollments.models.locks import change_lock
from enrollments.policy.facts import EntryRef

logger = logging.getLogger(__name__)

# Whoever is written into history rows that are taken back.
NOBODY = Actor("user", "a rehearsal", Way.PORTAL)
# Why a preview cannot be worked out, though what it is of may be right: something that is stored cannot be read.
# Nothing that only shuts out waits for that (R16).
CANNOT_BE_TOLD = (SecretUnreadable, AttestationError, DatabaseError)


class Act(StrEnum):
    ENABLE = "enable"
    DISABLE = "disable"
    DELETE = "delete"

    @property
    def may_widen(self) -> bool:
        """Whether somebody may come in by it: then it rests on a preview. What only narrows is never held up."""
        return self is not Act.DISABLE


def ref_of(entry: Entry) -> EntryRef:
    return individual_ref(entry) if isinstance(entry, IndividualEnrollment) else group_ref(entry)


def carry_out(
    service: ProvisioningService,
    act: Act,
    entries: Iterable[Entry],
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
    for_good: bool = False,
    **times: datetime,
) -> list[Entry]:
    """Enable, disable or delete entries, all of them or none: what is there of them then.

    times, for_good, expected_epoch: as of `turn`. For deleting there is no time, and the epoch counts in any case (see
    check_epoch).
    Raises NotFound, Invalid, Conflict; PreviewOutdated.
    """
    entries = list(entries)
    with change_lock(service):
        if act is Act.DELETE:
            check_epoch(service, expected_epoch)
            individuals = [one.registration_id for one in entries if isinstance(one, IndividualEnrollment)]
            delete_enrollments(service, individuals, actor=actor, reason=reason)
            groups = [one.group_id for one in entries if isinstance(one, EnrollmentGroup)]
            delete_enrollment_groups(service, groups, actor=actor, reason=reason)
            return []
        # Each of them raises the epoch: what counts for all is that from before the first.
        standing = ProvisioningService.what_decisions_read(service.pk)
        expected = expected_epoch if is_outdated(standing, expected_epoch) else None
        return [
            turn(
                service,
                act,
                entry,
                actor=actor,
                reason=reason,
                expected_epoch=expected,
                for_good=for_good,
                **times,
            )
            for entry in entries
        ]


def turn(
    service: ProvisioningService,
    act: Act,
    entry: Entry,
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
    for_good: bool = False,
    **times: datetime,
) -> Entry:
    """Enable or disable one entry, for a time where `times` has one: `until`, or `at` for a disabling to come.

    for_good: of one that is enabled already, a disabling that is scheduled is dropped (see set_enabled).
    expected_epoch counts where somebody may come in by it, now or later (see set_enabled).
    Raises NotFound, Invalid, Conflict; PreviewOutdated.
    """
    how: dict[str, Any] = {"actor": actor, "reason": reason, "expected_epoch": expected_epoch, **times}
    if act is Act.ENABLE:
        how["for_good"] = for_good
    if isinstance(entry, IndividualEnrollment):
        turn_device = enable_enrollment if act is Act.ENABLE else disable_enrollment
        return turn_device(service, entry.registration_id, **how)
    turn_group = enable_enrollment_group if act is Act.ENABLE else disable_enrollment_group
    return turn_group(service, entry.group_id, **how)


def cancel(
    service: ProvisioningService,
    entry: Entry,
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
) -> Entry:
    """Drop what is scheduled for the switch of an entry. Raises NotFound, Invalid; PreviewOutdated, as `turn` does."""
    how: dict[str, Any] = {"actor": actor, "reason": reason, "expected_epoch": expected_epoch}
    if isinstance(entry, IndividualEnrollment):
        return cancel_enrollment_schedule(service, entry.registration_id, **how)
    return cancel_group_schedule(service, entry.group_id, **how)


def preview_of_act(
    service: ProvisioningService,
    act: Act,
    entries: Sequence[Entry],
    *,
    at: datetime | None = None,
    limits: Limits | None = None,
    undoes: bool = False,
) -> Preview:
    """What it would do to the devices that are known. at, limits, undoes: see preview_of."""

    def change() -> list[Entry]:
        carry_out(service, act, entries, actor=NOBODY)
        return []

    if act is Act.DELETE and not undoes:
        return preview_with_what_is_sent_along(service, change, entries, at=at, limits=limits)
    return preview_of(service, change, entries, at=at, limits=limits, undoes=undoes)


def preview_of_settings(
    service: ProvisioningService,
    values: dict[str, Any],
    groups: Sequence[EnrollmentGroup],
    *,
    at: datetime | None = None,
    limits: Limits | None = None,
    undoes: bool = False,
) -> Preview:
    """What changing the settings of a service would do to the devices of these groups. Raises Invalid.

    at, limits, undoes: see preview_of.
    """

    def change() -> list[Entry]:
        change_settings(service, values, actor=NOBODY)
        return []

    return preview_of(service, change, groups, at=at, limits=limits, undoes=undoes)


def what_disabling_did(service: ProvisioningService, entries: Sequence[Entry]) -> Preview | None:
    """What disabling these entries did, told by rehearsing its opposite, now that it is done.

    None where that cannot be worked out: what was done is not called undone for that (R16).
    """
    return told_afterwards(service, lambda: preview_of_act(service, Act.ENABLE, entries, undoes=True))


def what_adding_did(service: ProvisioningService, *entries: Entry) -> Preview | None:
    """The same of entries that were added: what they hold keeps nobody in who has shown something else."""
    return told_afterwards(service, lambda: preview_of_act(service, Act.DELETE, entries, undoes=True))


def what_changing_did(
    service: ProvisioningService, entry: IndividualEnrollment, former: IndividualSpec
) -> Preview | None:
    """The same of one that was changed. former: what it was before."""

    def back() -> list[Entry]:
        how: dict[str, Any] = {"expected_etag": entry.etag, "actor": NOBODY}
        change_individual_enrollment(service, entry.registration_id, former, **how)
        return []

    return told_afterwards(service, lambda: preview_of(service, back, [entry], undoes=True))


def told_afterwards(service: ProvisioningService, rehearse: Callable[[], Preview]) -> Preview | None:
    """What a rehearsal that undoes it tells of what is done; None where that cannot be worked out."""
    try:
        return rehearse()
    except (NotFound, Conflict, Invalid, *CANNOT_BE_TOLD) as problem:
        logger.warning(
            "What was done in service %s is done; what it did could not be told: %s", service, problem
        )
        return None
