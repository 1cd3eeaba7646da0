"""Certificates of the portions to come, read by a second process while this one checks the portions before.

Where there is one core, where another import of this process has the second, or where that process fails, nothing is
read ahead, and the check reads the certificates itself.
"""

import json
import logging
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from types import MappingProxyType

from django.conf import settings

from enrollments.attestation.x509 import DeviceCertificate, from_values
from enrollments.transfer.lines import BadLine, Record, certificates_of

logger = logging.getLogger(__name__)

Portion = list[Record | BadLine]
Known = Mapping[str, DeviceCertificate]
NOTHING: Known = MappingProxyType({})
# Portions that are read and wait for their check, or are being read.
AHEAD = 2
FIRST = 2
# For a portion, which takes a twentieth of a second. A run whose holder says nothing for longer is somebody else's.
PATIENCE_SECONDS = 10
_MODULE = "enrollments.attestation.x509.reader"
# Of our own environment only what a process needs to begin: no key of ours.
_NEEDED = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "LANG")
_one_at_a_time = threading.Semaphore(1)


def with_certificates(portions: Iterable[Portion]) -> Generator[tuple[Portion, Known], None, None]:
    """Each portion with those of its certificates that were read, by their texts.

    The first ones come without: in less time than it takes a process to begin they are checked.
    """
    portions = iter(portions)
    for portion in islice(portions, FIRST):
        yield portion, NOTHING
    with _reader() as reader:
        waiting: deque[tuple[Portion, Future[Known] | None]] = deque()
        for portion in portions:
            waiting.append((portion, reader.begin(portion) if reader else None))
            if len(waiting) > AHEAD:
                yield _read(waiting.popleft(), reader)
        while waiting:
            yield _read(waiting.popleft(), reader)


def _read(waiting: tuple[Portion, Future[Known] | None], reader: "_Reader | None") -> tuple[Portion, Known]:
    portion, begun = waiting
    if begun is None or reader is None or reader.is_over:
        return portion, NOTHING
    try:
        return portion, begun.result(timeout=PATIENCE_SECONDS)
    except (OSError, ValueError, TimeoutError) as problem:
        logger.warning("certificates are not read ahead any more", extra={"fields": {"cause": repr(problem)}})
        reader.give_up()
        return portion, NOTHING


@contextmanager
def _reader() -> "Iterator[_Reader | None]":
    if _cores() < 2 or not _one_at_a_time.acquire(blocking=False):
        yield None
        return
    try:
        reader = _begun()
        try:
            yield reader
        finally:
            if reader is not None:
                reader.give_up()
    finally:
        _one_at_a_time.release()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begun() -> "_Reader | None":
    try:
        return _Reader()
    except OSError as problem:
        logger.warning("certificates cannot be read ahead", extra={"fields": {"cause": repr(problem)}})
        return None


class _Reader:
    """The process, and the thread that talks to it: begun anew and not forked, since this process has threads."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _NEEDED if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            cwd=settings.BASE_DIR,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C at the command line is for us: the end of its input is what ends it.
            start_new_session=True,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reading ahead")
        self.is_over = False

    def begin(self, portion: Portion) -> Future[Known] | None:
        texts = [
            holder["certificate"]
            for one in portion
            if isinstance(one, Record) and not one.is_group
            for _, holder in certificates_of(one.message)
        ]
        return self._thread.submit(self._ask, texts) if texts and not self.is_over else None

    def give_up(self) -> None:
        self.is_over = True
        self._process.kill()
        self._thread.shutdown(cancel_futures=True)
        for pipe in (self._process.stdin, self._process.stdout):
            # What was not written out is nobody's any more.
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]  # both are pipes
        self._process.wait()

    def _ask(self, texts: list[str]) -> Known:
        """Raises OSError, ValueError."""
        asked, answered = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answered is not None
        asked.write(json.dumps(texts).encode() + b"\n")
        asked.flush()
        # The end of it is no JSON, and so a ValueError.
        found = json.loads(answered.readline())
        return {
            text: from_values(bytes.fromhex(one[0]), one[1])
            for text, one in zip(texts, found, strict=True)
            if one is not None
        }
