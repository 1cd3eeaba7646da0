"""Building a fleet: devices with credentials, below CAs, and enrolled if that is asked for."""

import random
from dataclasses import dataclass
from pathlib import Path

from enrollments.audit.actor import Actor
from enrollments.errors import DpsError
from enrollments.models import ProvisioningService
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id
from enrollments.simulator.client import Device
from enrollments.simulator.credentials import CertificateFiles, SharedKey
from enrollments.simulator.enrolling import enroll_authority, enroll_certificate, enroll_key
from enrollments.simulator.pki import (
    MAX_COMMON_NAME,
    Authority,
    PkiFolder,
    common_name,
    given_authority,
    read_certificates,
)

X509, SYMMETRIC, MIXED = "x509", "symmetric", "mixed"
REASON = "simulated fleet"


class UnusableSpec(DpsError):
    """Devices of that description cannot be made."""

    code = "unusable_spec"


@dataclass(frozen=True, slots=True)
class Given:
    """Files of the user's, instead of a PKI made on the fly."""

    files: CertificateFiles
    chain: Path | None = None
    is_authority: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSpec:
    """`enroll_as`: who enrolls the devices; None where they take their chances with what is enrolled.

    Without a `prefix` it is that of the fleet that is kept in the folder; in a new one it is drawn.
    `seed` makes prefix, order and the devices' intermediates the same again. Keys are always random.
    """

    devices: int
    mechanism: str = X509
    prefix: str = ""
    intermediates: int = 0
    seed: int | None = None
    given: Given | None = None
    enroll_as: Actor | None = None


def build_fleet(service: ProvisioningService, folder: PkiFolder, spec: FleetSpec) -> list[Device]:
    """Raises PkiProblem, UnusableSpec; and AlreadyEnrolled where a name is taken by something else."""
    if spec.given is not None and not spec.given.is_authority:
        return [_given_device(service, folder, spec.given, spec.enroll_as)]
    chance = random.Random(spec.seed)  # noqa: S311  # names and order, nothing secret
    drawn = f"sim-{chance.randrange(16**6):06x}"
    prefix = spec.prefix or folder.prefix or drawn
    ids = [f"{prefix}-{number:04d}" for number in range(1, spec.devices + 1)]
    _refuse_bad_prefix(prefix, ids[-1])
    folder.keep_prefix(prefix)
    by_key = {X509: [], SYMMETRIC: ids, MIXED: ids[1::2]}[spec.mechanism]
    devices = [_with_key(service, folder, one, spec.enroll_as) for one in by_key]
    if by_certificate := sorted(set(ids) - set(by_key)):
        top, issuers = _issuers(folder, prefix, spec)
        devices += [Device(one, folder.device(chance.choice(issuers), one)) for one in by_certificate]
        if spec.enroll_as:
            enroll_authority(service, f"{prefix}-root", top, actor=spec.enroll_as, reason=REASON)
    chance.shuffle(devices)
    return devices


def _given_device(
    service: ProvisioningService, folder: PkiFolder, given: Given, enroll_as: Actor | None
) -> Device:
    files = folder.given_device(given.files, given.chain)
    registration_id = common_name(read_certificates(files.chain)[0])
    if enroll_as:
        enroll_certificate(service, registration_id, files, actor=enroll_as, reason=REASON)
    return Device(registration_id, files)


def _with_key(
    service: ProvisioningService, folder: PkiFolder, registration_id: str, enroll_as: Actor | None
) -> Device:
    key = folder.symmetric_key(registration_id)
    if enroll_as:
        enroll_key(service, registration_id, key, actor=enroll_as, reason=REASON)
    return Device(registration_id, SharedKey(key))


def _refuse_bad_prefix(prefix: str, longest: str) -> None:
    if not is_registration_id(longest):
        raise UnusableSpec(f"The prefix {prefix!r} makes no registration IDs: they have {FORM_IN_WORDS}.")
    if len(longest) > MAX_COMMON_NAME:
        raise UnusableSpec(
            f"The prefix {prefix!r} is too long: a common name, and so {longest!r}, has at most "
            f"{MAX_COMMON_NAME} characters."
        )


def _issuers(folder: PkiFolder, prefix: str, spec: FleetSpec) -> tuple[Authority, list[Authority]]:
    """The CA to be enrolled, and those that issue the devices' certificates."""
    if spec.given is not None:
        authority = given_authority(spec.given.files, spec.given.chain)
        return authority, [authority]
    root = folder.root("root", f"{prefix} root")
    below = [
        folder.intermediate(f"intermediate-{number}", f"{prefix} intermediate {number}", root)
        for number in range(1, spec.intermediates + 1)
    ]
    return root, below or [root]
