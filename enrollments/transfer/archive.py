"""The ZIP beside a list, with the certificates that its lines name. Nothing of it is ever written to a disk."""

import struct
import zipfile
import zlib
from collections import Counter
from typing import IO

from enrollments.attestation.x509 import MAX_UPLOAD_BYTES
from enrollments.errors import DpsError
from enrollments.transfer.limits import MAX_DIRECTORY_BYTES, MAX_EXPANDED_BYTES, MAX_MEMBERS, MIB

# How a ZIP ends (APPNOTE.TXT, 4.3.14 to 4.3.16): a record that may be followed by a comment, and before it, in larger
# archives, a locator and another record.
_END, _LOCATOR, _END_64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_END_SIZE, _LOCATOR_SIZE, _END_64_SIZE, _MAX_COMMENT = 22, 20, 56, 65535


class ArchiveRefused(DpsError):
    """The ZIP as a whole cannot be taken."""

    code = "archive_refused"


class MemberRefused(DpsError):
    """One file in it cannot be taken."""

    code = "member_refused"


class Archive:
    """Certificate files by name. Raises ArchiveRefused for what is no ZIP, or one that would not stop."""

    def __init__(self, file: IO[bytes]) -> None:
        _check_directory(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, UnicodeDecodeError):
            raise ArchiveRefused("The archive is no ZIP file, or a damaged one.") from None
        members = [one for one in self._zip.infolist() if not one.is_dir()]
        if len(members) > MAX_MEMBERS:
            raise ArchiveRefused(
                f"The ZIP holds more than {MAX_MEMBERS} files: split it, and the list with it."
            )
        self._members = {one.filename: one for one in members}
        if len(self._members) < len(members):
            (name, _), *_ = Counter(one.filename for one in members).most_common(1)
            raise ArchiveRefused(f"The ZIP holds {name[:100]!a} twice: which of them is meant?")
        # Where a list gives a name alone, the folder does not matter, as long as the name is there once.
        short = Counter(_short(name) for name in self._members)
        self._by_short = {_short(name): name for name in self._members if short[_short(name)] == 1}
        self._ambiguous = {name for name, times in short.items() if times > 1}
        self._expanded = 0

    def __contains__(self, name: str) -> bool:
        return name in self._members or name in self._by_short or name in self._ambiguous

    def read(self, name: str) -> bytes:
        """Raises MemberRefused; ArchiveRefused once all that was read together is too much."""
        member = self._members.get(name) or self._members.get(self._by_short.get(name, ""))
        shown = ascii(name[:100])
        if member is None:
            if name in self._ambiguous:
                raise MemberRefused(f"The ZIP holds {shown} in several folders: name it with its folder.")
            raise MemberRefused(f"The ZIP holds no file {shown}.")
        if member.flag_bits & 1:
            raise MemberRefused(f"{shown} is encrypted in the ZIP.")
        try:
            # Never more than is asked for, whatever the archive says of its own sizes.
            with self._zip.open(member) as file:
                content = file.read(MAX_UPLOAD_BYTES + 1)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError, OSError):
            raise MemberRefused(
                f"{shown} is damaged in the ZIP, or packed in a way that is not known here."
            ) from None
        if len(content) > MAX_UPLOAD_BYTES:
            raise MemberRefused(f"{shown} has more than {MAX_UPLOAD_BYTES} bytes, which no certificate has.")
        self._expanded += len(content)
        if self._expanded > MAX_EXPANDED_BYTES:
            raise ArchiveRefused(
                f"The files of the ZIP have more than {MAX_EXPANDED_BYTES // MIB} MB together: split it."
            )
        return content


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _check_directory(file: IO[bytes]) -> None:
    """Before the library reads the directory into memory."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_SIZE - _MAX_COMMENT - _LOCATOR_SIZE - _END_64_SIZE))
    tail = file.read()
    file.seek(0)
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + _END_SIZE:
        raise ArchiveRefused("The archive is no ZIP file, or a damaged one.")
    (directory,) = struct.unpack_from("<I", tail, end + 12)
    locator = end - _LOCATOR_SIZE
    record = locator - _END_64_SIZE
    if record >= 0 and tail[locator : locator + 4] == _LOCATOR and tail[record : record + 4] == _END_64:
        (directory,) = struct.unpack_from("<Q", tail, record + 40)
    if directory > MAX_DIRECTORY_BYTES:
        raise ArchiveRefused("The ZIP holds too many files: split it, and the list with it.")
