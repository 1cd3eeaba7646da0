"""The history: who did what to what, why and when, and what proves it. Rows are never changed or deleted (R15)."""

from collections.abc import Collection
from typing import Any, NoReturn, Self

from django.db import models
from django.db.models import BooleanField, F, Func
from django.db.models.functions import Lower
from django.db.models.sql.compiler import SQLCompiler

from enrollments.errors import HistoryIsFinal
from enrollments.models.beside import IndexWithMore
from enrollments.models.history_reading import ReadableRows, StateColumn, mark_unreadable
from enrollments.models.history_shut_outs import ShutOutByChange
from enrollments.models.inserting import insert_one, made
from enrollments.policy.words import counted

# The last place and the last ID that there can be. Beyond it, a number that somebody puts in leaves room for none.
LAST = 10**18 - 1


class HistoryQuerySet(models.QuerySet["HistoryEvent"]):
    """Reads every row, also one that somebody made unreadable: see `HistoryEvent.unreadable`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._iterable_class = ReadableRows

    def of_service(self, service_id: int) -> "HistoryQuerySet":
        return self.filter(service_id=service_id)

    def create(self, **columns: Any) -> "HistoryEvent":
        """By the names of its columns. Raises NotWritten where the database passes over it, so that nothing is done
        without its row (R15)."""
        return insert_one(made(self.model, **columns))

    def update(self, **_: Any) -> NoReturn:
        raise HistoryIsFinal

    def delete(self) -> NoReturn:
        raise HistoryIsFinal


class HistoryEvent(models.Model):
    """One change, refused change, disclosure or changed assignment.

    Names are frozen as they were. There is no foreign key: a row must outlive its object, its user and its
    service. `before` and `after` hold what changed, never a secret.
    """

    at = models.DateTimeField()
    event = models.CharField(max_length=60)
    service_id = models.BigIntegerField(null=True)
    service_name = models.CharField(max_length=50, blank=True)
    actor_kind = models.CharField(max_length=20)
    actor_name = models.CharField(max_length=150)
    way = models.CharField(max_length=20)
    subject_kind = models.CharField(max_length=40)
    subject_id = models.CharField(max_length=40, blank=True)
    subject_name = models.CharField(max_length=200)
    reason = models.CharField(max_length=500, blank=True)
    before = StateColumn(null=True)
    after = StateColumn(null=True)
    address = models.CharField(max_length=45, blank=True)
    request_id = models.CharField(max_length=40, blank=True)
    # What the actor's program calls itself. Rows from before it was kept have none, and their form does not name it.
    client = models.CharField(max_length=200, blank=True, default="", db_default="")

    objects = HistoryQuerySet.as_manager()
    # Columns that hold what no row of this service can.
    unreadable: frozenset[str] = frozenset()

    class Meta:
        indexes = [
            # With what is looked for row by row: parts of texts.
            IndexWithMore(
                fields=["service_id", "at", "id"],
                beside=["actor_name", "subject_name", "reason"],
                name="history_by_time_with_texts",
            ),
            # One for each filter that asks for one value, since a page reads the newest rows of one.
            models.Index(fields=["service_id", "event", "at"], name="history_by_event"),
            models.Index(fields=["service_id", "way", "at"], name="history_by_way"),
            models.Index(fields=["service_id", "actor_name", "at"], name="history_by_actor"),
            models.Index(fields=["service_id", "subject_kind", "at"], name="history_by_kind"),
            models.Index("service_id", Lower("subject_name"), "at", name="history_by_name"),
            models.Index(fields=["at"], name="history_by_moment"),
            # Of all changes those that can shut out, which are few among many.
            models.Index(
                fields=["service_id", "at", "id"],
                condition=models.Q(ShutOutByChange()),
                name="history_shut_out_by_change",
            ),
        ]

    def __str__(self) -> str:
        return (
            f"{self.at:%Y-%m-%d %H:%M} {self.actor_kind}:{self.actor_name} {self.event} {self.subject_name}"
        )

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise HistoryIsFinal
        super().save(*args, **kwargs)

    def delete(self, *_: Any, **__: Any) -> NoReturn:
        raise HistoryIsFinal

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **more: Any
    ) -> Self:
        row = super().from_db(db, field_names, values, **more)
        row.unreadable = mark_unreadable(row, field_names, values)
        return row


class UnsealedEvent(models.Model):
    """A row that waits for its place in the sequence. The database itself adds it with the row, and keeps it on this
    list until it has its seal (triggers)."""

    event_id = models.BigIntegerField(primary_key=True)

    def __str__(self) -> str:
        return f"row {self.event_id} waits"


class IsWholeNumber(Func):
    """SQLite takes anything into a column of numbers, and what it took before triggers refused that is still there."""

    output_field = BooleanField()
    conditional = True
    arity = 1
    template = "TRUE"

    def as_sqlite(self, compiler: SQLCompiler, connection: Any, **extra: Any) -> tuple[str, Any]:
        template = "typeof(%(expressions)s) = 'integer'"
        return self.as_sql(compiler, connection, template=template, **extra)


class HistorySealQuerySet(models.QuerySet["HistorySeal"]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._iterable_class = ReadableRows

    def in_place(self) -> "HistorySealQuerySet":
        """Those that have a place: text, fractions and what is beyond the last are nobody's."""
        return self.filter(IsWholeNumber(F("index")), index__lte=LAST)

    def out_of_place(self) -> "HistorySealQuerySet":
        return self.exclude(IsWholeNumber(F("index")), index__lte=LAST)


class HistorySeal(models.Model):
    """The place of one row in the one sequence of the installation: 1, 2, 3, … without gaps, never changed.

    `hash` covers the row, its place and the hash before it (docs/history.md). No constraint ties it to its row:
    a seal must outlive a row that somebody removed behind our back, to say that it is missing.
    """

    index = models.BigIntegerField(primary_key=True)
    event = models.OneToOneField(
        HistoryEvent, on_delete=models.DO_NOTHING, db_constraint=False, related_name="seal"
    )
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    objects = HistorySealQuerySet.as_manager()

    def __str__(self) -> str:
        return f"#{self.index} {self.hash[:8]}"


class HistoryCheckpoint(models.Model):
    """What the installation signed: at `at` the sequence had `size` rows and the last of them had hash `head`."""

    size = models.BigIntegerField()
    head = models.CharField(max_length=64)
    at = models.DateTimeField()
    note = models.TextField()

    class Meta:
        indexes = [models.Index(fields=["size"], name="history_checkpoint_by_size")]

    def __str__(self) -> str:
        return f"checkpoint of {counted(self.size, 'row')}"


class CheckpointDelivery(models.Model):
    """How far a destination outside of the database has the checkpoints, and what went wrong last."""

    destination = models.CharField(max_length=10, unique=True)
    size = models.BigIntegerField(default=0)
    delivered_at = models.DateTimeField(null=True)
    tried_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=500, blank=True)

    def __str__(self) -> str:
        return f"{self.destination}: {counted(self.size, 'row')}"
