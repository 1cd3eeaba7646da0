"""Checkpoints: signing how long the history is and how it ends, and keeping that where the database is not."""

import logging
import os
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from enrollments import outbound
from enrollments.audit.chain import Head, head
from enrollments.audit.notes import (
    BadNote,
    Checkpoint,
    SigningKey,
    UnknownSigner,
    VerifierKey,
    notes_in,
    read_checkpoint,
)
from enrollments.audit.sealer import seal_everything
from enrollments.errors import Conflict, HistoryDisagrees
from enrollments.models import CheckpointDelivery, HistoryCheckpoint, HistorySeal
from enrollments.models.history import IsWholeNumber
from enrollments.models.locks import wait_for_history_turn, without_waiting
from enrollments.policy.addresses import shown_url
from enrollments.policy.words import counted

logger = logging.getLogger(__name__)

FILE, WEBHOOK = "file", "webhook"
_KINDS = {FILE: "the checkpoint file", WEBHOOK: "the address that checkpoints are posted to"}
# In sentences that people of one service may read: the path is nothing that concerns them.
_THE_FILE = "the file that DPS_CHECKPOINT_FILE names"
# Of the file, what is read to find the last note in it; a note is a quarter of that.
TAIL_BYTES = 2048


def signing_key() -> SigningKey:
    return SigningKey(urlsafe_b64decode(settings.DPS_HISTORY_KEY))


def verifier_key() -> VerifierKey:
    return signing_key().verifier


def latest_checkpoint() -> HistoryCheckpoint | None:
    of_rows = HistoryCheckpoint.objects.filter(IsWholeNumber(F("size")))
    return of_rows.order_by("-size", "-pk").first()


def make_checkpoint() -> HistoryCheckpoint:
    """Seal what waits and sign where the history ends; the latest checkpoint where nothing came after it.

    Raises HistoryDisagrees, Conflict. Does not deliver it: see `deliver`.
    """
    seal_everything()
    checkpoint = sign_head()
    if checkpoint is None:
        raise Conflict("There is nothing in the history yet that could be signed.")
    return checkpoint


def sign_head(*, wait: bool = True) -> HistoryCheckpoint | None:
    """Sign the sequence as far as it is sealed. None where nothing is, or another process is at it.

    Whatever was signed before must still hold: this key never signs two histories that exclude each other, as far
    as the database and the checkpoint file can tell. Raises HistoryDisagrees.
    """
    key = signing_key()
    kept = _last_in_file(key.verifier)
    with without_waiting(wait), transaction.atomic(durable=True):
        if not wait_for_history_turn(wait=wait):
            return None
        end, last = head(), latest_checkpoint()
        if last is not None:
            _refuse_unless_it_holds(
                last.size, last.head, end, f"the checkpoint of {last.at:%Y-%m-%d %H:%M:%S}"
            )
        if kept is not None:
            _refuse_unless_it_holds(kept.size, kept.head, end, f"the last one in {_THE_FILE}")
        if end.size == 0:
            return None
        name = key.verifier.name
        if last is not None and last.size == end.size and last.note.startswith(f"{name}\n"):
            return last
        # To the second, as the note has it.
        at = timezone.now().replace(microsecond=0)
        note = key.signed(Checkpoint(name, end.size, end.hash, at).text())
        return HistoryCheckpoint.objects.create(size=end.size, head=end.hash, at=at, note=note)


def destinations() -> dict[str, str]:
    """Where checkpoints are kept, as it may be shown."""
    places = {FILE: str(settings.DPS_CHECKPOINT_FILE)}
    if settings.DPS_CHECKPOINT_URL:
        places[WEBHOOK] = shown_url(settings.DPS_CHECKPOINT_URL)
    return places


@dataclass(frozen=True, slots=True)
class Place:
    """A destination and how far it has the checkpoints, for people.

    where and problem name what is on the server and beyond, which concerns the installation; kind says neither.
    """

    kind: str
    where: str
    size: int
    delivered_at: datetime | None
    problem: str


def places() -> list[Place]:
    have = {one.destination: one for one in CheckpointDelivery.objects.all()}
    return [
        Place(_KINDS[name], where, one.size, one.delivered_at, one.problem)
        if (one := have.get(name))
        else Place(_KINDS[name], where, 0, None, "")
        for name, where in destinations().items()
    ]


