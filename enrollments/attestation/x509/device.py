"""A device certificate, read and judged once to be enrolled: as values that can be written down and read again."""

from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import attrgetter
from typing import Any

from enrollments.attestation.x509.certificate import ParsedCertificate, is_costly
from enrollments.attestation.x509.facts import CertificateFacts
from enrollments.attestation.x509.requirements import Problem, device_problems
from enrollments.attestation.x509.search import computed_key_ids


@dataclass(frozen=True, slots=True)
class DeviceCertificate(CertificateFacts):
    """Everything that enrolling a device by it asks of a certificate, without the library's own objects.

    problems: what keeps it out for good (R9). blocks_barring: its key cannot be recognised, or is costly to check.
    own_key_id: see `own_key_id`.
    """

    problems: tuple[Problem, ...] = field(compare=False)
    blocks_barring: bool = field(compare=False)
    own_key_id: str = field(compare=False)

    @classmethod
    def of(cls, parsed: ParsedCertificate) -> "DeviceCertificate":
        return cls(*_facts_of(parsed), problems_of_device(parsed), blocks_barring(parsed), own_key_id(parsed))  # type: ignore[call-arg]  # as many as there are fields


@dataclass(frozen=True, slots=True)
class UnparsedCertificate(DeviceCertificate):
    """One that was parsed once and cannot be any more: what was kept of it then, of a device or of a CA (R16).

    It stays where it is held, and nobody is let in by it: that it cannot be read is a problem of it.
    """

    @classmethod
    def kept(cls, stored: str, **facts: Any) -> "UnparsedCertificate":
        """`stored`: whatever there is in the place of the certificate itself."""
        problem = Problem("unreadable", f"{facts['thumbprint_sha256']} cannot be read")
        unknown = {"common_names": (), "version": 0, "own_key_id": ""}
        return cls(der=stored.encode(), **{**unknown, **facts}, problems=(problem,), blocks_barring=False)


_FACTS = tuple(one.name for one in fields(CertificateFacts))
_facts_of = attrgetter(*_FACTS)
_values_of = attrgetter(*(one.name for one in fields(DeviceCertificate)))
_DER, _COMMON_NAMES, _NOT_BEFORE, _NOT_AFTER = map(
    _FACTS.index, ("der", "common_names", "not_before", "not_after")
)
_PROBLEMS = len(_FACTS)
# Of values that were written down: another version of the program may know others.
FORM = ",".join(one.name for one in fields(DeviceCertificate))


def as_values(certificate: DeviceCertificate) -> list[Any]:
    """Everything but the certificate itself, for JSON."""
    values = list(_values_of(certificate))
    values[_DER] = None
    values[_NOT_BEFORE] = certificate.not_before.isoformat()
    values[_NOT_AFTER] = certificate.not_after.isoformat()
    values[_PROBLEMS] = [(one.code, one.message) for one in certificate.problems]
    return values


def from_values(der: bytes, values: list[Any]) -> DeviceCertificate:
    """Of what `as_values` made, in the same FORM: nothing of it is looked at again, so it must be ours."""
    values[_DER] = der
    values[_COMMON_NAMES] = tuple(values[_COMMON_NAMES])
    values[_NOT_BEFORE] = datetime.fromisoformat(values[_NOT_BEFORE])
    values[_NOT_AFTER] = datetime.fromisoformat(values[_NOT_AFTER])
    values[_PROBLEMS] = tuple(Problem(*one) for one in values[_PROBLEMS])
    return DeviceCertificate(*values)


def problems_of_device(certificate: ParsedCertificate | DeviceCertificate) -> tuple[Problem, ...]:
    if isinstance(certificate, DeviceCertificate):
        return certificate.problems
    return tuple(device_problems(certificate))


def blocks_barring(certificate: ParsedCertificate | DeviceCertificate) -> bool:
    if isinstance(certificate, DeviceCertificate):
        return certificate.blocks_barring
    return certificate.public_key is None or is_costly(certificate.public_key)


def own_key_id(certificate: ParsedCertificate | DeviceCertificate) -> str:
    """Its subject key identifier, where that is made from its key; else empty.

    The issuer of a device certificate writes into it what it likes, the identifier of a CA too.
    """
    if isinstance(certificate, DeviceCertificate):
        return certificate.own_key_id
    claimed = certificate.subject_key_id or ""
    return claimed if claimed in computed_key_ids(certificate.public_key) else ""
