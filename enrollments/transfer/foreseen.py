"""What a checked import would do to the devices that are known.

Of a list most lines add devices that nobody knows, and change nothing for those that are. They are left out before they
are planned, so that they cost no more than being read.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from enrollments.actions.attempts_certificates import shown_at_attempts
from enrollments.actions.attempts_keys import keys_at_attempts
from enrollments.actions.import_changes import Change
from enrollments.actions.preview import Preview
from enrollments.actions.preview.limits import Limits, at_a_glance
from enrollments.actions.preview.lists import preview_of_list
from enrollments.actions.preview.progress import Step
from enrollments.collecting import collect_what_is_new
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


@dataclass(frozen=True, slots=True)
class HowFar:
    """`of`: where it is known. is_later: whether that is about `Foreseen.later`."""

    step: Step
    done: int
    of: int | None = None
    is_later: bool = False


Tell = Callable[[HowFar], None]


def foresee(run: ImportRun, limits: Limits | None = None, *, tell: Tell = lambda _: None) -> Foreseen:
    """Of an import that was checked, or of the rest of one that was paused. Raises SecretUnreadable.

    limits: as much as can be told at a glance, unless it is said. What `tell` raises ends it.
    """
    turning: set[int] = set()
    limits = limits or at_a_glance()
    came = shown_at_attempts(run.service, limits.attempts)
    signed = keys_at_attempts(run.service, limits.attempts)
    known = {*came, *signed}

    def portions(only: Collection[str] | None = None) -> Iterator[Sequence[Change]]:
        for changes in _changes(run, known, tell, only):
            turning.update(one.line for one in changes if _turns(one))
            yield changes

    now = preview_of_list(run.service, portions, limits, came, signed, _of_devices(tell, is_later=False))
    if not turning:
        return Foreseen(now)
    turned = partial(_turned_portions, run, known, tell)
    later = preview_of_list(run.service, turned, limits, came, signed, _of_devices(tell, is_later=True))
    return Foreseen(now, len(turning), later)


def _of_devices(tell: Tell, *, is_later: bool) -> Callable[[Step, int], None]:
    return lambda step, done: tell(HowFar(step, done, is_later=is_later))


def _turns(change: Change) -> bool:
    return change.spec is not None and change.spec.switches_at is not None


def _turned_portions(
    run: ImportRun, came: Collection[str], tell: Tell, only: Collection[str] | None = None
) -> Iterator[Sequence[Change]]:
    return (list(map(_turned, changes)) for changes in _changes(run, came, tell, only, is_later=True))


def _turned(change: Change) -> Change:
    """As if the line said what has become of the entry once its time has come."""
    if change.spec is None or change.spec.switches_at is None:
        return change
    spec = change.spec
    turned = replace(
        spec, enabled=not spec.enabled, for_good=spec.enabled, switches_at=None, schedule_reason=None
    )
    return replace(change, spec=turned)


def _changes(
    run: ImportRun,
    came: Collection[str],
    tell: Tell,
    only: Collection[str] | None = None,
    *,
    is_later: bool = False,
) -> Iterator[Sequence[Change]]:
    """What carrying it out would do, portion by portion; what would be refused then is not among it.

    only: see Portions.
    """
    done = 0
    for records in _portions(run):
        tell(HowFar(Step.READING, done, run.lines - run.bad_lines - run.lines_done, is_later))
        if lines := _that_matter(run.service, records, came) if only is None else _about(records, only):
            changes = plan(run.service_id, lines, thoroughly=False, compares=False).changes
            # Entries and what was read with them refer to each other: a portion's are of no use to the next.
            collect_what_is_new()
            yield changes
        done += len(records)


def _portions(run: ImportRun) -> Iterator[list[Record]]:
    """What is not done yet."""
    chunks = run.content.filter(number__gte=run.position).order_by("number").values_list("content", flat=True)
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


def _about(records: list[Record], devices: Collection[str]) -> list[Record]:
    return [one for one in records if not one.is_group and registration_key(one.name) in devices]


def _may_bar(record: Record) -> bool:
    """By the words of the line: of what adds an entry with certificates that is disabled, or will be."""
    is_disabled = "disabled" in str(record.message.get("provisioningStatus")).lower()
    return (is_disabled or record.switches_at is not None) and "x509" in str(
        record.message.get("attestation")
    ).lower()