def behind(checkpoint: HistoryCheckpoint) -> list[str]:
    """The destinations that do not have this checkpoint yet.

    Of the file only the file itself tells: another node may have brought the checkpoint to one of its own.
    """
    have = dict(CheckpointDelivery.objects.values_list("destination", "size"))
    kept = _last_in_file(signing_key().verifier)
    have[FILE] = kept.size if kept is not None else 0
    return [name for name in destinations() if have.get(name, 0) < checkpoint.size]


def deliver(checkpoint: HistoryCheckpoint, destination: str) -> str:
    """Bring a checkpoint to one destination, and note what became of it: a sentence where it failed, else empty.

    Never to be called inside a transaction.
    """
    problem = ""
    try:
        if destination == FILE:
            _append(checkpoint.note)
        else:
            headers = {"Content-Type": "text/plain; charset=utf-8"}
            outbound.post(settings.DPS_CHECKPOINT_URL, checkpoint.note.encode(), headers)
    except OSError as failure:
        problem = f"it cannot be written: {failure.strerror}"
    except outbound.CallFailed as failure:
        problem = failure.message
    now = timezone.now()
    outcome = (
        {"problem": problem[:500]}
        if problem
        else {"problem": "", "size": checkpoint.size, "delivered_at": now}
    )
    CheckpointDelivery.objects.update_or_create(
        destination=destination, defaults={"tried_at": now, **outcome}
    )
    if problem:
        fields = {"destination": destinations().get(destination, destination), "cause": problem}
        logger.error("a checkpoint of the history was not delivered", extra={"fields": fields})
    return problem


def notes_in_file() -> list[str]:
    """The notes that were appended to the checkpoint file; none where there is no file. Raises BadNote."""
    try:
        with open(settings.DPS_CHECKPOINT_FILE, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise BadNote(f"{_THE_FILE} cannot be read: {problem.strerror}.") from None
    except UnicodeDecodeError:
        raise BadNote(f"{_THE_FILE} is no text.") from None
    try:
        return notes_in(text) if text.strip() else []
    except BadNote as problem:
        raise BadNote(f"{_THE_FILE}: {problem.message}") from None


def due(checkpoint: HistoryCheckpoint | None, now: datetime) -> bool:
    """Whether the next one is to be made, if there is anything new."""
    return checkpoint is None or (now - checkpoint.at).total_seconds() >= settings.DPS_CHECKPOINT_MINUTES * 60


def _refuse_unless_it_holds(size: int, hash: str, end: Head, which: str) -> None:
    if size > end.size:
        raise HistoryDisagrees(
            f"The history was cut off: {which} was signed for {counted(size, 'row')}, and the number there is "
            f"{end.size}. It is not signed again. See docs/history.md."
        )
    seal = HistorySeal.objects.filter(pk=size).first()
    if size and (seal is None or seal.hash != hash):
        raise HistoryDisagrees(
            f"The history was rewritten: row #{size} is another one than {which} was signed for. It is not "
            "signed again. See docs/history.md."
        )


def _append(note: str) -> None:
    descriptor = os.open(settings.DPS_CHECKPOINT_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write(f"{note}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def _last_in_file(key: VerifierKey) -> Checkpoint | None:
    """The last note in the checkpoint file, if there is one by this key."""
    try:
        with open(settings.DPS_CHECKPOINT_FILE, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            tail = file.read()
    except FileNotFoundError:
        return None
    except OSError as problem:
        _say_unreadable(problem.strerror)
        return None
    begin = tail.rfind(f"{key.name}\n".encode())
    # The name stands at the beginning of a line only in a note's first one.
    while begin > 0 and tail[begin - 1 : begin] != b"\n":
        begin = tail.rfind(f"{key.name}\n".encode(), 0, begin)
    if begin < 0:
        return None
    try:
        return read_checkpoint(notes_in(tail[begin:].decode())[0], [key])
    except UnknownSigner:
        return None
    except (BadNote, UnicodeDecodeError) as problem:
        _say_unreadable(problem)
        return None


def _say_unreadable(problem: object) -> None:
    fields = {"file": str(settings.DPS_CHECKPOINT_FILE), "cause": problem}
    logger.error(
        "the last checkpoint in the file cannot be read, so nothing is held against it",
        extra={"fields": fields},
    )
