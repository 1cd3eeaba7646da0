"""The work on an import, step by step, by whoever holds it: check its file, carry out what was found good, end.

What a chunk changed and that it is done stand in one transaction: whoever goes on where somebody was killed begins with
the first chunk of which nothing was done.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from django.db.models import F, Q

from enrollments.actions.entries import check_epoch
from enrollments.actions.import_agreed import not_agreed_to, own_request_ids
from enrollments.actions.import_changes import Change, LineProblem, Tally, do_changes
from enrollments.actions.import_freed import Freed
from enrollments.actions.import_holding import NotHeld, held_run
from enrollments.actions.imports import empty_run, end_run
from enrollments.actions.people import may_still
from enrollments.audit.actor import Actor, Way
from enrollments.audit.record import require_still
from enrollments.errors import Conflict
from enrollments.models import ImportChunk, ImportProblem, ImportRun, ImportState, ProvisioningService
from enrollments.models.locks import change_lock
from enrollments.policy.roles import Right
from enrollments.policy.unknown import known


def begin_check(run_id: int, holder: str) -> None:
    """From the first line: whatever somebody who was killed had found is forgotten."""
    with held_run(run_id, holder, ImportState.CHECKING) as run:
        run.content.all().delete()
        run.problems.all().delete()
        run.lines = run.bad_lines = run.chunks = 0
        run.planned = {}
        run.save()


def keep_checked(run_id: int, holder: str, lines: int, content: str, tally: Tally) -> None:
    """A portion that was checked: `content` holds its good lines, `lines` counts all of them."""
    with held_run(run_id, holder, ImportState.CHECKING) as run:
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
    with held_run(run_id, holder, ImportState.CHECKING) as run:
        run.parts.all().delete()
        run.state, run.holder, run.held_until = ImportState.CHECKED, "", None
        run.save()
    return run


def refuse_file(run_id: int, holder: str, sentence: str) -> None:
    """The list or the ZIP as a whole cannot be read. Nothing was changed."""
    with held_run(run_id, holder, ImportState.CHECKING) as run:
        empty_run(run)
        run.problem, run.state = sentence[:500], ImportState.REFUSED
        run.save()


def carry_out(
    run_id: int,
    holder: str,
    number: int,
    changes: Sequence[Change],
    bad: Sequence[LineProblem],
    epoch: int,
    freed: Freed,
) -> ImportRun:
    """One chunk, in one transaction with the note that it is done: what one line cannot have hinders no other.

    freed: what was read of the history for the chunks before.
    Raises PreviewOutdated where something was changed after the changes were made up (`epoch`); ChangedSincePreview
    where it may do by now what nobody agreed to; NotHeld.
    """
    service = ImportRun.objects.select_related("service").get(pk=run_id).service
    with change_lock(service):
        check_epoch(service, epoch)
        with held_run(run_id, holder, ImportState.RUNNING) as run:
            if run.position != number:
                raise NotHeld
            actor = actor_of(run)
            require_still(actor)
            left_out = not_agreed_to(run, service, changes, freed)
            agreed = [one for one in changes if one.line not in left_out]
            run.position += 1
            _do(run, service, agreed, [*bad, *left_out.values()], actor)
    return run


def carry_out_of_waiting(
    run_id: int, holder: str, number: int, changes: Sequence[Change], rest: str, epoch: int
) -> ImportRun:
    """Of a chunk of a run that is about to pause, the lines by which nobody comes in; `rest`: the others, which wait.

    These nobody has to agree to. Whoever goes on where somebody was killed finds them gone from the chunk.
    Raises PreviewOutdated, NotHeld as above.
    """
    service = ImportRun.objects.select_related("service").get(pk=run_id).service
    with change_lock(service):
        check_epoch(service, epoch)
        with held_run(run_id, holder, ImportState.RUNNING) as run:
            actor = actor_of(run)
            require_still(actor)
            waiting = run.content.filter(number=number)
            if not waiting.update(content=rest, lines=F("lines") - len(changes)):
                raise NotHeld
            _do(run, service, changes, (), actor)
    return run


def _do(
    run: ImportRun,
    service: ProvisioningService,
    changes: Sequence[Change],
    bad: Iterable[LineProblem],
    actor: Actor,
) -> None:
    """Inside the change lock, with the note of what became of these lines."""
    tally = Tally()
    for problem in bad:
        tally.refuse(problem.line, problem.name, problem.sentence)
    run.lines_done += len(changes) + len(tally.problems)
    do_changes(service, changes, tally, actor=actor, reason=run.reason)
    _keep_problems(run, tally.problems, at_run=True)
    run.counts = _sum(run.counts, tally.counts)
    run.save()


def end_import(run_id: int, holder: str) -> ImportRun:
    with held_run(run_id, holder, ImportState.RUNNING) as run:
        end_run(run, ImportState.DONE, actor=actor_of(run))
    return run


def pause_import(run_id: int, holder: str, sentence: str = "") -> None:
    """Leave the rest undone, until somebody lets it go on."""
    with held_run(run_id, holder, ImportState.RUNNING) as run:
        run.state, run.problem, run.holder, run.held_until = ImportState.PAUSED, sentence[:500], "", None
        run.save()


def actor_of(run: ImportRun) -> Actor:
    """Whoever started it, as long as they still may: each chunk is asked about (R12)."""
    request_id = f"{own_request_ids(run)}{secrets.token_hex(8)}"  # the rows of its chunks; nobody guesses it, see Actor
    actor = Actor(run.actor_kind, run.actor_name, known(Way, run.way), run.address, request_id)
    if actor.kind != "user":
        return actor
    return replace(actor, still_may=_still_may(run.actor_name, run.service))


def _still_may(username: str, service: ProvisioningService) -> Callable[[], None]:
    def ask() -> None:
        if not may_still(Q(username=username), Right.CHANGE_ENTRIES, service):
            raise Conflict(
                f"{username}, who started this import, may not change entries of this service any more."
            )

    return ask


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
