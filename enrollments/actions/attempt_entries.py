"""Which entries attempts tell of. They name them by kind and name alone, so one that was added since is another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from enrollments.actions.judging import group_ref, individual_ref
from enrollments.models import ProvisioningService, RegistrationAttempt, clock
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.names import registration_key
from enrollments.policy.unknown import Unknown, known

_INDIVIDUAL, _GROUP = (str(EntryRef(kind, 0, "")) for kind in (EntryKind.INDIVIDUAL, EntryKind.GROUP))


@dataclass(frozen=True, slots=True)
class EntryThen:
    """What a name stood for at a time. `entry`: None where it is gone. `namesake_since`: of another of that name."""

    entry: EntryRef | None = None
    namesake_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class EntriesOfNow:
    """By their words the entries that are there, and since when."""

    _found: Mapping[str, tuple[EntryRef, datetime]]

    @classmethod
    def named(cls, service: ProvisioningService, words: Iterable[str]) -> "EntriesOfNow":
        """words: as a trace has them; what names no entry is passed over."""
        individuals, groups = set(), set()
        for one in words:
            if one.startswith(_INDIVIDUAL):
                individuals.add(registration_key(one.removeprefix(_INDIVIDUAL)))
            elif one.startswith(_GROUP):
                groups.add(registration_key(one.removeprefix(_GROUP)))
        found: list[tuple[EntryRef, datetime]] = []
        if individuals:
            entries = service.individualenrollments.without_secrets().filter(registration_key__in=individuals)
            found += [(individual_ref(one), one.created_at) for one in entries]
        if groups:
            entries_of_many = service.enrollmentgroups.without_secrets().filter(group_key__in=groups)
            found += [(group_ref(one), one.created_at) for one in entries_of_many]
        return cls({str(ref): (ref, since) for ref, since in found})

    def at(self, words: str, at: datetime) -> EntryThen:
        """What stood there then by that name, as far as it is still there."""
        ref, since = self._found.get(words, (None, None))
        if since is not None and since > at:
            return EntryThen(namesake_since=since)
        return EntryThen(entry=ref)

    def all_at(self, at: datetime) -> dict[str, EntryRef]:
        return {words: ref for words, (ref, since) in self._found.items() if since <= at}


def entry_words(attempt: RegistrationAttempt) -> str:
    """The entry that decided, as traces name it; empty where none did."""
    if not attempt.entry_kind:
        return ""
    kind = known(EntryKind, attempt.entry_kind)
    if isinstance(kind, Unknown):
        return f"{kind.in_words} {attempt.entry_name}"
    return str(EntryRef(kind, 0, attempt.entry_name))


@dataclass(frozen=True, slots=True)
class Opening:
    """A disabled group, and when it is enabled by itself."""

    group: EntryRef
    at: datetime


def openings(service: ProvisioningService, refs: Iterable[EntryRef]) -> dict[EntryRef, Opening]:
    """The groups among these that are disabled until a time by now."""
    of_groups = {ref.pk: ref for ref in refs if ref.kind is EntryKind.GROUP}
    if not of_groups:
        return {}
    disabled = service.enrollmentgroups.filter(enabled=False, switches_at__gt=clock.database_now())
    until = disabled.filter(pk__in=of_groups).values_list("pk", "switches_at")
    return {of_groups[pk]: Opening(of_groups[pk], at) for pk, at in until if at is not None}


def deciding_entries(
    service: ProvisioningService, attempts: Iterable[RegistrationAttempt]
) -> list[EntryThen]:
    """Of each attempt the entry that decided the latest that it counts, in the same order."""
    named = [(entry_words(one), one.last_at) for one in attempts]
    there = EntriesOfNow.named(service, (words for words, _ in named))
    return [there.at(words, at) for words, at in named]
