"""What a checked import would do to the devices that are known.

Of a list most lines add devices that nobody knows, and change nothing for those that are. They are left out before they
are planned, so that they cost no more than being read.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from enrollments.actions.attempts import devices_that_came
from enrollments.actions.imports import Change
from enrollments.actions.preview import Preview
from enrollments.actions.preview.lately import Lately
from enrollments.actions.preview.limits import Limits, at_a_glance
from enrollments.actions.preview.lists import preview_of_list
from enrollments.models import ImportRun, ProvisioningService
from enrollments.policy.names import registration_key
from enrollments.transfer.lines import Record
from enrollments.transfer.planning import from_text, plan


@dataclass(frozen=True, slots=True)
class Foreseen:
    """`now`: what holds once it is carried out.

    turning: how many entries, of those that can matter to known devices, are to turn by themselves at a time that the
    list gives. later: what holds once all of them have, if there are any; certificates are judged by their dates now.
    """

    now: Preview
    turning: int = 0
    later: Preview | None = None


def foresee(run: ImportRun, limits: Limits | None = None) -> Foreseen:
    """Of an import that was checked, and as long as its lines are kept. Raises SecretUnreadable.

    limits: as much as can be told at a glance, unless it is said.
    """
    turning: set[int] = set()
    limits = limits or at_a_glance()
    came = devices_that_came(run.service, limits.attempts)

    def portions() -> Iterator[Sequence[Change]]:
        for changes in _changes(run, came):
            turning.update(one.line for one in changes if _turns(one))
            yield changes

    now = preview_of_list(run.service, portions, limits, came)
    if not turning:
        return Foreseen(now)
    later = preview_of_list(run.service, partial(_turned_portions, run, came), limits, came)
    return Foreseen(now, len(turning), later)


def _turns(change: Change) -> bool:
    return change.spec is not None and change.spec.switches_at is not None


def _turned_portions(run: ImportRun, came: Collection[str]) -> Iterator[Sequence[Change]]:
    return (list(map(_turned, changes)) for changes in _changes(run, came))


def _turned(change: Change) -> Change:
    """As if the line said what has become of the entry once its time has come."""
    if change.spec is None or change.spec.switches_at is None:
        return change
    spec = change.spec
    turned = replace(
        spec, enabled=not spec.enabled, for_good=spec.enabled, switches_at=None, schedule_reason=""
    )
    return replace(change, spec=turned)


def foreseen_lately(run: ImportRun, limits: Limits | None = None) -> Foreseen:
    """As `foresee`, or what it said within the last minutes in this process, if nothing has changed since."""
    return _LATELY.of(run.service, (run.pk, limits), lambda: foresee(run, limits))


_LATELY: Lately[Foreseen] = Lately()


def _changes(run: ImportRun, came: Collection[str]) -> Iterator[Sequence[Change]]:
    """What carrying it out would do, portion by portion; what would be refused then is not among it."""
    for records in _portions(run):
        if lines := _that_matter(run.service, records, came):
            yield plan(run.service_id, lines, thoroughly=False, compares=False).changes


def _portions(run: ImportRun) -> Iterator[list[Record]]:
    chunks = run.content.order_by("number").values_list("content", flat=True)
    return (from_text(text) for text in chunks.iterator(chunk_size=5))


def _that_matter(service: ProvisioningService, records: list[Record], came: Collection[str]) -> list[Record]:
    """Those about groups, about devices that are known, and those that bar keys under a new name (R6).

    Known by a record, by an entry, or by an attempt (`came`).
    """
    keys = {registration_key(one.name) for one in records if not one.is_group}
    known = {
        *keys.intersection(came),
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
