"""A ZIP archive that is sent while it is made: nothing of it is kept, in memory or on disk."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from io import RawIOBase
from typing import Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo


class Part(NamedTuple):
    """`may_be_huge`: beyond 2 GiB, for which readers need to know ZIP64. Spreadsheets stumble over it."""

    name: str
    chunks: Iterable[bytes]
    may_be_huge: bool = False


class _Sink(RawIOBase):
    """A file in which one cannot go back, so that the archive writes sizes behind its parts."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        written, self._written = b"".join(self._written), []
        return written


def zipped(parts: Iterable[Part], at: datetime) -> Iterator[bytes]:
    sink = _Sink()
    # The fastest level: an export is sent once, and its tables shrink to a tenth all the same.
    with ZipFile(sink, "w", ZIP_DEFLATED, compresslevel=1) as archive:
        for part in parts:
            info = ZipInfo(part.name, at.timetuple()[:6])
            info.compress_type = ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=part.may_be_huge) as member:
                for chunk in part.chunks:
                    member.write(chunk)
                    if sent := sink.taken():
                        yield sent
    yield sink.taken()
