"""The public keys of a TPM as people give them, in a file or as text, and what a page shows of one."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict

from enrollments.attestation.tpm import (
    MAX_PUBLIC_BYTES,
    StorageKey,
    read_endorsement_key,
    read_storage_root_key,
)
from enrollments.errors import AttestationError
from enrollments.models import IndividualEnrollment
from enrollments.portal.certificate_input import Files

READERS: dict[str, Callable[[bytes | str], StorageKey]] = {
    "endorsement_key": read_endorsement_key,
    "storage_root_key": read_storage_root_key,
}
LABELS = {"endorsement_key": "Endorsement key", "storage_root_key": "Storage root key"}
# Base64 in lines, with room for what an editor puts around it.
MAX_FILE_BYTES = 4 * MAX_PUBLIC_BYTES


@dataclass(frozen=True, slots=True)
class GivenKey:
    """What was given for one key. Only what was read as a public key is shown again: anything else might be secret.

    `is_file`: it was given as a file, so that is where something can be mended.
    """

    key: StorageKey | None = None
    problem: str = ""
    is_file: bool = False

    @property
    def is_empty(self) -> bool:
        return self.key is None and not self.problem

    @property
    def text(self) -> str:
        return base64.b64encode(self.key.encoded).decode() if self.key is not None else ""

    @property
    def sentence(self) -> str:
        """What is wrong, for a form that comes back; text that stood in it before is not there any more."""
        if self.problem and not self.is_file:
            return f"{self.problem} It is not shown again here in case it was secret."
        return self.problem


def read_tpm_keys(data: Mapping[str, Any], files: Files) -> dict[str, GivenKey]:
    """By field. A file comes before text: it was chosen after the text came back."""
    return {
        name: _read(data.get(name, ""), files.get(f"{name}_upload"), reader)
        for name, reader in READERS.items()
    }


def keys_as_text(data: QueryDict, given: Mapping[str, GivenKey]) -> QueryDict:
    """The data with keys as base64: a file outlives a form error, and what is no public key does not."""
    data = data.copy()
    for name, one in given.items():
        data[name] = one.text
    return data


def _read(
    pasted: str, upload: "UploadedFile[Any] | None", reader: Callable[[bytes | str], StorageKey]
) -> GivenKey:
    raw: bytes | str = pasted
    if upload is not None:
        upload.seek(0)
        raw = upload.read(MAX_FILE_BYTES + 1)
    elif not pasted.strip():
        return GivenKey()
    try:
        return GivenKey(reader(raw), is_file=upload is not None)
    except AttestationError as problem:
        return GivenKey(problem=problem.message, is_file=upload is not None)


@dataclass(frozen=True, slots=True)
class TpmCard:
    """One key of a TPM as a page shows it. `registration_id`: what the device is called where no name is given."""

    label: str
    digest: str
    registration_id: str = ""


def cards_held(enrollment: IndividualEnrollment) -> dict[str, TpmCard]:
    """By field, the keys that an enrollment holds now."""
    held = {
        "endorsement_key": enrollment.endorsement_key,
        "storage_root_key": enrollment.storage_root_key,
    }
    return {
        name: TpmCard("Held now", READERS[name](bytes(encoded)).digest)
        for name, encoded in held.items()
        if encoded
    }


@dataclass(frozen=True, slots=True)
class KeyPreview:
    """What was read of one key that was given, or why it was not."""

    label: str
    card: TpmCard | None
    problem: str


def preview_of_keys(given: Mapping[str, GivenKey]) -> list[KeyPreview]:
    """What to show for the keys that were given."""
    return [
        KeyPreview(LABELS[name], _card(name, one.key) if one.key is not None else None, one.problem)
        for name, one in given.items()
        if not one.is_empty
    ]


def _card(name: str, key: StorageKey) -> TpmCard:
    named = key.default_registration_id if name == "endorsement_key" else ""
    return TpmCard(f"{LABELS[name]}, as read", key.digest, named)
