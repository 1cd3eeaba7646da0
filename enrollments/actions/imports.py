"""Imports as people have them: hand a file over, start what was found good in it, cancel what is not done."""

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from enrollments.actions.entries import check_epoch, is_outdated
from enrollments.actions.import_agreed import NARROWS, latest_row
from enrollments.actions.import_holding import LEASE, locked_run
from enrollments.actions.outcomes import Outcome
from enrollments.actions.schedule import settle_if_possible
from enrollments.audit.actor import Actor, Way
from enrollments.audit.events import Event
from enrollments.audit.record import Subject, clean_reason, record, require_still
from enrollments.errors import Conflict, Invalid, NotFound
from enrollments.models import (
    ImportFormat,
    ImportPart,
    ImportPreview,
    ImportRun,
    ImportState,
    PartKind,
    ProvisioningService,
)
from enrollments.models.locks import change_lock

# Each keeps a whole file in the database until it has ended.
MAX_UNFINISHED = 5
# What nobody started, or went on with, is given up; what is left of ended ones are numbers and problems of lines.
ABANDONED = timedelta(days=7)
KEPT = timedelta(days=90)
# In place of an epoch: nobody saw a preview.
NOT_LOOKED_AT = -1


class ImportNotFound(NotFound):
    code = "import_not_found"

    def __init__(self, number: object) -> None:
        super().__init__(f"There is no import {str(number)[:20]} in this service.")


def begin_import(
    service: ProvisioningService,
    *,
    list_name: str,
    format: ImportFormat,
    archive_name: str = "",
    actor: Actor,
    reason: str = "",
) -> ImportRun:
    """A run that waits for its file. Nothing is history before it is started. Raises Invalid, Conflict."""
    reason = clean_reason(reason)
    forget_old_imports(service)
    with transaction.atomic():
        require_still(actor)
        # Two that begin at once are counted one after the other.
        ProvisioningService.objects.select_for_update().get(pk=service.pk)
        if service.imports.unfinished().count() >= MAX_UNFINISHED:
            raise Conflict(
                f"{MAX_UNFINISHED} imports of this service are unfinished: let them end, or cancel one."
            )
        return ImportRun.objects.create(
            service=service,
            format=format,
            list_name=_plain(list_name) or "list",
            archive_name=_plain(archive_name),
            reason=reason,
            actor_kind=actor.kind,
            actor_name=actor.name[:150],
            way=actor.way.value,
            address=actor.address[:45],
        )


def add_part(
    run: ImportRun,
    kind: PartKind,
    number: int,
    content: bytes,
    *,
    part_bytes: int,
    most: int,
    actor: Actor,
) -> None:
    """Keep the next piece of a file. Sent once more, the same piece is kept once. Raises Conflict, Invalid."""
    if not content or len(content) > part_bytes:
        raise Invalid({"": [f"A part of a file has 1 to {part_bytes} bytes."]})
    with transaction.atomic():
        run = locked_run(run.pk)
        require_still(actor)
        if run.state != ImportState.RECEIVING:
            raise Conflict("This import has its file already.")
        sizes = list(run.parts.filter(kind=kind).order_by("number").values_list("size", flat=True))
        if number < len(sizes):
            return
        if number != len(sizes) or (sizes and sizes[-1] != part_bytes):
            raise Conflict("The parts of a file have to come in their order: begin again.")
        if sum(sizes) + len(content) > most:
            raise Invalid({"": [f"The file has more than {most // 1024 // 1024} MB: split it."]})
        text = content.decode("latin-1")
        ImportPart.objects.create(run=run, kind=kind, number=number, size=len(content), content=text)
        run.save(update_fields=["touched_at"])


def file_is_there(run: ImportRun, *, actor: Actor) -> str:
    """All of it has come: it can be checked, by whoever asks first. Returns the word by which its holder is known.

    The caller holds it, and lets it go where somebody else shall check. Raises Conflict.
    """
    with transaction.atomic():
        run = locked_run(run.pk)
        require_still(actor)
        if run.state != ImportState.RECEIVING:
            raise Conflict("This import has its file already.")
        run.state, run.holder = ImportState.CHECKING, secrets.token_hex(16)
        run.held_until = timezone.now() + LEASE
        run.save()
    return run.holder


