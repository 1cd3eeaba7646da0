"""Imports: receive a file, keep what was found good in it, carry that out chunk by chunk, and end.

What a chunk changed and that it is done stand in one transaction: whoever goes on where somebody was killed begins with
the first chunk of which nothing was done.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from enrollments.actions.entries import check_epoch
from enrollments.actions.import_changes import Change, LineProblem, Tally, do_changes
from enrollments.actions.outcomes import Outcome
from enrollments.actions.people import has_right
from enrollments.audit.actor import Actor, Way
from enrollments.audit.events import Event
from enrollments.audit.record import Subject, clean_reason, record
from enrollments.errors import Conflict, DpsError, Invalid, NotFound
from enrollments.models import (
    ImportChunk,
    ImportFormat,
    ImportPart,
    ImportPreview,
    ImportProblem,
    ImportRun,
    ImportState,
    PartKind,
    ProvisioningService,
)
from enrollments.models.imports import WORKING
from enrollments.models.locks import change_lock
from enrollments.policy.roles import Right

# Each keeps a whole file in the database until it has ended.
MAX_UNFINISHED = 5
# Whoever holds a run says so with each chunk. After this long without a sign of life it is somebody else's.
LEASE = timedelta(seconds=30)
# What nobody started, or went on with, is given up; what is left of ended ones are numbers and problems of lines.
ABANDONED = timedelta(days=7)
KEPT = timedelta(days=90)


class ImportNotFound(NotFound):
    code = "import_not_found"

    def __init__(self, number: object) -> None:
        super().__init__(f"There is no import {str(number)[:20]} in this service.")


class NotHeld(DpsError):
    """Somebody else has the run by now, or it was stopped: whoever is told so leaves it alone."""

    code = "import_not_held"

    def __init__(self) -> None:
        super().__init__("The import was stopped, or somebody else is carrying it out.")


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
    run: ImportRun, kind: PartKind, number: int, content: bytes, *, part_bytes: int, most: int
) -> None:
    """Keep the next piece of a file. Sent once more, the same piece is kept once. Raises Conflict, Invalid."""
    if not content or len(content) > part_bytes:
        raise Invalid({"": [f"A part of a file has 1 to {part_bytes} bytes."]})
    with transaction.atomic():
        run = locked_run(run.pk)
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


def file_is_there(run: ImportRun) -> str:
    """All of it has come: it can be checked, by whoever asks first. Returns the word by which its holder is known.

    The caller holds it, and lets it go where somebody else shall check. Raises Conflict.
    """
    with transaction.atomic():
        run = locked_run(run.pk)
        if run.state != ImportState.RECEIVING:
            raise Conflict("This import has its file already.")
        run.state, run.holder = ImportState.CHECKING, secrets.token_hex(16)
        run.held_until = timezone.now() + LEASE
        run.save()
    return run.holder


def hold(run_id: int) -> tuple[ImportRun, str] | None:
    """Take a run that is to be worked on and that nobody has; None where somebody does."""
    now, holder = timezone.now(), secrets.token_hex(16)
    free = ImportRun.objects.filter(Q(held_until=None) | Q(held_until__lt=now), pk=run_id)
    if not free.filter(state__in=WORKING).update(holder=holder, held_until=now + LEASE):
        return None
    return ImportRun.objects.select_related("service").get(pk=run_id), holder


def let_go(run_id: int, holder: str) -> None:
    ImportRun.objects.filter(pk=run_id, holder=holder).update(holder="", held_until=None)


def begin_check(run_id: int, holder: str) -> None:
    """From the first line: whatever somebody who was killed had found is forgotten."""
    with _held(run_id, holder, ImportState.CHECKING) as run:
        run.content.all().delete()
        run.problems.all().delete()
        run.lines = run.bad_lines = run.chunks = 0
        run.planned = {}
        run.save()


def keep_checked(run_id: int, holder: str, lines: int, content: str, tally: Tally) -> None:
    """A portion that was checked: `content` holds its good lines, `lines` counts all of them."""
    with _held(run_id, holder, ImportState.CHECKING) as run:
        good = lines - len(tally.problems)
        if good:
            ImportChunk.objects.create(run=run, number=run.chunks, lines=good, content=content)
            run.chunks += 1
        _keep_problems(run, tally.problems, at_run=False)
        run.lines += lines
        run.bad_lines += len(tally.problems)
        run.planned = _sum(run.planned, tally.counts)
        run.save()


def end_check(run_id: int, holder: str) -> ImportRun:
    with _held(run_id, holder, ImportState.CHECKING) as run:
        run.parts.all().delete()
        run.state, run.holder, run.held_until = ImportState.CHECKED, "", None
        run.save()
    return run


def refuse_file(run_id: int, holder: str, sentence: str) -> None:
    """The list or the ZIP as a whole cannot be read. Nothing was changed."""
    with _held(run_id, holder, ImportState.CHECKING) as run:
        _empty(run)
        run.problem, run.state = sentence[:500], ImportState.REFUSED
        run.save()


def start_import(
    run: ImportRun, *, without_bad_lines: bool, actor: Actor, expected_epoch: int | None = None
) -> ImportRun:
    """Let a checked run begin, or a paused one go on. Who starts it is whose name its changes bear.

    expected_epoch: see check_epoch. It counts where somebody may come in by a line, and nothing is done yet. A preview
    of another state was not what was looked at, and is not kept.
    Raises Conflict where lines are bad and nobody said that they are to be left out; PreviewOutdated.
    """
    with transaction.atomic():
        run = locked_run(run.pk)
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
        if run.state == ImportState.CHECKED and may_widen(run):
            check_epoch(run.service, expected_epoch)
        if run.state == ImportState.CHECKED and expected_epoch is not None and run.foreseen:
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
    narrows = (Outcome.DISABLED, Outcome.ADDED_DISABLED, Outcome.UNCHANGED, Outcome.REFUSED)
    return any(count for outcome, count in run.planned.items() if outcome not in narrows)


def carry_out(
    run_id: int, holder: str, number: int, changes: Sequence[Change], bad: Sequence[LineProblem], epoch: int
) -> ImportRun:
    """One chunk, in one transaction with the note that it is done: what one line cannot have hinders no other.

    Raises PreviewOutdated where something was changed after the changes were made up (`epoch`); NotHeld.
    """
    service = ImportRun.objects.select_related("service").get(pk=run_id).service
    with change_lock(service):
        check_epoch(service, epoch)
        with _held(run_id, holder, ImportState.RUNNING) as run:
            if run.position != number:
                raise NotHeld
            actor = actor_of(run)
            if actor.still_may is not None:
                actor.still_may()
            tally = Tally()
            for problem in bad:
                tally.refuse(problem.line, problem.name, problem.sentence)
            do_changes(service, changes, tally, actor=actor, reason=run.reason)
            _keep_problems(run, tally.problems, at_run=True)
            run.position += 1
            run.lines_done += len(changes) + len(bad)
            run.counts = _sum(run.counts, tally.counts)
            run.save()
    return run


def end_import(run_id: int, holder: str) -> ImportRun:
    with _held(run_id, holder, ImportState.RUNNING) as run:
        _end(run, ImportState.DONE, actor=actor_of(run))
    return run


def pause_import(run_id: int, holder: str, sentence: str = "") -> None:
    """Leave the rest undone, until somebody lets it go on."""
    with _held(run_id, holder, ImportState.RUNNING) as run:
        run.state, run.problem, run.holder, run.held_until = ImportState.PAUSED, sentence[:500], "", None
        run.save()


def cancel_import(run: ImportRun, *, actor: Actor, reason: str = "") -> ImportRun:
    """Give up what is not done; what is done stays. Whoever is carrying it out stops before the next chunk."""
    reason = clean_reason(reason)
    with transaction.atomic():
        run = locked_run(run.pk)
        if not run.has_ended:
            _end(run, ImportState.CANCELLED, actor=actor, reason=reason)
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


def actor_of(run: ImportRun) -> Actor:
    """Whoever started it, as long as they still may: each chunk is asked about (R12)."""
    request_id = (
        f"import {run.pk} {secrets.token_hex(8)}"  # the rows of its chunks; nobody guesses it, see Actor
    )
    actor = Actor(run.actor_kind, run.actor_name, Way(run.way), run.address, request_id)
    if actor.kind != "user":
        return actor
    return replace(actor, still_may=_still_may(run.actor_name, run.service))


def _still_may(username: str, service: ProvisioningService) -> Callable[[], None]:
    def ask() -> None:
        user = User.objects.filter(username=username, is_active=True).first()
        if user is None or not has_right(user, Right.CHANGE_ENTRIES, service):
            raise Conflict(
                f"{username}, who started this import, may not change entries of this service any more."
            )

    return ask


class _held:
    """A transaction in which the run is this holder's, in this state; it is, for another while, afterwards."""

    def __init__(self, run_id: int, holder: str, state: ImportState) -> None:
        self._run_id, self._holder, self._state = run_id, holder, state
        self._atomic = transaction.atomic()

    def __enter__(self) -> ImportRun:
        self._atomic.__enter__()
        try:
            run = locked_run(self._run_id)
            if run.holder != self._holder or run.state != self._state:
                raise NotHeld
            run.held_until = timezone.now() + LEASE
        except BaseException as problem:
            self._atomic.__exit__(type(problem), problem, problem.__traceback__)
            raise
        return run

    def __exit__(self, *exception: Any) -> None:
        self._atomic.__exit__(*exception)


def _end(run: ImportRun, state: ImportState, *, actor: Actor, reason: str = "") -> None:
    was_started = run.started_at is not None
    _empty(run)
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


def _empty(run: ImportRun) -> None:
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


def locked_run(run_id: int) -> ImportRun:
    """Inside a transaction. Raises NotHeld where it is gone."""
    try:
        return ImportRun.objects.select_related("service").select_for_update(of=("self",)).get(pk=run_id)
    except ImportRun.DoesNotExist:
        raise NotHeld from None


def _keep_problems(run: ImportRun, problems: Iterable[LineProblem], *, at_run: bool) -> None:
    ImportProblem.objects.bulk_create(
        ImportProblem(
            run=run, line=one.line, name=one.name[:130], sentence=_storable(one.sentence), at_run=at_run
        )
        for one in problems
    )


def _storable(sentence: str) -> str:
    """Of what comes from outside nothing that a database could not hold."""
    return sentence.replace("\x00", "").encode("utf-8", "replace").decode()[:2000] or "It cannot be imported."


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


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
