"""A long history checked by several processes, which go ahead of the one that asked.

All that another process can say of a portion is that it is in order from end to end. Where it says anything else, or
nothing, or its portion does not begin with the very hash at which the check has arrived, the check goes through that
portion itself: one place says what is wrong, and in no case is less looked at.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import active_children, get_all_start_methods, get_context
from threading import Thread
from typing import Any

from django.db import DatabaseError, connection, connections

from enrollments.audit.chain import sealed_rows
from enrollments.audit.guards import SqliteIndexes, sqlite_indexes, wrong_index
from enrollments.audit.notes import BadNote, Checkpoint, VerifierKey
from enrollments.audit.report import Report
from enrollments.audit.signed import SignedHere
from enrollments.audit.verify import Check
from enrollments.collecting import without_collecting

# Fewer rows are done before the other processes have begun.
WORTH_IT = 20_000
# Less than the check takes at a time: nobody is to wait for the last one long.
PORTION = 5_000
MOST_PROCESSES = 8


@dataclass(frozen=True, slots=True)
class InOrder:
    """A portion that is in order, if what stands before it ends with `previous`."""

    begin: int
    previous: str
    report: Report


class Ahead:
    """Portions of one check, each given out once, and taken in their order; then what there is to count."""

    def __init__(self, pool: Executor, processes: int, until: int) -> None:
        self._pool: Executor | None = pool
        # One more than there are processes, so that none of them waits for the next.
        self._at_once = processes + 1
        self._begins = iter(range(0, until - PORTION + 1, PORTION))
        self._portions: deque[tuple[int, Future[InOrder | None]]] = deque()
        self._indexes: dict[SqliteIndexes, Future[bool]] | None = None

    def has_done(self, check: Check) -> bool:
        """Whether what the check has to do next was done by another process, and is in order. It is taken over."""
        if self._pool is None:
            return False
        try:
            self._give_out(self._pool, check.report.rows)
            if check.is_following:
                return self._has_followed(check)
            return check.counted_indexes is not None and self._has_counted(check, check.counted_indexes)
        except BrokenProcessPool:
            # Killed, by somebody or for want of memory. Nothing is lost but time.
            self._pool = None
        except OSError:
            # There are no more processes to be had. Those that were started nobody else ends.
            self._pool = None
            for one in active_children():
                one.terminate()
        return False

    def _give_out(self, pool: Executor, done: int) -> None:
        while self._portions and self._portions[0][0] < done:
            self._portions.popleft()
        while len(self._portions) < self._at_once:
            begin = next((begin for begin in self._begins if begin >= done), None)
            if begin is None:
                if self._indexes is None:
                    self._indexes = {one: pool.submit(_are_whole, one) for one in sqlite_indexes()}
                return
            self._portions.append((begin, pool.submit(_follow, begin, begin + PORTION)))

    def _has_followed(self, check: Check) -> bool:
        if not self._portions or self._portions[0][0] != check.report.rows:
            return False
        portion = self._portions.popleft()[1].result()
        return portion is not None and _joins(portion, check)

    def _has_counted(self, check: Check, already: int) -> bool:
        given = self._indexes or {}
        for indexes in sqlite_indexes()[already : already + 1]:
            if indexes in given and given[indexes].result():
                check.counted_indexes = already + 1
                return True
        return False


def _joins(portion: InOrder, check: Check) -> bool:
    """Whether the portion goes on where the check is; if so, it is part of the check now."""
    report = check.report
    if (portion.begin, portion.previous) != (report.rows, report.head) or portion.report.rows > check.until:
        return False
    return report.joined(portion.report)


@contextmanager
def processes_ahead(check: Check, keys: list[VerifierKey], own: Iterable[str]) -> Iterator[Ahead | None]:
    """None where other processes are not worth it, could not see the rows, or cannot be had."""
    processes = min(_processors(), MOST_PROCESSES)
    # What a transaction has written is not there for others yet.
    hidden = connection.in_atomic_block
    if check.until < WORTH_IT or processes < 2 or hidden or "fork" not in get_all_start_methods():
        yield None
        return
    # A connection is of no use to two processes; each opens its own.
    connections.close_all()
    pool = None
    with suppress(OSError, NotImplementedError, ImportError):  # a machine without what processes share
        given = (os.getpid(), keys, list(own), check.kept)
        pool = ProcessPoolExecutor(processes, get_context("fork"), _begin, given)
    try:
        yield Ahead(pool, processes, check.until) if pool else None
    finally:
        if pool:
            pool.shutdown(wait=True, cancel_futures=True)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- In another process --------------------------------------------------------------------------------------------

_given: dict[str, Any] = {}


def _begin(asking: int, keys: list[VerifierKey], own: list[str], kept: list[Checkpoint]) -> None:
    # Whoever interrupts the command interrupts the one that asked, which ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with, args=[asking], daemon=True).start()
    _take(keys, own, kept)


def _take(keys: list[VerifierKey], own: list[str], kept: list[Checkpoint]) -> None:
    _given.update(keys=keys, own=own, kept=kept)


def _end_with(asking: int) -> None:
    """Where the one that asked is killed, nobody stays behind."""
    while os.getppid() == asking:
        time.sleep(1)
    os._exit(1)


@without_collecting()
def _follow(begin: int, to: int) -> InOrder | None:
    previous = Report()
    try:
        if begin:
            before = list(sealed_rows(begin, begin - 1))
            if len(before) != 1:
                return None
            previous = Report(rows=begin, head=before[0].hash, latest=before[0].at, earliest=before[0].at)
        check, head = Check(to, _given["kept"], previous), previous.head
        check.follow(SignedHere(_given["keys"], _given["own"]), to - begin)
    except (BadNote, DatabaseError):
        # Whoever asked finds it as well, and says it; or has a connection, and there are no more to be had.
        return None
    is_in_order = check.report.ok and check.report.rows == check.until == to
    return InOrder(begin, head, check.report) if is_in_order else None


def _are_whole(indexes: SqliteIndexes) -> bool:
    try:
        return wrong_index(indexes) is None
    except DatabaseError:
        return False