def start_import(
    run: ImportRun,
    *,
    without_bad_lines: bool,
    actor: Actor,
    expected_epoch: int,
    agreed: bool = True,
) -> ImportRun:
    """Let a checked run begin, or the rest of a paused one go on. Who starts it is whose name its changes bear.

    expected_epoch: see check_epoch; NOT_LOOKED_AT where there was no preview. It counts where somebody may come in by a
    line. A preview of another state was not what was looked at, and is not kept; then nobody has agreed to more than
    what the lines were when they were checked. agreed: whether somebody answered to the preview of that epoch; one that
    was worked out and asked nobody is agreed to by nobody.
    Raises Conflict where lines are bad and nobody said that they are to be left out; PreviewOutdated.
    """
    settle_if_possible(run.service)  # what is due by now is no change that somebody makes meanwhile
    with change_lock(run.service, raises_epoch=False):
        run = locked_run(run.pk)
        require_still(actor)
        if run.state == ImportState.RUNNING:
            return run
        if run.state not in (ImportState.CHECKED, ImportState.PAUSED):
            raise Conflict(f"This import cannot be started: it is {run.get_state_display().lower()}.")
        if run.bad_lines and not without_bad_lines and run.state == ImportState.CHECKED:
            raise Conflict(
                f"{_lines(run.bad_lines)} wrong: correct the list, or say that they are to be left out."
            )
        if not run.chunks:
            raise Conflict("No line of this list can be imported.")
        if may_widen(run):
            check_epoch(run.service, expected_epoch)
        standing = ProvisioningService.what_decisions_read(run.service_id)
        run.agreed_on = latest_row() if agreed and not is_outdated(standing, expected_epoch) else None
        if run.foreseen:
            run.foreseen = run.foreseen if run.foreseen["epoch"] == expected_epoch else None
        _forget_previews(run)
        run.actor_kind, run.actor_name, run.way = actor.kind, actor.name[:150], actor.way.value
        run.address = actor.address[:45]
        run.state, run.problem = ImportState.RUNNING, ""
        run.started_at = run.started_at or timezone.now()
        run.save()
        record(
            Event.IMPORT_STARTED,
            subject=_subject(run),
            actor=actor,
            service=run.service,
            reason=run.reason,
            after={
                "lines": run.lines,
                "left out": run.bad_lines,
                "done before": run.lines_done,
                **_but_refused(run.planned),
                **({"preview": _told(run.foreseen)} if run.foreseen else {}),
            },
        )
    return run


def may_widen(run: ImportRun) -> bool:
    """By its lines as they were checked. What is changed may let somebody in; what is disabled does not, unless it
    brings certificates by which others find a path."""
    return any(count for outcome, count in run.planned.items() if outcome not in NARROWS)


def cancel_import(run: ImportRun, *, actor: Actor, reason: str = "") -> ImportRun:
    """Give up what is not done; what is done stays. Whoever is carrying it out stops before the next chunk."""
    reason = clean_reason(reason)
    with transaction.atomic():
        run = locked_run(run.pk)
        require_still(actor)
        if not run.has_ended:
            end_run(run, ImportState.CANCELLED, actor=actor, reason=reason)
    return run


def forget_old_imports(service: ProvisioningService) -> None:
    """Give up what nobody went on with, and delete what is long over. The history keeps what was done."""
    now = timezone.now()
    resting = service.imports.unfinished().exclude(state=ImportState.RUNNING)
    for run in resting.filter(touched_at__lt=now - ABANDONED):
        cancel_import(run, actor=Actor("service", "imports", Way.SCHEDULE), reason="Nobody went on with it.")
    service.imports.filter(ended_at__lt=now - KEPT).delete()


def import_of(service: ProvisioningService, number: int) -> ImportRun:
    """Raises ImportNotFound."""
    try:
        return service.imports.get(pk=number)
    except ImportRun.DoesNotExist:
        raise ImportNotFound(number) from None


def end_run(run: ImportRun, state: ImportState, *, actor: Actor, reason: str = "") -> None:
    was_started = run.started_at is not None
    empty_run(run)
    run.state = state
    run.save()
    if was_started:
        record(
            Event.IMPORT_ENDED,
            subject=_subject(run),
            actor=actor,
            service=run.service,
            reason=reason or run.reason,
            after={
                "state": state.value,
                "lines": run.lines,
                "done": run.lines_done,
                **_but_refused(run.counts),
                "could not be carried out": run.counts.get(Outcome.REFUSED, 0),
            },
        )


def empty_run(run: ImportRun) -> None:
    """Nothing of the file is kept when the run has ended: it may hold keys."""
    run.parts.all().delete()
    run.content.all().delete()
    _forget_previews(run)
    run.ended_at, run.holder, run.held_until = timezone.now(), "", None


def _forget_previews(run: ImportRun) -> None:
    """Of a run that is locked. Whoever is working one out finds it gone; of them the run keeps its numbers alone.

    Locked first, so that nobody puts a portion in while they go.
    """
    if found := [one.pk for one in run.previews.select_for_update().only("pk")]:
        ImportPreview.objects.filter(pk__in=found).delete()


def _but_refused(counts: Mapping[str, int]) -> dict[str, int]:
    """For the history, in which devices are refused, and lines have words of their own."""
    return {outcome: count for outcome, count in counts.items() if outcome != Outcome.REFUSED}


def _told(foreseen: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a preview alone, for the history: devices by what becomes of them."""
    effects = {name.replace("_", " "): one["devices"] for name, one in foreseen["effects"].items()}
    told = {
        "epoch": foreseen["epoch"],
        "devices": {name: count for name, count in effects.items() if count},
        "not examined": foreseen["not_examined"],
    }
    if comings := foreseen.get("to_come"):
        told["to come"] = {one["words"].rstrip(":"): _told(one)["devices"] for one in comings}
    if later := foreseen.get("later"):
        told |= {"turning": foreseen["turning"], "once turned": _told(later)}
    return told


def _lines(number: int) -> str:
    return "1 line is" if number == 1 else f"{number} lines are"


def _subject(run: ImportRun) -> Subject:
    return Subject("import", run.list_name, str(run.pk))


def _plain(name: str) -> str:
    """The name of a file as it is shown: no path, nothing unprintable, of bounded length."""
    text = name.replace("\\", "/").rpartition("/")[2]
    return "".join(character for character in text if character.isprintable())[:200]
