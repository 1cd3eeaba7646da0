"""The public keys of a TPM as people give them, in a file or as text, and what a page shows of one."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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

READERS = {"endorsement_key": read_endorsement_key, "storage_root_key": read_storage_root_key}
# Base64 in lines, with room for what an editor puts around it.
MAX_FILE_BYTES = 4 * MAX_PUBLIC_BYTES


@dataclass(frozen=True, slots=True)
class GivenKey:
    """What was given for one key. Only what was read as a public key is shown again: anything else might be secret."""

    key: StorageKey | None = None
    problem: str = ""

    @property
    def text(self) -> str:
        return base64.b64encode(self.key.encoded).decode() if self.key is not None else ""


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


def _read(pasted: str, upload: Any, reader: Any) -> GivenKey:
    raw: bytes | str = pasted
    if upload is not None:
        upload.seek(0)
        raw = upload.read(MAX_FILE_BYTES + 1)
    elif not pasted.strip():
        return GivenKey()
    try:
        return GivenKey(reader(raw))
    except AttestationError as problem:
        return GivenKey(problem=problem.message)


@dataclass(frozen=True, slots=True)
class TpmCard:
    """One key of a TPM as a page shows it."""

    label: str
    digest: str
    registration_id: str = ""


def card_of(name: str, key: StorageKey) -> TpmCard:
    if name == "endorsement_key":
        return TpmCard("Endorsement key", key.digest, key.default_registration_id)
    return TpmCard("Storage root key", key.digest)


def cards_held(enrollment: IndividualEnrollment) -> list[TpmCard]:
    held = {
        "endorsement_key": enrollment.endorsement_key,
        "storage_root_key": enrollment.storage_root_key,
    }
    return [card_of(name, READERS[name](bytes(encoded))) for name, encoded in held.items() if encoded]
