"""An uploaded file as a file again, read from its parts in the database: nothing of it lies in clear on a disk."""

import io

from enrollments.models import ImportRun, PartKind
from enrollments.transfer.limits import PART_BYTES


def uploaded(run: ImportRun, kind: PartKind) -> io.BufferedReader | None:
    """None where nothing was uploaded."""
    parts = _Parts(run, kind)
    return io.BufferedReader(parts, PART_BYTES) if parts.size else None


class _Parts(io.RawIOBase):
    """All parts are PART_BYTES long but the last, so that a position says which one it is in."""

    def __init__(self, run: ImportRun, kind: PartKind) -> None:
        self._parts = run.parts.filter(kind=kind)
        self.size = sum(self._parts.values_list("size", flat=True))
        self._position = 0
        self._read: tuple[int, bytes] = (-1, b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError("a position before the beginning")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # narrower than any buffer
        if self._position >= self.size:
            return 0
        number, offset = divmod(self._position, PART_BYTES)
        piece = self._content(number)[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _content(self, number: int) -> bytes:
        if self._read[0] != number:
            text: str = self._parts.values_list("content", flat=True).get(number=number)
            self._read = number, text.encode("latin-1")
        return self._read[1]
