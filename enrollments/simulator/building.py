"""Building a fleet: devices with credentials, below CAs, and enrolled if that is asked for."""

import random
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from enrollments.audit.actor import Actor
from enrollments.errors import DpsError
from enrollments.models import ProvisioningService
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id
from enrollments.simulator.client import Device
from enrollments.simulator.credentials import CertificateFiles, Credential, SharedKey, TpmKeys, derived_key
from enrollments.simulator.enrolling import (
    allow_symmetric_key_groups,
    enroll_authority,
    enroll_certificate,
    enroll_group_key,
    enroll_key,
    enroll_tpm,
)
from enrollments.simulator.pki import (
    MAX_COMMON_NAME,
    Authority,
    PkiFolder,
    common_name,
    given_authority,
    read_certificates,
)
from enrollments.simulator.profiles import PLAIN, Profile
from enrollments.simulator.software_tpm import SoftwareTpm
from enrollments.simulator.tpm_structures import Tpm
from enrollments.simulator.virtual_tpm import VirtualTpm

X509, SYMMETRIC, MIXED, SYMMETRIC_GROUP, TPM = "x509", "symmetric", "mixed", "symmetric-group", "tpm"
VIRTUAL, SWTPM = "virtual", "swtpm"
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
    `allow_key_groups`: switch the service's setting for groups with keys on, where enrolling needs it.
    `seed` makes prefix, order and the devices' intermediates the same again. Keys are always random. `profiles` are
    dealt out in turn. `tpm`: what plays the TPMs.
    """

    devices: int
    mechanism: str = X509
    prefix: str = ""
    intermediates: int = 0
    seed: int | None = None
    given: Given | None = None
    enroll_as: Actor | None = None
    allow_key_groups: bool = False
    profiles: tuple[Profile, ...] = (PLAIN,)
    tpm: str = VIRTUAL


def build_fleet(service: ProvisioningService, folder: PkiFolder, spec: FleetSpec) -> list[Device]:
    """Raises PkiProblem, UnusableSpec, TpmRefusal; and AlreadyEnrolled where a name is taken by something else."""
    if spec.given is not None and not spec.given.is_authority:
        return [_given_device(service, folder, spec.given, spec)]
    chance = random.Random(spec.seed)  # noqa: S311  # names and order, nothing secret
    drawn = f"sim-{chance.randrange(16**6):06x}"
    prefix = spec.prefix or folder.prefix or drawn
    ids = [f"{prefix}-{number:04d}" for number in range(1, spec.devices + 1)]
    _refuse_bad_prefix(prefix, ids[-1])
    folder.keep_prefix(prefix)
    credentials = _Workshop(service, folder, spec, prefix, chance).credentials(ids)
    devices = [
        Device(one, credentials[one], profile)
        for one, profile in zip(ids, cycle(spec.profiles), strict=False)
    ]
    chance.shuffle(devices)
    return devices


def _given_device(service: ProvisioningService, folder: PkiFolder, given: Given, spec: FleetSpec) -> Device:
    files = folder.given_device(given.files, given.chain)
    registration_id = common_name(read_certificates(files.chain)[0])
    if spec.enroll_as:
        enroll_certificate(service, registration_id, files, actor=spec.enroll_as, reason=REASON)
    return Device(registration_id, files, spec.profiles[0])


@dataclass(frozen=True, slots=True)
class _Workshop:
    """Makes credentials, and enrolls them if somebody is to."""

    service: ProvisioningService
    folder: PkiFolder
    spec: FleetSpec
    prefix: str
    chance: random.Random

    def credentials(self, ids: list[str]) -> dict[str, Credential]:
        mechanism = self.spec.mechanism
        if mechanism == SYMMETRIC_GROUP:
            return self._keys_of_a_group(ids)
        if mechanism == TPM:
            return {one: self._tpm(one) for one in ids}
        by_key = {X509: [], SYMMETRIC: ids, MIXED: ids[1::2]}[mechanism]
        keys: dict[str, Credential] = {one: self._own_key(one) for one in by_key}
        return keys | self._certificates([one for one in ids if one not in keys])

    def _own_key(self, registration_id: str) -> SharedKey:
        key = self.folder.symmetric_key(registration_id)
        if actor := self.spec.enroll_as:
            enroll_key(self.service, registration_id, key, actor=actor, reason=REASON)
        return SharedKey(key)

    def _keys_of_a_group(self, ids: list[str]) -> dict[str, Credential]:
        group_id = f"{self.prefix}-group"
        key = self.folder.symmetric_key(group_id)
        if actor := self.spec.enroll_as:
            self._see_that_key_groups_may_be(actor)
            enroll_group_key(self.service, group_id, key, actor=actor, reason=REASON)
        return {one: derived_key(key, one) for one in ids}

    def _see_that_key_groups_may_be(self, actor: Actor) -> None:
        if self.service.symmetric_key_groups:
            return
        if not self.spec.allow_key_groups:
            raise UnusableSpec(
                f"Service {self.service} does not let enrollment groups use symmetric keys, and enrolling one needs "
                "that. --allow-key-groups switches it on, for every group of the service; the history will say so."
            )
        allow_symmetric_key_groups(self.service, actor=actor, reason=REASON)

    def _tpm(self, registration_id: str) -> TpmKeys:
        devices = self.folder.devices
        tpm: Tpm = (
            SoftwareTpm(devices / f"{registration_id}.swtpm")
            if self.spec.tpm == SWTPM
            else VirtualTpm.kept_in(devices, registration_id)
        )
        if actor := self.spec.enroll_as:
            enroll_tpm(self.service, registration_id, tpm, actor=actor, reason=REASON)
        return TpmKeys(tpm)

    def _certificates(self, ids: list[str]) -> dict[str, Credential]:
        if not ids:
            return {}
        top, issuers = _issuers(self.folder, self.prefix, self.spec)
        certificates: dict[str, Credential] = {
            one: self.folder.device(self.chance.choice(issuers), one) for one in ids
        }
        if actor := self.spec.enroll_as:
            enroll_authority(self.service, f"{self.prefix}-root", top, actor=actor, reason=REASON)
        return certificates


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
