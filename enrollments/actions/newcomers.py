"""Devices that proved themselves while an examination of all the others was at work (R12).

An examination takes as long as it takes, and devices register meanwhile. Who they are is seen by what is written of
them, under the change lock at the latest: beside that nobody is admitted.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Q, QuerySet
from django.utils import timezone

from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.judging import judge
from enrollments.actions.judging.assumed import judge_tpm_as_proven
from enrollments.actions.known_credentials import KnownCredential, known_credentials
from enrollments.actions.name_holders import may_take
from enrollments.actions.preview.sent_along import certificates_of, sending_along
from enrollments.actions.preview.to_come import ALL_TIMES
from enrollments.actions.schedule import Entry
from enrollments.actions.times_to_come import times_to_come
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.models import (
    AttemptOutcome,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
)
from enrollments.models.switches import NO_TIME
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.names import registration_key

# What is written is dated by the clocks of those who write it, which may differ by so much.
CLOCKS_DIFFER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Newcomers:
    """Who came since this was made, by one of the entries, or was refused by one that is to be enabled later.

    Where one of the entries is to be disabled, that is to bar devices of others, too: then it is whoever came.

    What was there already is told by what it is, not by its time: records by their etags, which each registration
    changes, and attempts by their rows, which have each what was proven.
    """

    service: ProvisioningService
    entries: Sequence[Entry]
    since: datetime
    records: frozenset[tuple[int, str]]
    attempts: frozenset[int]

    @classmethod
    def from_now_on(cls, service: ProvisioningService, entries: Sequence[Entry]) -> "Newcomers":
        since = timezone.now() - CLOCKS_DIFFER
        return cls(
            service,
            entries,
            since,
            frozenset(_records(service, entries, since).values_list("pk", "etag")),
            frozenset(_attempts(service, entries, since).values_list("pk", flat=True)),
        )

    def names(self, besides: Collection[str]) -> list[str]:
        """Their registration IDs, each once. besides: registration keys of devices that are not asked about."""
        found: dict[str, str] = {}
        records = _records(self.service, self.entries, self.since)
        for pk, etag, key, name in records.values_list("pk", "etag", "registration_key", "registration_id"):
            if (pk, etag) not in self.records:
                found[key] = name
        attempts = _attempts(self.service, self.entries, self.since)
        for pk, key, name in attempts.values_list("pk", "registration_key", "claimed_registration_id"):
            if pk not in self.attempts:
                found.setdefault(key, name)
        return [name for key, name in found.items() if key not in besides]


def _records(
    service: ProvisioningService, entries: Iterable[Entry], since: datetime
) -> "QuerySet[RegistrationRecord]":
    came = service.registrations.filter(updated_at__gte=since)
    if _is_to_bar(entries):
        return came
    individuals, groups = _those_that_count(service, entries)
    by = Q(group__in=groups) | Q(owner_group__in=groups)
    by |= Q(individual__in=individuals) | Q(owner_individual__in=individuals)
    return came.filter(by)


def _attempts(
    service: ProvisioningService, entries: Iterable[Entry], since: datetime
) -> "QuerySet[RegistrationAttempt]":
    """A row that began before has what was proven before."""
    began = service.attempts.filter(last_at__gte=since, first_at__gte=since)
    unproven = Q(outcome=AttemptOutcome.REFUSED, chain="", key_id="")
    began = began.exclude(unproven).exclude(claimed_registration_id=OVERFLOW_NAME)
    if _is_to_bar(entries):
        return began
    individuals, groups = _those_that_count(service, entries)
    by = Q(entry_kind=EntryKind.GROUP, entry_name__in=groups.values("group_id"))
    by |= Q(entry_kind=EntryKind.INDIVIDUAL, entry_name__in=individuals.values("registration_id"))
    # Who has proven something else is refused the name as long as one of these holds it (R11).
    owned = Q(owner_group__in=groups) | Q(owner_individual__in=individuals)
    held = service.registrations.filter(owned).values("registration_key")
    by |= Q(outcome=AttemptOutcome.FAILED, registration_key__in=held)
    return began.filter(by)


def _is_to_bar(entries: Iterable[Entry]) -> bool:
    return any(one.enabled and one.switches_at is not None for one in entries)


def _those_that_count(
    service: ProvisioningService, entries: Iterable[Entry]
) -> "tuple[QuerySet[IndividualEnrollment], QuerySet[EnrollmentGroup]]":
    """These, and those that keep out only until a time."""
    is_to_open = Q(enabled=False, switches_at__isnull=False)
    individuals = [one.pk for one in entries if isinstance(one, IndividualEnrollment)]
    groups = [one.pk for one in entries if isinstance(one, EnrollmentGroup)]
    return (
        service.individualenrollments.filter(is_to_open | Q(pk__in=individuals)),
        service.enrollmentgroups.filter(is_to_open | Q(pk__in=groups)),
    )


# --- Examining them one by one ------------------------------------------------------------------------


class _LetIn(NamedTuple):
    """By the first of the credentials of a device that lets it in, the one that it showed last first."""

    number: int
    entry: EntryRef


def _passes(before: _LetIn | None, after: _LetIn | None, gone: Collection[EntryRef]) -> bool:
    """By what it showed later than what let it in before, too."""
    if after is None:
        return False
    return before is None or before.entry in gone or after.number < before.number


def _sending_along(known: KnownCredential, more: Sequence[ParsedCertificate]) -> KnownCredential:
    if known.shown is None or not known.chain:
        return known
    return replace(known, shown=sending_along(known.shown, known.chain, more))


def times_examined(service: ProvisioningService, entries: Iterable[Entry]) -> list[datetime | None]:
    """For which each of them is examined; None is now. Of more than ALL_TIMES, besides: all open, and all shut."""
    keys = [one.registration_key for one in entries if isinstance(one, IndividualEnrollment)]
    standing = ProvisioningService.what_decisions_read(service.pk)
    to_come = times_to_come(service, standing, keys).every
    return [None, *to_come[:ALL_TIMES], *(NO_TIME if len(to_come) > ALL_TIMES else ())]


class Examined:
    """What is decided about some devices before a change, to be compared with what is decided after it.

    Each is judged by all that is known that it has shown, or that is enrolled for it: now, and at each time at which
    something changes by itself. Made in the transaction of the change, or in one that rehearses it.
    entries: those that the change is about.
    """

    def __init__(
        self, service: ProvisioningService, registration_ids: Iterable[str], entries: Sequence[Entry]
    ) -> None:
        self._service, self._now = service, timezone.now()
        self._times = times_examined(service, entries)
        # What is signed to be good at the last of these times is so at each.
        until = max(map(self._dates, self._times))
        # Before the change, which may take away what says of a key whose it was, and what a device may send along.
        more = certificates_of(entries)
        self._known = {
            name: [_sending_along(one, more) for one in known_credentials(service, name, at=until)]
            for name in registration_ids
        }
        self._before = {name: self._admitted_by(known) for name, known in self._known.items()}

    def passing_to_others(self, gone: Collection[EntryRef]) -> list[str]:
        """After the change: whom another entry lets in, now or later, without these (see Preview)."""
        return [
            name
            for name, known in self._known.items()
            if any(
                _passes(before, after, gone)
                for before, after in zip(self._before[name], self._admitted_by(known), strict=True)
            )
        ]

    def _dates(self, entries_at: datetime | None) -> datetime:
        """As of when certificates are judged."""
        return self._now if entries_at in (None, *NO_TIME) else entries_at

    def _admitted_by(self, known: Sequence[KnownCredential]) -> list[_LetIn | None]:
        """By which entry, at each of the times; None where none admits it."""
        return [self._first(known, entries_at) for entries_at in self._times]

    def _first(self, known: Sequence[KnownCredential], entries_at: datetime | None) -> _LetIn | None:
        each = ((number, self._lets_in(one, entries_at)) for number, one in enumerate(known))
        return next((_LetIn(number, entry) for number, entry in each if entry is not None), None)

    def _lets_in(self, one: KnownCredential, entries_at: datetime | None) -> EntryRef | None:
        """By which entry, if that may have the name (R11): while another one holds it, the device fails."""
        service, name, at = self._service, one.registration_id, self._dates(entries_at)
        if one.shown is None:
            decision = judge_tpm_as_proven(service, name, at=at, entries_at=entries_at).decision
            return decision.entry if decision.admitted else None
        judgement = judge(service, name, one.shown, at=at, entries_at=entries_at)
        if not judgement.decision.admitted:
            return None
        record = RegistrationRecord.of(service.pk, registration_key(name))
        return judgement.decision.entry if record is None or may_take(record, judgement) else None
