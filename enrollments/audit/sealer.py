"""Giving rows their place in the sequence: after the change that they tell of, in batches, one sealer at a time.

The place is given when a row is sealed, and never changes. A row that was written early and committed late simply
comes later in the sequence; no place is kept free for it and none is skipped. What was answered before another
change began stands before it: every sealer that can see the later row can see the earlier one, whose ID is lower.
"""

import logging

from django.db import connection, transaction

from enrollments.audit.canonical import link_hash, row_hash
from enrollments.audit.chain import SEALS, Head, forms_of, head, waiting_rows
from enrollments.models import UnsealedEvent
from enrollments.models.locks import wait_for_history_turn, without_waiting

logger = logging.getLogger(__name__)

BATCH = 500
# Of rows that cannot be sealed, so many batches are passed over in a turn. Whoever puts in more of them stops sealing,
# which the verifiers say.
PASSED_OVER = 20
# Three times as fast as rows that are objects first.
_INSERT = f'INSERT INTO {SEALS} ("index", event_id, previous_hash, hash) VALUES (%s, %s, %s, %s)'  # noqa: S608  # ours


def seal_batch(*, wait: bool = True, limit: int = BATCH) -> int:
    """Seal the oldest rows that wait, all of the batch or none of it; how many were sealed.

    With `wait` false, nothing is done where another sealer is at work.
    """
    if not UnsealedEvent.objects.exists():
        return 0
    with without_waiting(wait), transaction.atomic(durable=True):
        if not wait_for_history_turn(wait=wait):
            return 0
        seals = _seals_of_the_oldest(head(), limit)
        with connection.cursor() as cursor:
            cursor.executemany(_INSERT, seals)
        UnsealedEvent.objects.filter(event_id__in=[event_id for _, event_id, _, _ in seals]).delete()
    return len(seals)


def _seals_of_the_oldest(last: Head, limit: int) -> list[tuple[int, int, str, str]]:
    """Place, row, hash before and own hash of rows that wait. Those that cannot be sealed do not hold up the others."""
    seals: list[tuple[int, int, str, str]] = []
    refused: list[tuple[int, str]] = []
    index, previous, after = last.size, last.hash, 0
    for _ in range(PASSED_OVER):
        rows = waiting_rows(limit, after)
        for event_id, form, unreadable in forms_of(rows):
            if form is None:
                refused.append((event_id, unreadable))
                continue
            index += 1
            hash = link_hash(index, previous, row_hash(form))
            seals.append((index, event_id, previous, hash))
            previous = hash
        if seals or not rows:
            break
        after = rows[-1][0]
    if refused:
        event_id, cause = refused[0]
        # Named by the verifiers as rows that wait.
        fields = {"row": event_id, "cause": cause, "rows": len(refused)}
        logger.error("a history row cannot be sealed", extra={"fields": fields})
    return seals


def seal_everything() -> int:
    """Until nothing waits that waited at the beginning; how many rows that were."""
    sealed = 0
    for _ in range(UnsealedEvent.objects.count() // BATCH + 1):
        batch = seal_batch()
        if not batch:
            break
        sealed += batch
    return sealed
