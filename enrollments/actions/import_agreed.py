"""What a line of an import may still do at its turn: no more than somebody agreed to who saw its preview (R12).

A long list is carried out in portions, and others go on changing the service meanwhile. Whatever one of them did to an
entry or above it after the preview was looked at, nobody who agreed has seen; least of all that it shut somebody out.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from django.db.models import Max
from django.db.models.functions import Lower

from enrollments.actions.import_changes import Change, LineProblem
from enrollments.actions.import_freed import Freed
from enrollments.actions.outcomes import Outcome
from enrollments.audit.events import Event
from enrollments.errors import Conflict
from enrollments.models import HistoryEvent, ImportRun, ProvisioningService
from enrollments.policy.names import registration_key
from enrollments.policy.unknown import known

if TYPE_CHECKING:
    from django.db.models import QuerySet

# What a line comes to by which nobody comes in.
NARROWS = frozenset({Outcome.DISABLED, Outcome.ADDED_DISABLED, Outcome.UNCHANGED, Outcome.REFUSED})

_OF_ENTRIES = [event for event in Event if event.partition(".")[0] in ("enrollment", "group")]
# What may have changed what is decided about other entries' devices.
_OF_ALL = [
    *(event for event in _OF_ENTRIES if event.partition(".")[0] == "group"),
    Event.CA_VERIFIED,
    Event.CA_DELETED,
    Event.SERVICE_CHANGED,
]

_NOT_LOOKED_AT = (
    "As things stand now this may let its device in, which it did not when the list was checked. Import the line anew, "
    "and look at its preview."
)


class ChangedSincePreview(Conflict):
    """The rest may do what the preview did not tell: somebody has to look at what it does now."""

    code = "import_changed_since_preview"


def latest_row() -> int:
    """Of the history, inside the change lock: no later change is before it."""
    return HistoryEvent.objects.aggregate(latest=Max("pk"))["latest"] or 0


def own_request_ids(run: ImportRun) -> str:
    """How those begin that the rows of a run's portions bear. Requests have others, which nobody chooses."""
    return request_ids_of(run.pk)


def request_ids_of(number: int) -> str:
    """The same of a run that may be gone."""
    return f"import {number} "


def only_narrows(change: Change) -> bool:
    """Whether nobody comes in by it: then it waits for nobody."""
    return change.drops_pins or (change.outcome in NARROWS and not change.helps_others)


def narrow_by_themselves(changes: Sequence[Change]) -> list[Change]:
    """Those by which nobody comes in, and that wait for none that may be otherwise: for a predecessor that it adds."""
    found: list[Change] = []
    added: set[str] = set()
    for one in changes:
        if only_narrows(one) and (
            not one.awaited_predecessor or registration_key(one.awaited_predecessor) in added
        ):
            found.append(one)
            added |= {registration_key(one.name)} if one.is_group else set()
    return found


def not_agreed_to(
    run: ImportRun, service: ProvisioningService, changes: Sequence[Change], freed: Freed
) -> dict[int, LineProblem]:
    """Inside the change lock: by their numbers the lines that may let somebody in, and nobody has agreed to that.

    freed: see Freed. Raises ChangedSincePreview where that cannot be said line by line.
    """
    widening = [one for one in changes if not only_narrows(one)]
    if not widening:
        return {}
    if run.agreed_on is None:
        return {one.line: LineProblem(one.line, one.name, _NOT_LOOKED_AT) for one in widening}
    since = HistoryEvent.objects.filter(service_id=service.pk, pk__gt=run.agreed_on)
    since = since.exclude(request_id__startswith=own_request_ids(run)).order_by("pk")
    if (row := since.filter(event__in=_OF_ALL).last()) is not None:
        raise _changed(row)
    touched = {problem.line: problem for problem in _touched(since, widening)}
    others = [one for one in widening if one.line not in touched]
    if (row := freed.matters_to(run, service, others, latest_row(), own_request_ids(run))) is not None:
        raise _changed(row)
    return touched


def _changed(row: HistoryEvent) -> ChangedSincePreview:
    return ChangedSincePreview(
        f"{_who_did_what(row)} after the preview on which this import was started. What only shuts out goes on by "
        "itself; look at what the rest of it does now, and let it go on."
    )


def _touched(since: "QuerySet[HistoryEvent]", widening: Sequence[Change]) -> Iterator[LineProblem]:
    """Lines about individual enrollments that somebody else changed, deleted or made; of groups all are told above."""
    lines = {registration_key(one.name): one for one in widening if not one.is_group}
    rows = since.alias(key=Lower("subject_name")).filter(key__in=lines, event__in=_OF_ENTRIES)
    for key, row in {registration_key(row.subject_name): row for row in rows}.items():
        if (line := lines.get(key)) is not None:
            sentence = (
                f"{_who_did_what(row)} after the preview on which this import was started, so the entry is left as it "
                "is. Import the line anew to see what it does now."
            )
            yield LineProblem(line.line, line.name, sentence)


def _who_did_what(row: HistoryEvent) -> str:
    who = row.actor_name or row.actor_kind
    return f"{who} {known(Event, row.event).in_words} {row.subject_name}"
