"""A table of fixed size in a file that all processes of a node map into memory.

It remembers few numbers per key, for as long as there is room: when a bucket is full, what was touched longest ago
is forgotten. Nothing here is durable, and nothing that decides who may come in rests on it.
"""

import fcntl
import hashlib
import mmap
import os
import secrets
import struct
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import TypeVar

Numbers = tuple[float, float, float, float, float]
T = TypeVar("T")

NOTHING: Numbers = (0.0, 0.0, 0.0, 0.0, 0.0)
WAYS = 8
_MAGIC = b"dpsportal rates1"
_HEADER = struct.Struct("16s16sQ")
# The key's digest, when it was touched last, and its numbers: one cache line.
_SLOT = struct.Struct("16s6d")
_HEADER_BYTES = 64


class SharedTable:
    """Maps keys to five numbers each. Safe between threads and processes; a change is one function call long.

    Keys go through a keyed digest, so that nobody can choose names that crowd one bucket.
    """

    def __init__(self, path: Path, *, slots: int) -> None:
        self._path = path
        self._buckets = slots // WAYS
        self._size = _HEADER_BYTES + self._buckets * WAYS * _SLOT.size
        self._threads = threading.Lock()
        self._process = 0
        self._file: FileIO | None = None
        self._memory: mmap.mmap | None = None
        self._secret = b""

    def change(self, key: bytes, now: float, change: Callable[[Numbers], tuple[Numbers | None, T]]) -> T:
        """Let `change` see the numbers of a key and give new ones, or None to leave them; returns what it returns."""
        with self._threads:
            file, memory = self._opened()
            digest = hashlib.blake2b(key, digest_size=16, key=self._secret).digest()
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                position, numbers = self._find(memory, digest)
                changed, result = change(numbers)
                if changed is not None:
                    _SLOT.pack_into(memory, position, digest, now, *changed)
                return result
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    def look(self, key: bytes) -> Numbers | None:
        """The numbers of a key, without a trace of having looked: neither is anything made that is not there.

        None where nobody has counted anything on this node yet, or this process may not read what others counted.
        """
        with self._threads:
            try:
                file = self._path.open("rb", buffering=0)
            except (FileNotFoundError, PermissionError):
                return None
            with file:
                fcntl.flock(file, fcntl.LOCK_SH)
                head = file.read(_HEADER.size)
                if len(head) != _HEADER.size:
                    return None
                magic, secret, size = _HEADER.unpack(head)
                if (magic, size) != (_MAGIC, self._size):
                    return None
                digest = hashlib.blake2b(key, digest_size=16, key=secret).digest()
                file.seek(self._bucket(digest))
                bucket = file.read(WAYS * _SLOT.size)
        for position in range(0, len(bucket), _SLOT.size):
            kept, _touched, *numbers = _SLOT.unpack_from(bucket, position)
            if kept == digest:
                return numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
        return None

    def _bucket(self, digest: bytes) -> int:
        return _HEADER_BYTES + int.from_bytes(digest[:8], "big") % self._buckets * WAYS * _SLOT.size

    def _find(self, memory: mmap.mmap, digest: bytes) -> tuple[int, Numbers]:
        """Where a key is or, if it is new, where it goes: a free place, or that of the one not seen for longest."""
        start = self._bucket(digest)
        oldest, oldest_touched = start, float("inf")
        for position in range(start, start + WAYS * _SLOT.size, _SLOT.size):
            kept, touched, *numbers = _SLOT.unpack_from(memory, position)
            if kept == digest:
                return position, (numbers[0], numbers[1], numbers[2], numbers[3], numbers[4])
            if touched < oldest_touched:
                oldest, oldest_touched = position, touched
        return oldest, NOTHING

    def _opened(self) -> tuple[FileIO, mmap.mmap]:
        """File and memory of this process: a lock that came through a fork would be the parent's."""
        if self._file is None or self._memory is None or self._process != os.getpid():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._file = FileIO(descriptor, "r+")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                self._secret = self._prepared(descriptor)
                self._memory = mmap.mmap(descriptor, self._size)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
            self._process = os.getpid()
        return self._file, self._memory

    def _prepared(self, descriptor: int) -> bytes:
        """The file's own secret. A file of another layout is emptied: it is worth nothing but its last minutes."""
        head = os.pread(descriptor, _HEADER.size, 0)
        if len(head) == _HEADER.size and os.fstat(descriptor).st_size == self._size:
            magic, secret, size = _HEADER.unpack(head)
            if (magic, size) == (_MAGIC, self._size):
                return bytes(secret)
        secret = secrets.token_bytes(16)
        os.ftruncate(descriptor, 0)
        os.ftruncate(descriptor, self._size)
        os.pwrite(descriptor, _HEADER.pack(_MAGIC, secret, self._size), 0)
        return secret
