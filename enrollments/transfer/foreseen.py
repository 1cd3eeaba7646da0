"""What a checked import would do to the devices that are known: its lines are carried out, and taken back.

Of a list most lines add devices that nobody knows, and change nothing for those that are. They are left out, so that a
list of a hundred thousand new devices costs no more than what it says about old ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from enrollments.actions.imports import carry_out_changes
from enrollments.actions.preview import Entry, Preview, preview_of
from enrollments.actions.preview.acts import NOBODY
from enrollments.models import ImportRun, ProvisioningService
from enrollments.policy.names import registration_key
from enrollments.transfer.limits import CHUNK_LINES
from enrollments.transfer.lines import Record
from enrollments.transfer.planning import from_text, plan

# Rehearsed in one transaction, which others who write wait for on SQLite: twice as long as for two portions at most.
MOST_LINES = 2 * CHUNK_LINES
# Of these, lines about groups, each of which is tried by itself before.
MOST_GROUPS = 100


@dataclass(frozen=True, slots=True)
class Foreseen:
    """`preview`: None where too many lines can matter to devices that are known. `lines`: how many of them can."""

    lines: int
    preview: Preview | None


def foresee(run: ImportRun) -> Foreseen:
    """Of an import that was checked, and as long as its lines are kept. Raises SecretUnreadable."""
    service = run.service
    lines = [record for portion in _portions(run) for record in _that_matter(service, portion)]
    # All lines about an entry, or none: the second of two may only be right after the first.
    if len(lines) > MOST_LINES or sum(one.is_group for one in lines) > MOST_GROUPS:
        return Foreseen(len(lines), None)
    existing = _existing(service, lines)

    def change() -> list[Entry]:
        for start in range(0, len(lines), CHUNK_LINES):
            planned = plan(service.pk, lines[start : start + CHUNK_LINES], thoroughly=False)
            carry_out_changes(service, planned.changes, actor=NOBODY)
        were = {(type(one), one.pk) for one in existing}
        return [one for one in _existing(service, lines) if (type(one), one.pk) not in were]

    return Foreseen(len(lines), preview_of(service, change, existing))


def _portions(run: ImportRun) -> Iterator[list[Record]]:
    chunks = run.content.order_by("number").values_list("content", flat=True)
    return (from_text(text) for text in chunks.iterator(chunk_size=5))


def _that_matter(service: ProvisioningService, records: list[Record]) -> list[Record]:
    """Those about groups, about devices with a record or an entry, and those that bar keys under a new name (R6)."""
    keys = {registration_key(one.name) for one in records if not one.is_group}
    known = {
        *service.registrations.filter(registration_key__in=keys).values_list("registration_key", flat=True),
        *service.individualenrollments.filter(registration_key__in=keys).values_list(
            "registration_key", flat=True
        ),
        *(registration_key(one.name) for one in records if not one.is_group and _may_bar(one)),
    }
    return [one for one in records if one.is_group or registration_key(one.name) in known]


def _may_bar(record: Record) -> bool:
    """By the words of the line: of what adds a disabled entry with certificates."""
    is_disabled = "disabled" in str(record.message.get("provisioningStatus")).lower()
    return is_disabled and "x509" in str(record.message.get("attestation")).lower()


def _existing(service: ProvisioningService, records: list[Record]) -> list[Entry]:
    names = {
        is_group: [registration_key(one.name) for one in records if one.is_group is is_group]
        for is_group in (False, True)
    }
    individuals = service.individualenrollments.without_secrets().filter(registration_key__in=names[False])
    groups = service.enrollmentgroups.without_secrets().filter(group_key__in=names[True])
    return [*individuals.order_by("pk"), *groups.order_by("pk")]
