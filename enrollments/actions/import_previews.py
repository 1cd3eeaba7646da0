"""Previews of checked imports: claimed by whoever works one out, told of while that goes on, and kept until it starts.

Nothing of it decides anything: an import is started on an epoch (R12), and each line is judged once more at its turn.
"""

import secrets
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from enrollments.actions.entries import is_outdated
from enrollments.actions.import_holding import LEASE, NotHeld, locked_run
from enrollments.models import (
    ImportPreview,
    ImportPreviewPortion,
    ImportRun,
    ImportState,
    ProvisioningService,
)
from enrollments.models.services import Standing

# Some steps of a large service take longer than a portion of lines.
PREVIEW_LEASE = 2 * LEASE
# On one epoch devices register, and certificates pass their dates: afterwards it is worked out anew for who looks.
HOLDS = timedelta(hours=1)
# Why one cannot be told may pass sooner.
FAILURE_HOLDS = timedelta(minutes=1)
# Somebody has to say that it starts, or goes on.
WAITING = (ImportState.CHECKED, ImportState.PAUSED)
# Portions that are written in one transaction.
TOGETHER = 10


def preview_wanted(run: ImportRun, *, everyone: bool) -> bool:
    """Whether it is to be worked out, and nobody does that: there is none yet, or the state is another by now."""
    if not can_be_foreseen(run) or preview_kept(run, everyone=everyone) is not None:
        return False
    begun = preview_begun(run, everyone=everyone)
    return begun is None or not begun.is_held


def can_be_foreseen(run: ImportRun) -> bool:
    """Whether it, or the rest of it, waits to be started, with something to do."""
    return run.state in WAITING and run.chunks > run.position


def preview_kept(run: ImportRun, *, everyone: bool) -> ImportPreview | None:
    """That of the state that holds now, once it has ended; at a glance, one of everyone is as good."""
    wanted = run.previews.filter(ended_at__isnull=False)
    wanted = wanted.filter(everyone=True) if everyone else wanted.order_by("-everyone")
    found = sorted(wanted, key=lambda one: one.told is None)  # one that failed hides no other
    if not found:
        return None
    standing = ProvisioningService.what_decisions_read(run.service_id)
    return next((one for one in found if _holds(one, standing)), None)


def preview_begun(run: ImportRun, *, everyone: bool) -> ImportPreview | None:
    """One that somebody is working out, or has left."""
    return run.previews.filter(ended_at=None, everyone=everyone).first()


def claim_preview(run_id: int, epoch: int, *, everyone: bool) -> ImportPreview | None:
    """Begin to work it out on this state, for `holder`; None where there is nothing to do, or somebody does it."""
    now = timezone.now()
    with transaction.atomic():
        run = locked_run(run_id)
        if not can_be_foreseen(run) or preview_kept(run, everyone=everyone) is not None:
            return None
        there = run.previews.select_for_update().filter(everyone=everyone).first()
        if there is not None:
            if there.ended_at is None and there.is_held:
                return None
            there.delete()
        return ImportPreview.objects.create(
            run=run,
            everyone=everyone,
            epoch=epoch,
            holder=secrets.token_hex(16),
            held_until=now + PREVIEW_LEASE,
            began_at=now,
        )


def tell_progress(preview: ImportPreview, progress: Mapping[str, Any]) -> None:
    """A sign of life, too. Raises NotHeld where the import was started or cancelled, or somebody else has it."""
    held = ImportPreview.objects.filter(pk=preview.pk, holder=preview.holder, ended_at=None)
    if not held.update(progress=progress, held_until=timezone.now() + PREVIEW_LEASE):
        raise NotHeld


def leave_preview(preview: ImportPreview, progress: Mapping[str, Any] | None = None) -> None:
    """Whoever looks next may begin it anew at once."""
    held = ImportPreview.objects.filter(pk=preview.pk, holder=preview.holder, ended_at=None)
    held.update(held_until=None, progress=preview.progress if progress is None else progress)


def keep_portions(preview: ImportPreview, portions: Iterable[ImportPreviewPortion]) -> None:
    """Raises NotHeld."""
    some: list[ImportPreviewPortion] = []
    for one in portions:
        some.append(one)
        if len(some) == TOGETHER:
            _keep(preview, some)
            some = []
    _keep(preview, some)


def _keep(preview: ImportPreview, portions: list[ImportPreviewPortion]) -> None:
    with transaction.atomic():
        _held(preview)
        tell_progress(preview, preview.progress)
        ImportPreviewPortion.objects.bulk_create(portions)


def end_preview(preview: ImportPreview, told: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    """Its devices are kept already. numbers: see keep_foreseen. Raises NotHeld."""
    with transaction.atomic():
        run = locked_run(preview.run_id)
        held = _held(preview)
        held.told, held.epoch, held.ended_at = dict(told), numbers["epoch"], timezone.now()
        held.holder, held.held_until, held.progress = "", None, {}
        held.save()
        _keep_foreseen(run, numbers)


def fail_preview(preview: ImportPreview, sentence: str) -> None:
    """It cannot be told, as things stand."""
    held = ImportPreview.objects.filter(pk=preview.pk, holder=preview.holder, ended_at=None)
    held.update(problem=sentence[:500], ended_at=timezone.now(), holder="", held_until=None, progress={})


def keep_foreseen(run: ImportRun, numbers: Mapping[str, Any] | None) -> None:
    """What its preview says, for whoever starts it on that state; None forgets it.

    Of two, that of the later state; of one state, the one that has examined more devices.
    """
    if run.state not in WAITING or run.foreseen == numbers:
        return
    with transaction.atomic():
        _keep_foreseen(locked_run(run.pk), numbers)


def _keep_foreseen(run: ImportRun, numbers: Mapping[str, Any] | None) -> None:
    is_older = numbers is not None and run.foreseen is not None and _rank(run.foreseen) > _rank(numbers)
    if run.state in WAITING and not is_older:
        ImportRun.objects.filter(pk=run.pk).update(foreseen=numbers)


def _rank(numbers: Mapping[str, Any]) -> tuple[int, int]:
    return numbers["epoch"], -numbers["not_examined"]


def _holds(preview: ImportPreview, standing: Standing) -> bool:
    for_so_long = HOLDS if preview.told is not None else FAILURE_HOLDS
    return not is_outdated(standing, preview.epoch) and timezone.now() - preview.began_at < for_so_long


def _held(preview: ImportPreview) -> ImportPreview:
    """Inside a transaction. Raises NotHeld."""
    mine = ImportPreview.objects.filter(pk=preview.pk, holder=preview.holder, ended_at=None)
    found = mine.select_for_update().first()
    if found is None:
        raise NotHeld
    return found
