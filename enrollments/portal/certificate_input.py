"""Certificates as people give them, in a file or as text, and what a page shows of one before it is saved."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias

from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from django.utils import timezone
from django.utils.datastructures import MultiValueDict

from enrollments.actions.entry_specs import Kind, enrolled_in, findings
from enrollments.actions.preview import Entry
from enrollments.attestation.x509 import (
    MAX_UPLOAD_BYTES,
    CertificateFacts,
    Finding,
    ParsedCertificate,
    PrivateKeyInUpload,
    UnparsedCertificate,
    UploadTooLarge,
    read_upload,
    registration_id_of,
)
from enrollments.errors import AttestationError
from enrollments.models import ProvisioningService, Slot
from enrollments.policy.facts import EntryRef
from enrollments.portal.entry_links import entry_url

Files: TypeAlias = "MultiValueDict[str, UploadedFile[Any]]"


@dataclass(frozen=True, slots=True)
class Given:
    """What was given for one slot. `text` is what the paste field shows when the form comes back.

    Only what was read as certificates is in `text`: anything else might be a key, or a part of one.
    `is_file`: it was given as a file, so that is where something can be mended.
    """

    certificates: tuple[ParsedCertificate, ...] = ()
    problem: str = ""
    text: str = ""
    is_dropped: bool = False
    is_file: bool = False

    @property
    def sentence(self) -> str:
        """What is wrong, for a form that comes back; text that stood in it before is not there any more."""
        if self.problem and self.is_dropped:
            return f"{self.problem} It is not shown again here in case it was a key."
        return self.problem


def read_slots(data: Mapping[str, Any], files: Files, kind: Kind) -> dict[Slot, Given]:
    """What was given for each slot. A file comes before text: it was chosen after the text came back."""
    return {slot: _given(data.get(f"{slot}_pem", ""), files.get(f"{slot}_upload"), kind) for slot in Slot}


def read_chain(data: Mapping[str, Any], files: Files) -> Given:
    """A chain to ask about, which is stored nowhere. By the same rules: what might be a key never comes back."""
    return _read(data.get("chain_pem", ""), files.get("chain_upload"), "ca")


def read_one(data: Mapping[str, Any], files: Files, name: str) -> Given:
    """One certificate and no more, in the fields `name`_upload and `name`_pem."""
    given = _given(data.get(f"{name}_pem", ""), files.get(f"{name}_upload"), "ca")
    if len(given.certificates) < 2:
        return given
    count = len(given.certificates)
    return replace(
        given,
        certificates=(),
        problem=f"This holds {count} certificates, and one is taken: give the one that is meant by itself.",
    )


def as_text(data: QueryDict, slots: Mapping[Slot, Given]) -> QueryDict:
    """The data with certificates as PEM text: a file outlives a form error, and what is no certificate does not."""
    data = data.copy()
    for slot, given in slots.items():
        data[f"{slot}_pem"] = given.text
    return data


def _given(pasted: str, upload: "UploadedFile[Any] | None", kind: Kind) -> Given:
    return replace(_read(pasted, upload, kind), is_file=upload is not None)


def _read(pasted: str, upload: "UploadedFile[Any] | None", kind: Kind) -> Given:
    raw: bytes | str = pasted
    if upload is not None:
        upload.seek(0)
        raw = upload.read(MAX_UPLOAD_BYTES + 1)
    elif not pasted.strip():
        return Given()
    is_dropped = upload is None
    try:
        certificates = read_upload(raw)
    except PrivateKeyInUpload as problem:
        return Given(problem=problem.message)
    except UploadTooLarge:
        return Given(
            problem=f"This is more than {MAX_UPLOAD_BYTES // 1024} KiB: give a certificate and nothing else.",
            is_dropped=is_dropped,
        )
    except AttestationError as problem:
        return Given(problem=problem.message, is_dropped=is_dropped)
    text = "".join(one.pem for one in certificates)
    if kind == "device" and len(certificates) > 1:
        return Given(
            problem=f"This holds {len(certificates)} certificates, and an individual enrollment takes one: give the "
            "certificate of the device alone.",
            text=text,
        )
    return Given(certificates, text=text)


@dataclass(frozen=True, slots=True)
class Card:
    """One certificate as a page shows it. `helper`: kept for finding paths, trusted for nothing (R7).

    `told`: sentences of findings that stand beside the field already.
    """

    certificate: ParsedCertificate | UnparsedCertificate
    findings: tuple[Finding, ...]
    validity: str
    helper: bool = False
    registration_id: str = ""
    told: Collection[str] = ()

    @classmethod
    def of(
        cls,
        certificate: ParsedCertificate | UnparsedCertificate,
        kind: Kind,
        *,
        helper: bool = False,
        told: Collection[str] = (),
    ) -> "Card":
        now = timezone.now()
        return cls(
            certificate,
            # A helper admits nobody, so nothing is asked of it but that it can be read.
            () if helper and isinstance(certificate, ParsedCertificate) else findings(certificate, kind, now),
            validity(certificate.not_before, certificate.not_after, now),
            helper,
            _common_name(certificate) if kind == "device" else "",
            told,
        )


def validity(not_before: datetime, not_after: datetime, now: datetime) -> str:
    """The word for the state badge."""
    if now < not_before:
        return "not yet valid"
    return "expired" if now > not_after else "valid"


@dataclass(frozen=True, slots=True)
class SlotPreview:
    """`enrolled_in`: another entry that holds this name or this CA already, with the address of its page."""

    label: str
    cards: tuple[Card, ...]
    problem: str
    enrolled_in: EntryRef | None = None
    enrolled_url: str = ""


def preview_of(
    service: ProvisioningService,
    slots: Mapping[Slot, Given],
    kind: Kind,
    current: Entry | None = None,
    *,
    told: Collection[str] = (),
    told_of: EntryRef | None = None,
) -> list[SlotPreview]:
    """What to show for the slots in which something was given.

    `told` and `told_of`: the sentences, and the entry in the way, that the form around it names already.
    """
    return [
        _preview(service, slot, given, kind, current, told, told_of)
        for slot, given in slots.items()
        if given.certificates or given.problem
    ]


def _preview(
    service: ProvisioningService,
    slot: Slot,
    given: Given,
    kind: Kind,
    current: Entry | None,
    told: Collection[str],
    told_of: EntryRef | None,
) -> SlotPreview:
    cards = tuple(
        Card.of(certificate, kind, helper=position > 0, told=told)
        for position, certificate in enumerate(given.certificates)
    )
    ref = enrolled_in(service, given.certificates[0], kind) if given.certificates else None
    if ref is not None and (ref == told_of or (current is not None and ref.pk == current.pk)):
        ref = None
    return SlotPreview(
        f"{slot.label} certificate", cards, given.problem, ref, entry_url(service, ref) if ref else ""
    )


def _common_name(certificate: CertificateFacts) -> str:
    try:
        return registration_id_of(certificate)
    except AttestationError:
        return ""
