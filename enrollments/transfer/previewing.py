"""Working out what a checked import would do, in a thread that goes on without anybody watching.

A worker that is killed leaves a preview that nobody holds after a while; whoever looks at it then begins it anew.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from django.db import DatabaseError, connections

from enrollments.actions.import_holding import NotHeld
from enrollments.actions.import_previews import (
    claim_preview,
    end_preview,
    fail_preview,
    keep_portions,
    leave_preview,
    preview_begun,
    preview_wanted,
    tell_progress,
)
from enrollments.actions.preview.limits import NO_LIMITS, turn_to_examine_all
from enrollments.actions.schedule import standing_now
from enrollments.errors import DpsError, PreviewOutdated
from enrollments.models import ImportPreview, ImportRun, ProvisioningService
from enrollments.transfer.foreseen import HowFar, foresee
from enrollments.transfer.kept import numbers_of, told_of
from enrollments.transfer.kept_devices import portions_of
from enrollments.transfer.words import NOT_THE_LIST, WAITING

logger = logging.getLogger(__name__)

# Between two signs of life, at each of which it is seen whether the preview is still wanted.
EVERY_SECONDS = 1.0


def work_out_preview(run_id: int, *, everyone: bool = False) -> None:
    """If it is to be worked out, and nobody else does it. Whatever goes wrong is written on the preview."""
    run = ImportRun.objects.select_related("service").get(pk=run_id)
    with _turn(everyone) as has_turn:
        # Whoever watches asks once a second: only the first time it is written down that this one waits.
        if not has_turn and _is_said_to_wait(run):
            return
        preview = claim_preview(run.pk, standing_now(run.service).epoch, everyone=everyone)
        if preview is None:
            return
        if has_turn:
            _work_out_or_say_why(run, preview)
        else:
            leave_preview(preview, {"step": WAITING})


def _is_said_to_wait(run: ImportRun) -> bool:
    begun = preview_begun(run, everyone=True)
    return begun is not None and not begun.is_held and begun.progress.get("step") == WAITING


def _work_out_or_say_why(run: ImportRun, preview: ImportPreview) -> None:
    try:
        _work_out(run, preview)
    except NotHeld:
        return
    except PreviewOutdated:
        leave_preview(preview)
    except DpsError as problem:
        fail_preview(preview, problem.message)
    except DatabaseError:
        # It may pass: whoever looks next begins it anew.
        logger.exception("a preview was interrupted", extra={"fields": {"import": run.pk}})
        leave_preview(preview)
    except Exception:  # of a thread nobody else would hear
        logger.exception("a preview failed", extra={"fields": {"import": run.pk}})
        fail_preview(preview, NOT_THE_LIST)


def _work_out(run: ImportRun, preview: ImportPreview) -> None:
    seen = foresee(run, NO_LIMITS if preview.everyone else None, tell=_Telling(preview))
    parts = [(False, seen.now), *([(True, seen.later)] if seen.later is not None else [])]
    for is_later, part in parts:
        keep_portions(preview, portions_of(preview, part, is_later=is_later))
    end_preview(preview, told_of(seen), numbers_of(seen))


@contextmanager
def _turn(everyone: bool) -> Iterator[bool]:
    if not everyone:
        yield True
        return
    with turn_to_examine_all() as has_turn:
        yield has_turn


@dataclass
class _Telling:
    """Says how far it is, now and then. Raises NotHeld, and PreviewOutdated where it would be of no use any more."""

    preview: ImportPreview
    next_at: float = 0.0

    def __call__(self, far: HowFar) -> None:
        if monotonic() < self.next_at:
            return
        self.next_at = monotonic() + EVERY_SECONDS
        self.preview.progress = _as_json(far)
        tell_progress(self.preview, self.preview.progress)
        service = self.preview.run.service
        if ProvisioningService.epoch_of(service.pk) != self.preview.epoch:
            raise PreviewOutdated(str(service))


def _as_json(far: HowFar) -> dict[str, Any]:
    told = {"step": far.step.value, "done": far.done, "of": far.of}
    return {**told, "is_later": far.is_later, "is_to_come": far.is_to_come}


def work_out_where_wanted(run: ImportRun, *, everyone: bool = False) -> None:
    """In a thread of this process, where nobody has worked it out or does so."""
    if preview_wanted(run, everyone=everyone):
        in_background(run.pk, everyone=everyone)


def in_background(run_id: int, *, everyone: bool) -> None:
    name = f"preview of import {run_id}"
    threading.Thread(target=_apart, args=(run_id, everyone), name=name, daemon=True).start()


def _apart(run_id: int, everyone: bool) -> None:
    try:
        work_out_preview(run_id, everyone=everyone)
    finally:
        connections.close_all()
