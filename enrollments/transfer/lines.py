"""Reading a list: what each line asks for, or one sentence about what is wrong with it. Nothing is looked up here."""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

from enrollments.attestation.x509 import (
    MAX_UPLOAD_BYTES,
    DeviceCertificate,
    PrivateKeyInUpload,
    refuse_private_keys,
)
from enrollments.audit.record import clean_reason
from enrollments.errors import Invalid
from enrollments.models import ImportFormat, Slot
from enrollments.policy.documents import DocumentProblem
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id, registration_key
from enrollments.transfer.archive import Archive, MemberRefused
from enrollments.transfer.columns import Line, WrongCell
from enrollments.transfer.limits import (
    MAX_GROUPS,
    MAX_LINES,
)
from enrollments.transfer.list_formats import LineRefused, ListRefused, taken_from

OPERATIONS = ("create", "update", "createOrUpdate", "disable")
# Members of a line that are no members of an entry.
OURS = ("operation", "predecessor", "secretsWithheld", "switchesAt", "scheduleReason")
_FILE_NAME = re.compile(r"[^\r\n]{1,250}\.(?:pem|crt|cer|cert|der|txt)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Record:
    """What one line asks for. `message`: an entry as the service API knows it, not looked at yet."""

    line: int
    is_group: bool
    name: str
    operation: str
    message: dict[str, Any]
    predecessor: str | None = None
    secrets_withheld: bool = False
    # By the texts of the message: what was read and judged already.
    certificates: dict[str, DeviceCertificate] = field(default_factory=dict)
    # Until when the entry stands as the message says, and why.
    switches_at: datetime | None = None
    schedule_reason: str = ""
    # Of the line and what it takes out of a ZIP, in bytes, more or less.
    size: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class BadLine:
    line: int
    name: str
    sentence: str


def records(file: IO[bytes], format: ImportFormat, archive: Archive | None) -> Iterator[Record | BadLine]:
    """In the order of the lines. Raises ListRefused, ArchiveRefused, at once or in the middle."""
    reader, count = _Reader(archive), 0
    for number, size, take in taken_from(file, format):
        count += 1
        if count > MAX_LINES:
            raise ListRefused(f"The list has more than {MAX_LINES} lines: split it.")
        yield reader.read(number, size, take)
    if not count:
        raise ListRefused("The list is empty.")


class _Reader:
    """What is remembered from one line to the next."""

    def __init__(self, archive: Archive | None) -> None:
        self._archive = archive
        self._named: dict[tuple[bool, str], int] = {}
        self._groups = 0

    def read(self, number: int, size: int, take: Callable[[], Line]) -> Record | BadLine:
        name = ""
        try:
            line = take()
            is_group, name = _named(line)
            self._refuse_repetition(number, is_group, name)
            size += self._take_files(line)
            return _record(number, is_group, name, line, size)
        except WrongCell as problem:
            return BadLine(number, problem.name[:128], str(problem))
        except (LineRefused, DocumentProblem) as problem:
            return BadLine(number, name[:128], str(problem))
        except (MemberRefused, PrivateKeyInUpload) as refused:
            return BadLine(number, name[:128], refused.message)

    def _refuse_repetition(self, number: int, is_group: bool, name: str) -> None:
        """One line for one entry: then it makes no difference in which order lines are carried out."""
        first = self._named.setdefault((is_group, registration_key(name)), number)
        if first != number:
            raise LineRefused(f"{name} stands in line {first} already: give each entry one line.")
        self._groups += is_group
        if self._groups > MAX_GROUPS:
            raise ListRefused(f"The list has more than {MAX_GROUPS} groups: split it.")

    def _take_files(self, line: Line) -> int:
        """Put certificates in the place of the names of their files; how many bytes that are.

        Raises MemberRefused, PrivateKeyInUpload.
        """
        taken = 0
        for _, holder in certificates_of(line):
            text = holder["certificate"]
            if self._names_file(text):
                if self._archive is None:
                    raise LineRefused(
                        f"{text[:100]!a} is the name of a file, and there is no ZIP beside the list."
                    )
                content = self._archive.read(text)
                refuse_private_keys(content)
                holder["certificate"] = _as_text(content)
                taken += len(holder["certificate"])
            elif len(text) > MAX_UPLOAD_BYTES:
                raise LineRefused(f"A certificate has more than {MAX_UPLOAD_BYTES} bytes.")
            else:
                refuse_private_keys(text)
        return taken

    def _names_file(self, text: str) -> bool:
        if _FILE_NAME.fullmatch(text):
            return True
        return self._archive is not None and len(text) <= 255 and text in self._archive


def _record(number: int, is_group: bool, name: str, line: Line, size: int) -> Record:
    operation = line.pop("operation", "create")
    predecessor, withheld = line.pop("predecessor", None), line.pop("secretsWithheld", False)
    if operation == "delete":
        raise LineRefused("operation: an import deletes nothing. To shut a device out, disable it.")
    if operation not in OPERATIONS:
        raise LineRefused(f"operation must be one of {', '.join(OPERATIONS)}.")
    if predecessor is not None and not (isinstance(predecessor, str) and is_group):
        raise LineRefused("predecessor must be a string, and only a group has one.")
    if not isinstance(withheld, bool):
        raise LineRefused("secretsWithheld must be true or false.")
    switches_at, reason = _schedule(operation, line)
    return Record(
        number,
        is_group,
        name,
        operation,
        line,
        predecessor,
        withheld,
        switches_at=switches_at,
        schedule_reason=reason,
        size=size,
    )


def _schedule(operation: str, line: Line) -> tuple[datetime | None, str]:
    """When its switch turns and why, taken out of the line."""
    at, reason = line.pop("switchesAt", None), line.pop("scheduleReason", None)
    if at is None:
        if reason is not None:
            raise LineRefused(
                "scheduleReason says why the switch turns at a time: give that time as switchesAt, or leave it out."
            )
        return None, ""
    if operation == "disable":
        raise LineRefused(
            "switchesAt: disable is until somebody enables it. To disable it until a time, say update and give all of "
            "the entry."
        )
    if line.get("provisioningStatus") is None:
        raise LineRefused(
            "switchesAt: say with provisioningStatus whether the entry is enabled or disabled until then."
        )
    if reason is not None and not isinstance(reason, str):
        raise LineRefused("scheduleReason must be a string.")
    try:
        return _moment(at), clean_reason(reason or "")
    except Invalid as problem:
        raise LineRefused(f"scheduleReason: {problem.message}") from None


def _moment(text: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise LineRefused(
                "switchesAt: say in which zone that time is meant, for instance with Z for UTC: 2030-05-03T14:00:00Z."
            )
        return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as problem:
        if isinstance(problem, LineRefused):
            raise
        raise LineRefused("switchesAt must be a time such as 2030-05-03T14:00:00Z.") from None


def _named(line: Line) -> tuple[bool, str]:
    given = [member for member in ("registrationId", "enrollmentGroupId") if line.get(member) is not None]
    if len(given) != 1:
        raise LineRefused("Give either registrationId or enrollmentGroupId: it says which entry is meant.")
    name = line[given[0]]
    if not isinstance(name, str) or not is_registration_id(name):
        raise LineRefused(f"{given[0]}: give {FORM_IN_WORDS}.")
    return given[0] == "enrollmentGroupId", name


def certificates_of(line: Line) -> list[tuple[Slot, dict[str, Any]]]:
    """The objects in which certificates stand, as far as the line has the form that it should have."""
    attestation = line.get("attestation")
    x509 = attestation.get("x509") if isinstance(attestation, dict) else None
    if not isinstance(x509, dict):
        return []
    found = []
    for member in ("clientCertificates", "signingCertificates"):
        pair = x509.get(member)
        if isinstance(pair, dict):
            for name, slot in _SLOTS:
                holder = pair.get(name)
                if isinstance(holder, dict) and isinstance(holder.get("certificate"), str):
                    found.append((slot, holder))
    return found


# By their plain names: looking one up by a member of an enumeration takes ten times as long.
_SLOTS = tuple((slot.value, slot) for slot in (Slot.PRIMARY, Slot.SECONDARY))


def _as_text(content: bytes) -> str:
    if b"-----BEGIN" in content:
        try:
            return content.decode("ascii")
        except UnicodeDecodeError:
            pass
    return b64encode(content).decode()
