"""A bucket of few places, as bytes: what a table of fixed size is made of, wherever it is kept."""

import hashlib
import mmap
import struct

Numbers = tuple[float, float, float, float, float]
Buffer = bytes | bytearray | mmap.mmap

NOTHING: Numbers = (0.0, 0.0, 0.0, 0.0, 0.0)
WAYS = 8
# The key's digest, when it was touched last, and its numbers: one cache line.
_SLOT = struct.Struct("16s6d")
BUCKET_BYTES = WAYS * _SLOT.size


def digest_of(key: bytes, secret: bytes) -> bytes:
    """Keyed, so that nobody can choose names that crowd one bucket."""
    return hashlib.blake2b(key, digest_size=16, key=secret).digest()


def bucket_of(digest: bytes, buckets: int) -> int:
    return int.from_bytes(digest[:8], "big") % buckets


def find(memory: Buffer, start: int, digest: bytes) -> tuple[int, Numbers]:
    """Where a key is in the bucket that begins at `start` or, if it is new, where it goes: a free place, or that of the
    one not seen for longest."""
    oldest, oldest_touched = start, float("inf")
    for position in range(start, start + BUCKET_BYTES, _SLOT.size):
        kept, touched, *numbers = _SLOT.unpack_from(memory, position)
        if kept == digest:
            return position, (numbers[0], numbers[1], numbers[2], numbers[3], numbers[4])
        if touched < oldest_touched:
            oldest, oldest_touched = position, touched
    return oldest, NOTHING


def look_up(bucket: Buffer, digest: bytes) -> Numbers | None:
    """The numbers of a key in this one bucket. None where it is not there."""
    for position in range(0, len(bucket), _SLOT.size):
        kept, _touched, *numbers = _SLOT.unpack_from(bucket, position)
        if kept == digest:
            return numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    return None


def put(memory: bytearray | mmap.mmap, position: int, digest: bytes, now: float, numbers: Numbers) -> None:
    _SLOT.pack_into(memory, position, digest, now, *numbers)
