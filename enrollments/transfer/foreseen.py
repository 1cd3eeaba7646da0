"""What a checked import would do to the devices that are known.

Of a list most lines add devices that nobody knows, and change nothing for those that are. They are left out before they
are planned, so that they cost no more than being read.
"""

from collections.abc import Iterator, Sequence

from enrollments.actions.imports import Change
from enrollments.actions.preview import Preview
from enrollments.actions.preview.lists import preview_of_list
from enrollments.models import ImportRun, ProvisioningService
from enrollments.policy.names import registration_key
from enrollments.transfer.lines import Record
from enrollments.transfer.planning import from_text, plan


def foresee(run: ImportRun) -> Preview:
    """Of an import that was checked, and as long as its lines are kept. Raises SecretUnreadable."""
    return preview_of_list(run.service, lambda: _changes(run))


def _changes(run: ImportRun) -> Iterator[Sequence[Change]]:
    """What carrying it out would do, portion by portion; what would be refused then is not among it."""
    for records in _portions(run):
        if lines := _that_matter(run.service, records):
            yield plan(run.service_id, lines, thoroughly=False, compares=False).changes


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
