"""Imports: what was uploaded, how far it is, and what was wrong with its lines."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from enrollments.models.fields import EncryptedTextField
from enrollments.models.json_columns import JsonColumn
from enrollments.models.services import ProvisioningService


class ImportState(models.TextChoices):
    RECEIVING = "receiving", "Being uploaded"
    CHECKING = "checking", "Being checked"
    CHECKED = "checked", "Checked"
    RUNNING = "running", "Running"
    PAUSED = "paused", "Paused"
    DONE = "done", "Done"
    CANCELLED = "cancelled", "Cancelled"
    REFUSED = "refused", "Unusable"


# Somebody works on these, or should: whoever finds one whose worker is gone takes it over.
WORKING = (ImportState.CHECKING, ImportState.RUNNING)
ENDED = (ImportState.DONE, ImportState.CANCELLED, ImportState.REFUSED)


class ImportFormat(models.TextChoices):
    CSV = "csv", "CSV"
    JSON_LINES = "jsonl", "JSON Lines"


class ImportRunQuerySet(models.QuerySet["ImportRun"]):
    def unfinished(self) -> "ImportRunQuerySet":
        return self.exclude(state__in=ENDED)


class ImportRun(models.Model):
    """One file on its way into a service. `position`: how many chunks are done, written with what they changed.

    planned, counts: how many lines have which outcome, as the check foresaw it and as it came.
    foreseen: the numbers of its preview, as last worked out; once it is started, of the one that it was started on.
    agreed_on: the last row of the history when it was started on a preview. None: nobody saw one.
    holder, held_until: the worker that has it, and until when nobody else takes it.
    """

    service = models.ForeignKey(ProvisioningService, on_delete=models.PROTECT, related_name="imports")
    state = models.CharField(max_length=12, choices=ImportState.choices, default=ImportState.RECEIVING)
    format = models.CharField(max_length=10, choices=ImportFormat.choices)
    list_name = models.CharField(max_length=200)
    archive_name = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    actor_kind = models.CharField(max_length=20)
    actor_name = models.CharField(max_length=150)
    way = models.CharField(max_length=20)
    address = models.CharField(max_length=45, blank=True)
    lines = models.PositiveIntegerField(default=0)
    bad_lines = models.PositiveIntegerField(default=0)
    chunks = models.PositiveIntegerField(default=0)
    position = models.PositiveIntegerField(default=0)
    lines_done = models.PositiveIntegerField(default=0)
    planned = JsonColumn(default=dict)
    counts = JsonColumn(default=dict)
    foreseen = JsonColumn(null=True)
    agreed_on = models.BigIntegerField(null=True)
    problem = models.CharField(max_length=500, blank=True)
    holder = models.CharField(max_length=40, blank=True)
    held_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    touched_at = models.DateTimeField(auto_now=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects = ImportRunQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["service", "id"], name="import_by_service")]

    def __str__(self) -> str:
        return f"{self.list_name} (import {self.pk})"

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def is_working(self) -> bool:
        return self.state in WORKING

    @property
    def is_held(self) -> bool:
        return self.held_until is not None and self.held_until > timezone.now()


class PartKind(models.TextChoices):
    LIST = "list", "The list"
    ARCHIVE = "archive", "The ZIP beside it"


class ImportPart(models.Model):
    """A piece of a file as it was uploaded, all of one size but the last. Gone as soon as the file has been read.

    Its bytes are written as characters of Latin-1. Encrypted, since lists may hold keys.
    """

    run = models.ForeignKey(ImportRun, on_delete=models.CASCADE, related_name="parts")
    kind = models.CharField(max_length=10, choices=PartKind.choices)
    number = models.PositiveIntegerField()
    size = models.PositiveIntegerField()
    content = EncryptedTextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "kind", "number"], name="each_part_of_an_import_once")
        ]

    def __str__(self) -> str:
        return f"part {self.number} of {self.kind} of import {self.run_id}"


class ImportChunk(models.Model):
    """Lines that were read and found good, as JSON, in the portions in which they are carried out.

    Gone when the run has ended.
    """

    run = models.ForeignKey(ImportRun, on_delete=models.CASCADE, related_name="content")
    number = models.PositiveIntegerField()
    lines = models.PositiveIntegerField()
    content = EncryptedTextField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="each_chunk_of_an_import_once")]

    def __str__(self) -> str:
        return f"chunk {self.number} of import {self.run_id}"


class ImportProblem(models.Model):
    """What is wrong with one line: found when it was checked, or when its turn came (`at_run`)."""

    run = models.ForeignKey(ImportRun, on_delete=models.CASCADE, related_name="problems")
    line = models.PositiveIntegerField()
    at_run = models.BooleanField(default=False)
    name = models.CharField(max_length=130, blank=True)
    sentence = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["run", "line", "at_run"], name="one_problem_per_line_of_an_import"
            ),
            models.CheckConstraint(name="problem_of_an_import_is_said", condition=~Q(sentence="")),
        ]

    def __str__(self) -> str:
        return f"line {self.line}: {self.sentence}"


class ImportPreview(models.Model):
    """What a checked import would do to devices that are known: as it is worked out, and kept until it is started.

    everyone: whether all devices are examined, however long that takes. epoch: of the state that it is about.
    holder, held_until: as of a run; whoever claims it anew begins from nothing, in a row of its own.
    progress: how far it is. told: its numbers and some examples, once it has ended; or else `problem` says why not.
    """

    run = models.ForeignKey(ImportRun, on_delete=models.CASCADE, related_name="previews")
    everyone = models.BooleanField()
    epoch = models.PositiveBigIntegerField()
    holder = models.CharField(max_length=40, blank=True)
    held_until = models.DateTimeField(null=True)
    progress = JsonColumn(default=dict)
    told = JsonColumn(null=True)
    problem = models.CharField(max_length=500, blank=True)
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "everyone"], name="each_preview_of_an_import_once")
        ]

    def __str__(self) -> str:
        return f"preview of import {self.run_id}"

    @property
    def is_held(self) -> bool:
        return self.held_until is not None and self.held_until > timezone.now()


class ImportPreviewPortion(models.Model):
    """Some devices of a preview, in the order of their registration IDs, as rows of its table in JSON.

    first_key: the registration key of the first of them. counts: how many there are of each effect.
    """

    preview = models.ForeignKey(ImportPreview, on_delete=models.CASCADE, related_name="portions")
    is_later = models.BooleanField()
    number = models.PositiveIntegerField()
    first_key = models.CharField(max_length=130)
    counts = JsonColumn()
    rows = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["preview", "is_later", "number"], name="each_portion_of_a_preview_once"
            )
        ]

    def __str__(self) -> str:
        return f"portion {self.number} of the {self.preview}"
