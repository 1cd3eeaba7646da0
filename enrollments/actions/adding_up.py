"""What a process counts in memory and writes down now and then: a flood costs no write for each request (R14)."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from time import sleep
from typing import Generic, TypeVar

from django.db import DatabaseError, connections

from enrollments import metrics

logger = logging.getLogger(__name__)
Key = TypeVar("Key")

# Between two writes of a process. What was counted since the last one is lost where the process is killed.
SECONDS_BETWEEN = 10.0
# Where nothing can be written, of the database and of the files that its writers wait at.
CANNOT_WRITE = (DatabaseError, OSError)


@dataclass(frozen=True, slots=True)
class Times:
    """How often, when first and when last."""

    count: int
    first_at: datetime
    last_at: datetime

    @classmethod
    def at(cls, at: datetime, count: int = 1) -> "Times":
        return cls(count, at, at)

    def __add__(self, other: "Times") -> "Times":
        first, last = min(self.first_at, other.first_at), max(self.last_at, other.last_at)
        return Times(self.count + other.count, first, last)


class AddedUp(Generic[Key]):
    """Counts by key. The first one begins a thread that writes them all down a little later, until none is left.

    write: raises whatever it raises with nothing written; then all is kept and tried again. most: keys that are apart.
    seconds: how much later; where nothing can be written, it is as long as ever. portion: so many keys are written at a
    time, so that others who write wait no longer than for these.
    """

    def __init__(
        self,
        what: str,
        write: Callable[[Mapping[Key, Times]], None],
        *,
        most: int,
        seconds: float = SECONDS_BETWEEN,
        portion: int = 0,
    ) -> None:
        self._what = what
        self._write = write
        self._most = most
        self._seconds = seconds
        self._portion = portion or most + 1
        self._counts: dict[Key, Times] = {}
        self._has_thread = False
        self._lock = threading.Lock()
        # Held while something is written, so that whoever stops does so with all of it written, by whomever.
        self._writing = threading.Lock()
        _ALL.append(self)

    def add(self, key: Key, times: Times, *, crowded: Key) -> Key:
        """Returns what it is counted as. `crowded`: in place of the key where there are too many of them."""
        with self._lock:
            if key not in self._counts and len(self._counts) >= self._most:
                key = crowded
            self._add(key, times)
            begins, self._has_thread = not self._has_thread, True
        if begins:
            in_background(self._write_until_none_is_left, self._what)
        return key

    def write_down(self) -> None:
        """All that was counted, now. Raises what `write` raises."""
        with self._writing:
            with self._lock:
                counts, self._counts = self._counts, {}
            try:
                while counts:
                    some = dict(islice(counts.items(), self._portion))
                    self._write(some)
                    for key in some:
                        del counts[key]
            except BaseException:
                with self._lock:
                    for key, times in counts.items():
                        self._add(key, times)
                raise

    def write_down_or_say(self) -> bool:
        """Whether it could be written."""
        try:
            self.write_down()
        except CANNOT_WRITE as problem:
            say_not_written(self._what, problem)
            return False
        return True

    @property
    def waiting(self) -> int:
        """How many are counted and not written down."""
        with self._lock:
            return sum(times.count for times in self._counts.values())

    def _add(self, key: Key, times: Times) -> None:
        before = self._counts.get(key)
        self._counts[key] = times if before is None else before + times

    def _write_until_none_is_left(self) -> None:
        seconds = self._seconds
        try:
            while self._goes_on():
                sleep(seconds)
                seconds = self._seconds if self.write_down_or_say() else SECONDS_BETWEEN
                # The next time it may be gone, and nobody else looks whether it is.
                connections.close_all()
        except BaseException:
            # It is a fault, which the log has; whatever is counted next begins another thread.
            with self._lock:
                self._has_thread = False
            raise
        finally:
            connections.close_all()

    def _goes_on(self) -> bool:
        with self._lock:
            self._has_thread = bool(self._counts)
            return self._has_thread


_ALL: list[AddedUp] = []  # type: ignore[type-arg]  # whatever their keys are


def write_down_everything() -> None:
    """Before a process ends. What cannot be written is lost, and said."""
    for one in _ALL:
        one.write_down_or_say()
        if lost := one.waiting:
            logger.error("counts are lost", extra={"fields": {"what": one._what, "count": lost}})


def say_not_written(what: str, problem: Exception) -> None:
    """In the log, and for whoever watches the service from outside: the history itself cannot say it."""
    metrics.not_recorded(what)
    logger.error("the history cannot be written", extra={"fields": {"what": what, "cause": str(problem)}})


def in_background(run: Callable[[], None], name: str) -> None:
    threading.Thread(target=run, name=name, daemon=True).start()
