"""How many refused attempts of an hour are kept one by one, and whose: a flood hides nothing of anybody else (R14)."""

import threading
from datetime import datetime
from typing import NamedTuple

from django.db.models import QuerySet

from enrollments.actions.judging import Judgement
from enrollments.models import AttemptOutcome, ProvisioningService, RegistrationAttempt, RegistrationRecord
from enrollments.models.prepared import Prepared
from enrollments.policy.facts import EntryRef

# An hour holds so many rows of what the key of one group has signed, so many of all strangers together, and then one
# row for all the others.
MAX_PER_HOUR = {
    AttemptOutcome.REFUSED: 2000,
    AttemptOutcome.DISABLED: 20_000,
    AttemptOutcome.THROTTLED: 20_000,
}
# The same of what only one device can have shown.
MAX_OF_ONE_DEVICE = 200

# What is counted in one row of a source that begins so had the same credential, deciding entry and trace each time, and
# what was admitted had the same address and client besides. Of other rows with a count that is not so.
ALIKE = "alike:"
# What is counted in one row of a source that begins so is of many devices, or of one that came in too many ways.
MANY = "many:"


class Budget(NamedTuple):
    """Attempts that can have come from the same hands: so many of them have rows of their own in an hour."""

    of: str
    most: int

    @property
    def source(self) -> str:
        """What the source of each row begins with."""
        return f"{ALIKE}{self.of}:"

    @property
    def source_of_others(self) -> str:
        """The source of the row that counts all for whom there is no room."""
        return f"{MANY}{self.of}"

    def has_room(self, service: ProvisioningService, hour: datetime, outcome: AttemptOutcome) -> bool:
        known = (service.pk, hour, outcome, self)
        if _room_left.take(known):
            return True
        rows = RegistrationAttempt.objects.filter(service=service, hour=hour, outcome=outcome.value)
        # All are counted within the index; whose they are is looked at where that does not settle it.
        count = rows.count()
        if count >= self.most:
            count = rows.filter(source__startswith=self.source).count()
        _room_left.keep(known, self.most - count - 1)
        return count < self.most


class _RoomLeft:
    """How many more rows fit for sure, by what this process has counted last: thousands are not counted for each one.

    Other processes add rows meanwhile. Each takes a part of what is left and then counts again, so with no more than
    PROCESSES of them the bound holds.
    """

    PROCESSES = 32
    KEPT = 1024

    def __init__(self) -> None:
        self._left: dict[object, int] = {}
        self._lock = threading.Lock()

    def take(self, known: object) -> bool:
        with self._lock:
            left = self._left.get(known, 0)
            if left > 0:
                self._left[known] = left - 1
            return left > 0

    def keep(self, known: object, left: int) -> None:
        with self._lock:
            if len(self._left) >= self.KEPT:
                self._left.clear()
            self._left[known] = left // self.PROCESSES

    def forget(self) -> None:
        with self._lock:
            self._left.clear()


_room_left = _RoomLeft()


def budget_of(judgement: Judgement, outcome: AttemptOutcome) -> Budget:
    """Whoever has the enrolled key that verifiably signed this attempt; if there is none, it may be anybody's.

    What counts is the signature, proof (R3) or not: a path that has expired nobody invents either. The nearest key
    is meant. Who has that one signs whatever they like below it, under any name, and uses up nothing of what is kept
    of keys above and beside it.
    """
    facts = judgement.facts
    if facts.individual is not None and facts.individual.own_credential_proven:
        return Budget(_tag(facts.individual.ref), MAX_OF_ONE_DEVICE)
    group = min(facts.groups, key=lambda one: (one.steps_to_key, one.created), default=None)
    barred = min(facts.barred_keys, key=lambda one: (one.steps, one.ref.pk), default=None)
    if barred is not None and (group is None or barred.steps <= group.steps_to_key):
        return Budget(_tag(barred.ref), MAX_OF_ONE_DEVICE)
    return Budget("-" if group is None else _tag(group.ref), MAX_PER_HOUR[outcome])


def source_of_others(source: str) -> str:
    """Of the row that counts it where a source with a budget has no room."""
    return f"{MANY}{source.split(':', 2)[1]}"


def is_of_known_device(service: ProvisioningService, judgement: Judgement, outcome: AttemptOutcome) -> bool:
    """Whether a device came with the very certificate with which it was admitted, and has not filled its own bound.

    Who has the key of its CA cannot come with that certificate, however many they sign: the handshake proves the key
    of the leaf. So a flood below a compromised CA does not hide its real devices.
    """
    leaf, key = judgement.leaf_thumbprint, judgement.registration_key
    if not leaf or not _admitted_with(service.pk, key, leaf):
        return False
    hour = hour_of(judgement)
    rows = RegistrationAttempt.objects.filter(service=service, hour=hour, registration_key=key)
    return rows.filter(outcome=outcome.value, leaf_thumbprint=leaf).count() < MAX_OF_ONE_DEVICE


def hour_of(judgement: Judgement) -> datetime:
    return judgement.at.replace(minute=0, second=0, microsecond=0)


def _tag(entry: EntryRef) -> str:
    return f"{entry.kind.value[0]}{entry.pk}"


@Prepared
def _admitted_with(service: int, key: str, leaf: str) -> "QuerySet[RegistrationRecord, int]":
    records = RegistrationRecord.objects.filter(service=service, registration_key=key, leaf_thumbprint=leaf)
    return records.filter(assigned_at__isnull=False).values_list("pk", flat=True)
