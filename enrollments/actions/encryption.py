"""Bringing every secret in the database under the newest key, while the service runs (R16).

Each batch is a short transaction of its own, and what it has brought over is told by the secret itself: whoever is
interrupted begins again, and does nothing twice.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import models, transaction
from django.db.models import F, Max, TextField, Value
from django.db.models.functions import Cast

from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import Subject, record
from enrollments.errors import SecretUnreadable
from enrollments.models.fields import EncryptedTextField, renewed

BATCH = 100
# Between two batches, so that those who write get their turn where there is one writer at a time.
PAUSE_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Holder:
    """A table with secrets."""

    model: type[models.Model]
    columns: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.model._meta.verbose_name_plural)


@dataclass(frozen=True, slots=True)
class Standing:
    """How the secrets of the installation stand. `unreadable`: what none of the keys decrypts, each by its place."""

    newest: int = 0
    older: int = 0
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """How far it is, for whoever watches."""

    table: str
    seen: int
    total: int


Tell = Callable[[Step], None]
# A primary key, and the encrypted texts of its row by column.
Row = tuple[int, dict[str, str]]


def holders() -> list[Holder]:
    """Found by looking: a column that is added later is not forgotten."""
    found = []
    for model in apps.get_models():
        secret = [one.attname for one in model._meta.concrete_fields if isinstance(one, EncryptedTextField)]
        if secret:
            found.append(Holder(model, tuple(secret)))
    return found


def standing(tell: Tell = lambda _: None) -> Standing:
    """Look at every secret, and change nothing."""
    newest, older, unreadable = 0, 0, []
    for holder in holders():
        for pk, secrets in _rows(holder, tell):
            for column, token in secrets.items():
                try:
                    if renewed(token) is None:
                        newest += 1
                    else:
                        older += 1
                except SecretUnreadable:
                    unreadable.append(f"{holder.model.__name__} {pk} {column}")
    return Standing(newest, older, tuple(unreadable))


def bring_under_newest_key(*, actor: Actor, tell: Tell = lambda _: None) -> tuple[int, Standing]:
    """Encrypt anew whatever an older key encrypted; how many secrets that were, and how all of them stand then.

    Can be interrupted and repeated. What no key decrypts stays as it is.
    """
    count, now = 0, standing(tell)
    if now.older:
        with transaction.atomic():
            record(
                Event.ENCRYPTION_KEY_ROTATED,
                subject=Subject("encryption key", "the secrets of the installation"),
                actor=actor,
                after={"secrets": now.older},
            )
    # A row that somebody else had locked is met in the next round.
    while now.older:
        count += sum(_bring_over(holder, tell) for holder in holders())
        now = standing(tell)
    return count, now


def _bring_over(holder: Holder, tell: Tell) -> int:
    manager, count, seen, last = holder.model._base_manager, 0, 0, 0
    total, end = manager.count(), _last(holder)
    while batch := _batch(manager.all(), holder, last, end):
        # Whoever goes on where another run was interrupted does not stand in anybody's way on what is done.
        if any(_fresh(token) for _, secrets in batch for token in secrets.values()):
            count += _rewrite(holder, last, batch[-1][0])
        last, seen = batch[-1][0], seen + len(batch)
        tell(Step(holder.name, seen, max(total, seen)))
        time.sleep(PAUSE_SECONDS)
    return count


@transaction.atomic
def _rewrite(holder: Holder, after: int, end: int) -> int:
    """Locked, so that nothing that is written meanwhile is overwritten; not waited for where others lock it."""
    manager, count = holder.model._base_manager, 0
    rows = manager.select_for_update(skip_locked=True, of=("self",))
    for pk, secrets in _batch(rows, holder, after, end):
        fresh = {column: _fresh(token) for column, token in secrets.items()}
        changed = {column: Value(token, TextField()) for column, token in fresh.items() if token}
        if changed:
            manager.filter(pk=pk).update(**changed)
            count += len(changed)
    return count


def _fresh(token: str) -> str | None:
    try:
        return renewed(token)
    except SecretUnreadable:
        return None


def _rows(holder: Holder, tell: Tell) -> Iterator[Row]:
    manager, seen, last = holder.model._base_manager, 0, 0
    total, end = manager.count(), _last(holder)
    while batch := _batch(manager.all(), holder, last, end):
        yield from batch
        last, seen = batch[-1][0], seen + len(batch)
        tell(Step(holder.name, seen, max(total, seen)))


def _last(holder: Holder) -> int:
    """What is added from now on is under the newest key: nobody has to run after those who write."""
    return holder.model._base_manager.aggregate(last=Max("pk"))["last"] or 0


def _batch(rows: models.QuerySet[Any], holder: Holder, after: int, end: int) -> list[Row]:
    """Primary keys and columns as they stand in the database: the cast takes the decryption away."""
    casts = {f"raw_{column}": Cast(F(column), TextField()) for column in holder.columns}
    found = (
        rows.filter(pk__gt=after, pk__lte=end)
        .order_by("pk")
        .annotate(**casts)
        .values_list("pk", *casts)[:BATCH]
    )
    return [
        (pk, {column: token for column, token in zip(holder.columns, tokens, strict=True) if token})
        for pk, *tokens in found
    ]
