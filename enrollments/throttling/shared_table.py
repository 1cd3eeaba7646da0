"""A table of fixed size in a file that all processes of a node map into memory.

It remembers few numbers per key, for as long as there is room: when a bucket is full, what was touched longest ago
is forgotten. Nothing here is durable, and nothing that decides who may come in rests on it.
"""

import fcntl
import logging
import mmap
import os
import secrets
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TypeVar

from enrollments.throttling.buckets import (
    BUCKET_BYTES,
    WAYS,
    Numbers,
    digest_of,
    find,
    look_up,
    put,
)

logger = logging.getLogger(__name__)
T = TypeVar("T")

_MAGIC = b"dpsportal rates1"
_HEADER = struct.Struct("16s16sQ")
_HEADER_BYTES = 64


@contextmanager
def _locked(file: FileIO | None) -> Iterator[None]:
    if file is None:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


class SharedTable:
    """Maps keys to five numbers each. Safe between threads and processes; a change is one function call long.

    Keys go through a keyed digest (buckets.py).
    """

    def __init__(self, path: Path, *, slots: int) -> None:
        self._path = path
        self._buckets = slots // WAYS
        self._size = _HEADER_BYTES + self._buckets * BUCKET_BYTES
        self._threads = threading.Lock()
        self._process = 0
        self._file: FileIO | None = None
        self._memory: mmap.mmap | None = None
        self._secret = b""

    def change(self, key: bytes, now: float, change: Callable[[Numbers], tuple[Numbers | None, T]]) -> T:
        """Let `change` see the numbers of a key and give new ones, or None to leave them; returns what it returns."""
        with self._threads:
            file, memory = self._opened()
            digest = digest_of(key, self._secret)
            with _locked(file):
                position, numbers = find(memory, self._bucket(digest), digest)
                changed, result = change(numbers)
                if changed is not None:
                    put(memory, position, digest, now, changed)
                return result

    def look(self, key: bytes) -> Numbers | None:
        """The numbers of a key, without a trace of having looked: neither is anything made that is not there.

        None where nobody has counted anything on this node yet, or this process may not read what others counted.
        """
        with self._threads:
            try:
                file = self._path.open("rb", buffering=0)
            except OSError:
                return None
            with file:
                fcntl.flock(file, fcntl.LOCK_SH)
                head = file.read(_HEADER.size)
                if len(head) != _HEADER.size:
                    return None
                magic, secret, size = _HEADER.unpack(head)
                if (magic, size) != (_MAGIC, self._size):
                    return None
                digest = digest_of(key, secret)
                file.seek(self._bucket(digest))
                return look_up(file.read(BUCKET_BYTES), digest)

    def _bucket(self, digest: bytes) -> int:
        return _HEADER_BYTES + int.from_bytes(digest[:8], "big") % self._buckets * BUCKET_BYTES

    def _opened(self) -> tuple[FileIO | None, mmap.mmap]:
        """File and memory of this process: a lock that came through a fork would be the parent's."""
        if self._memory is None or self._process != os.getpid():
            self._process = os.getpid()
            try:
                self._file = self._prepared_file()
                self._memory = mmap.mmap(self._file.fileno(), self._size)
                self._secret = _HEADER.unpack_from(self._memory)[1]
            except OSError as problem:
                # Each process counts by itself then, which lets devices come more often and keeps nobody out.
                logger.error(
                    "rates are not shared between processes",
                    extra={"fields": {"file": str(self._path), "cause": str(problem)}},
                )
                self._file, self._memory = None, mmap.mmap(-1, self._size)
                self._secret = secrets.token_bytes(16)
        return self._file, self._memory

    def _prepared_file(self) -> FileIO:
        """The file, made whole before anybody sees it. One of another layout is replaced, and never cut: others may
        have it mapped, and would be killed where it ends too early."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(3):
            try:
                file = FileIO(os.open(self._path, os.O_RDWR | os.O_CLOEXEC), "r+")
                if self._is_ours(file):
                    return file
                put = os.replace
            except FileNotFoundError:
                put = os.link  # of two that start at once, the second takes what the first has made
            self._make(put)
        raise OSError(f"{self._path} cannot be made")

    def _is_ours(self, file: FileIO) -> bool:
        head = os.pread(file.fileno(), _HEADER.size, 0)
        if len(head) != _HEADER.size or os.fstat(file.fileno()).st_size != self._size:
            return False
        magic, _, size = _HEADER.unpack(head)
        return (magic, size) == (_MAGIC, self._size)

    def _make(self, put: Callable[[Path, Path], None]) -> None:
        """With room on the disk for all of it: a hole that cannot be filled would kill who writes into it."""
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}.{threading.get_ident()}")
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
            os.pwrite(descriptor, _HEADER.pack(_MAGIC, secrets.token_bytes(16), self._size), 0)
            with suppress(FileExistsError):
                put(draft, self._path)
        finally:
            draft.unlink(missing_ok=True)
            os.close(descriptor)
