"""What keeps the history sealed and signed without a process of its own: changes that commit, people who look."""

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import DatabaseError, connections, transaction
from django.utils import timezone

from enrollments.audit import checkpoints
from enrollments.audit.chain import head
from enrollments.audit.sealer import BATCH, seal_batch
from enrollments.errors import HistoryDisagrees
from enrollments.models import CheckpointDelivery, HistoryCheckpoint
from enrollments.models.locks import is_locked

logger = logging.getLogger(__name__)

# Of people who look at the history: so many batches, so that a page is not held up by an old installation's rows.
BATCHES_FOR_A_PAGE = 4
# A destination that failed is tried again after this long.
RETRY = timedelta(minutes=5)


@dataclass
class Pause:
    """Lets a process do something at most once within so many seconds."""

    seconds: float
    next_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def is_over(self) -> bool:
        with self._lock:
            now = time.monotonic()
            if now < self.next_at:
                return False
            self.next_at = now + self.seconds
            return True


# Sealing makes a transaction of its own: under load, one a second and not one per change.
sealing = Pause(1.0)
signing = Pause(30.0)


def seal_after_commit() -> None:
    """Called within the transaction of a change: once it has committed, seal what waits, unless that was just done."""
    # Robust: the change is done, and what goes wrong from here on must not be told as its failure.
    transaction.on_commit(_after_commit, robust=True)


def seal_for_a_page() -> None:
    """Before somebody reads: seal what waits, within bounds. The page says which rows still wait."""
    for _ in range(BATCHES_FOR_A_PAGE):
        if _sealed() < BATCH:
            break
    _sign_if_due()


def _after_commit() -> None:
    if sealing.is_over():
        _sealed()
        _sign_if_due()


def _sealed() -> int:
    """Without waiting for anybody: what is not sealed now is sealed later."""
    try:
        return seal_batch(wait=False)
    except DatabaseError as problem:
        _say(problem, "the history was not sealed")
        return 0


def _sign_if_due() -> None:
    """A checkpoint every DPS_CHECKPOINT_MINUTES in which something happened, and what was not delivered again."""
    if not signing.is_over():
        return
    try:
        latest = checkpoints.latest_checkpoint()
        if checkpoints.due(latest, timezone.now()) and head().size > (latest.size if latest else 0):
            latest = checkpoints.sign_head(wait=False) or latest
        if latest is not None:
            deliver_where_behind(latest)
    except HistoryDisagrees as problem:
        logger.critical(
            "the history disagrees with its checkpoints", extra={"fields": {"cause": problem.message}}
        )
    except DatabaseError as problem:
        _say(problem, "the history was not signed")


def deliver_where_behind(checkpoint: HistoryCheckpoint) -> None:
    """To each destination that does not have it and did not just fail. Nobody waits for the webhook."""
    recently = CheckpointDelivery.objects.filter(tried_at__gt=timezone.now() - RETRY).exclude(problem="")
    failed = set(recently.values_list("destination", flat=True))
    for destination in checkpoints.behind(checkpoint):
        if destination in failed:
            continue
        if destination == checkpoints.WEBHOOK:
            threading.Thread(target=_deliver_apart, args=(checkpoint, destination), daemon=True).start()
        else:
            checkpoints.deliver(checkpoint, destination)


def _deliver_apart(checkpoint: HistoryCheckpoint, destination: str) -> None:
    try:
        checkpoints.deliver(checkpoint, destination)
    except DatabaseError as problem:
        _say(problem, "what became of a checkpoint's delivery was not noted")
    finally:
        connections.close_all()


def _say(problem: DatabaseError, what: str) -> None:
    if not is_locked(problem):
        logger.warning(what, extra={"fields": {"cause": problem}})
