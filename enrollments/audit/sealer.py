"""Giving rows their place in the sequence: after the change that they tell of, in batches, one sealer at a time.

The place is given when a row is sealed, and never changes. A row that was written early and committed late simply
comes later in the sequence; no place is kept free for it and none is skipped. What was answered before another
change began stands before it: every sealer that can see the later row can see the earlier one, whose ID is lower.
"""

import logging

from django.db import connection, transaction

from enrollments.audit.canonical import NotCanonical, link_hash, row_hash
from enrollments.audit.chain import SEALS, form_of, head, waiting_rows
from enrollments.models import UnsealedEvent
from enrollments.models.locks import wait_for_history_turn, without_waiting

logger = logging.getLogger(__name__)

BATCH = 500
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
        last, seals = head(), []
        index, previous = last.size, last.hash
        for event_id, row in waiting_rows(limit):
            try:
                hash = link_hash(index + 1, previous, row_hash(form_of(row)))
            except NotCanonical as problem:
                # Named by the verifier as well. The rows after it must not have to wait for it.
                fields = {"row": event_id, "cause": problem.message}
                logger.error("a history row cannot be sealed", extra={"fields": fields})
                continue
            index += 1
            seals.append((index, event_id, previous, hash))
            previous = hash
        with connection.cursor() as cursor:
            cursor.executemany(_INSERT, seals)
        UnsealedEvent.objects.filter(event_id__in=[event_id for _, event_id, _, _ in seals]).delete()
    return len(seals)


def seal_everything() -> int:
    """Until nothing waits that waited at the beginning; how many rows that were."""
    sealed = 0
    for _ in range(UnsealedEvent.objects.count() // BATCH + 1):
        batch = seal_batch()
        if not batch:
            break
        sealed += batch
    return sealed
