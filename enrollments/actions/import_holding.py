"""Who has a run in hand: whoever holds it works on it, and says so with each step."""

import secrets
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from enrollments.errors import DpsError
from enrollments.models import ImportRun, ImportState
from enrollments.models.imports import WORKING

# Whoever holds a run says so with each chunk. After this long without a sign of life it is somebody else's.
LEASE = timedelta(seconds=30)


class NotHeld(DpsError):
    """Somebody else has the run by now, or it was stopped: whoever is told so leaves it alone."""

    code = "import_not_held"

    def __init__(self) -> None:
        super().__init__("The import was stopped, or somebody else is carrying it out.")


def hold(run_id: int) -> tuple[ImportRun, str] | None:
    """Take a run that is to be worked on and that nobody has; None where somebody does."""
    now, holder = timezone.now(), secrets.token_hex(16)
    free = ImportRun.objects.filter(Q(held_until=None) | Q(held_until__lt=now), pk=run_id)
    if not free.filter(state__in=WORKING).update(holder=holder, held_until=now + LEASE):
        return None
    return ImportRun.objects.select_related("service").get(pk=run_id), holder


def let_go(run_id: int, holder: str) -> None:
    ImportRun.objects.filter(pk=run_id, holder=holder).update(holder="", held_until=None)


def say_alive(run_id: int, holder: str) -> None:
    """Where long nothing is written. Raises NotHeld where it was stopped, or somebody else has it."""
    with held_run(run_id, holder, ImportState.RUNNING) as run:
        run.save(update_fields=["held_until", "touched_at"])


class held_run:
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


def locked_run(run_id: int) -> ImportRun:
    """Inside a transaction. Raises NotHeld where it is gone."""
    try:
        return ImportRun.objects.select_related("service").select_for_update(of=("self",)).get(pk=run_id)
    except ImportRun.DoesNotExist:
        raise NotHeld from None
