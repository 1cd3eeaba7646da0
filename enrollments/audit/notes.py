"""Signed notes: the text form in which transparency logs sign checkpoints (C2SP signed-note and tlog-checkpoint)."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from enrollments.audit.canonical import FORM
from enrollments.errors import DpsError
from enrollments.policy.words import printable

ED25519 = b"\x01"
_SIGNATURE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_TIME = "%Y-%m-%dT%H:%M:%SZ"
MAX_ORIGIN, MAX_UNKNOWN = 100, 200


class BadNote(DpsError):
    """A note that cannot be read, or whose signature does not fit."""

    code = "bad_note"


class UnknownSigner(BadNote):
    """Nobody whose key is known has signed it. So anybody may have written the names, and they are cut short."""

    code = "unknown_signer"

    def __init__(self, signers: str) -> None:
        names = printable(signers[:MAX_UNKNOWN])
        signers = names if len(signers) <= MAX_UNKNOWN else f"{names}…"
        super().__init__(f"This checkpoint was signed by {signers}, whose verifier key is not known here.")
        self.signers = signers


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of an installation's key, under its name: `name+keyhash+base64`."""

    name: str
    public: bytes

    @property
    def key_hash(self) -> bytes:
        return hashlib.sha256(f"{self.name}\n".encode() + ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_hash.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"

    @classmethod
    def read(cls, text: str) -> "VerifierKey":
        """Raises BadNote."""
        name, _, rest = text.strip().partition("+")
        key_hash, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raw = b""
        key = cls(name, raw[1:])
        if not name or len(raw) != 33 or raw[:1] != ED25519 or key.key_hash.hex() != key_hash:
            raise BadNote("This is no verifier key of the form name+hash+key.")
        return key


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key of this installation. Its name is made of the key, so another key never signs under the same name."""

    seed: bytes

    @property
    def verifier(self) -> VerifierKey:
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return VerifierKey(f"dpsportal-history-{hashlib.sha256(public).hexdigest()[:16]}", public)

    def signed(self, text: str) -> str:
        """The note: text, empty line, signature."""
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        key = self.verifier
        return f"{text}\n— {key.name} {base64.b64encode(key.key_hash + signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a note says: the sequence of `origin` had `size` rows, and the last of them the hash `head`, at `at`."""

    origin: str
    size: int
    head: str
    at: datetime

    def text(self) -> str:
        head = base64.b64encode(bytes.fromhex(self.head)).decode()
        return f"{self.origin}\n{self.size}\n{head}\nform {FORM}\ntime {self.at.astimezone(UTC):{_TIME}}\n"


def read_checkpoint(note: str, keys: list[VerifierKey]) -> Checkpoint:
    """What a note says, once the signature of one of the keys has been checked. Raises BadNote, UnknownSigner."""
    if not isinstance(note, str):
        raise BadNote("A checkpoint is a text; this is not.")  # SQLite keeps in a column whatever it is given
    text, separator, signatures = note.partition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise BadNote("A checkpoint is a text, an empty line and a signature; this is not.")
    text += "\n"
    _check_signatures(text, signatures.splitlines(), keys)
    return checkpoint_of(text)


def checkpoint_of(text: str) -> Checkpoint:
    """What the text of a note says, whose signature was checked. Raises BadNote."""
    lines = text.removesuffix("\n").split("\n")
    try:
        origin, size, head = lines[:3]
        extensions = dict(line.split(" ", 1) for line in lines[3:])
        if not size.isascii() or not size.isdigit() or extensions["form"] != FORM:
            raise ValueError
        at = datetime.strptime(extensions["time"], _TIME).replace(tzinfo=UTC)
        checkpoint = Checkpoint(origin, int(size), base64.b64decode(head, validate=True).hex(), at)
    except (ValueError, KeyError):
        raise BadNote("The text of this checkpoint is of another form.") from None
    if checkpoint.text() != text:
        raise BadNote("The text of this checkpoint is of another form.")
    return checkpoint


def notes_in(text: str) -> list[str]:
    """The notes of a file to which one after the other is appended. Raises BadNote where there is something else."""
    notes: list[str] = []
    for block in text.replace("\r\n", "\n").strip("\n").split("\n\n"):
        if block.startswith("— ") and notes and not notes[-1].endswith("\n"):
            notes[-1] += f"\n\n{block}\n"
        else:
            notes.append(block)
    if not all(note.endswith("\n") for note in notes):
        raise BadNote("This is no checkpoint, and no file of checkpoints.")
    return notes


def claimed_size(note: str) -> int:
    """For how many rows a note says that it was signed, before anybody has checked that. Raises BadNote."""
    size = note.split("\n", 2)[1:2]
    if not size or not size[0].isascii() or not size[0].isdigit() or len(size[0]) > 18:
        raise BadNote("The text of this checkpoint is of another form.")
    return int(size[0])


def _check_signatures(text: str, lines: list[str], keys: list[VerifierKey]) -> None:
    """One of the keys has signed it, as the history of its own name. Others may have signed it too."""
    found = [match for line in lines if (match := _SIGNATURE.fullmatch(line))]
    if len(found) != len(lines) or not lines:
        raise BadNote("The signature of this checkpoint cannot be read.")
    origin = text.partition("\n")[0]
    known = ""
    for match in found:
        try:
            raw = base64.b64decode(match[2], validate=True)
        except binascii.Error:
            raise BadNote("The signature of this checkpoint cannot be read.") from None
        named = [key for key in keys if key.name == match[1]]
        if not named:
            continue
        known = match[1]
        _check_signature(text, raw, named)
        if known == origin:
            return
    if known:
        raise BadNote(
            f"This checkpoint, which {known} signed, is of another history: {printable(origin[:MAX_ORIGIN])}."
        )
    names = ", ".join(match[1] for match in found)
    raise UnknownSigner(names)


def _check_signature(text: str, raw: bytes, named: list[VerifierKey]) -> None:
    key = next((one for one in named if one.key_hash == raw[:4]), None)
    if key is None:
        name = named[0].name
        raise BadNote(f"This checkpoint names {name} as its signer, and was signed with another key.")
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(raw[4:], text.encode())
    except UnicodeEncodeError:
        raise BadNote("The text of this checkpoint is of another form.") from None
    except InvalidSignature:
        raise BadNote(f"The signature of {key.name} does not fit this checkpoint.") from None
