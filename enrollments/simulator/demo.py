"""The demonstration: a small plant in which every outcome occurs, and what is enrolled for it."""

from contextlib import suppress
from dataclasses import dataclass

from enrollments.actions.ca_certificates import make_verification_code
from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.entries import AlreadyEnrolled
from enrollments.actions.revocation import deny_device
from enrollments.audit.actor import Actor
from enrollments.models import ProvisioningService
from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import Credential, SharedKey, TpmKeys, derived_key
from enrollments.simulator.enrolling import (
    allow_symmetric_key_groups,
    enroll_authority,
    enroll_certificate,
    enroll_group_key,
    enroll_key,
    enroll_tpm,
    is_enrolled,
    prove_possession,
    upload_authority,
)
from enrollments.simulator.pki import Authority, PkiFolder
from enrollments.simulator.virtual_tpm import VirtualTpm

REASON = "demonstration fleet"
DENIED = "pump-07"
LAMPS = "demo-lamps"
PRESS = "press-01"


@dataclass(frozen=True, slots=True)
class Part:
    """A device of the demonstration, and why what becomes of it does, if nobody changes anything."""

    device: Device
    shows: str
    expected: Outcome


@dataclass(frozen=True, slots=True)
class Plant:
    """The PKI of the demonstration. One root; three lines below it, of which the third is never enrolled."""

    folder: PkiFolder
    root: Authority
    pumps: Authority
    valves: Authority
    sensors: Authority
    stranger: Authority

    @classmethod
    def kept_in(cls, folder: PkiFolder) -> "Plant":
        root = folder.root("demo-root", "Demo Plant Root CA")
        return cls(
            folder,
            root,
            folder.intermediate("demo-pumps", "Demo Pumps CA", root),
            folder.intermediate("demo-valves", "Demo Valves CA", root),
            folder.intermediate("demo-sensors", "Demo Sensors CA", root),
            folder.root("stranger", "Somebody Else's CA", path_length=0),
        )

    def parts(self) -> list[Part]:
        return [
            *self._below_the_root(),
            *self._enrolled_one_by_one(),
            *self._below_a_symmetric_key(),
            *self._mismatched_and_unknown(),
        ]

    def _below_the_root(self) -> list[Part]:
        named = self.folder.device
        assigned, disabled = Outcome.ASSIGNED, Outcome.DISABLED
        return [
            *(
                _part(one, named(self.pumps, one), "below an enrolled intermediate", assigned)
                for one in _ids("pump", 6)
            ),
            _part(DENIED, named(self.pumps, DENIED), "the one of its group that is denied", disabled),
            *(
                _part(one, named(self.valves, one), "below a disabled intermediate", disabled)
                for one in _ids("valve", 4)
            ),
            *(
                _part(one, named(self.sensors, one), "below the enrolled root", assigned)
                for one in _ids("sensor", 3)
            ),
        ]

    def _enrolled_one_by_one(self) -> list[Part]:
        meters, key = self.folder.self_signed_device, self.folder.symmetric_key
        assigned, disabled = Outcome.ASSIGNED, Outcome.DISABLED
        return [
            _part("meter-01", meters("meter-01"), "an enrolled self-signed certificate", assigned),
            _part("meter-02", meters("meter-02"), "a disabled self-signed certificate", disabled),
            _part("gauge-01", SharedKey(key("gauge-01")), "an enrolled symmetric key", assigned),
            _part("gauge-02", SharedKey(key("gauge-02")), "an enrolled symmetric key", assigned),
            _part("gauge-03", SharedKey(key("gauge-03")), "a disabled symmetric key", disabled),
            _part(
                "gauge-04", SharedKey(key("gauge-04")), "its device ID belongs to gauge-01", Outcome.FAILED
            ),
            _part(PRESS, TpmKeys(self._tpm_of_the_press()), "an enrolled TPM", assigned),
        ]

    def _tpm_of_the_press(self) -> VirtualTpm:
        return VirtualTpm.kept_in(self.folder.devices, PRESS)

    def _below_a_symmetric_key(self) -> list[Part]:
        key, shows = self.folder.symmetric_key(LAMPS), "a key derived from that of its group"
        return [
            *(_part(one, derived_key(key, one), shows, Outcome.ASSIGNED) for one in _ids("lamp", 2)),
            _part("lamp-03", SharedKey(key), "the key of its group itself", Outcome.UNAUTHORIZED),
        ]

    def _mismatched_and_unknown(self) -> list[Part]:
        named, refused = self.folder.device, Outcome.UNAUTHORIZED
        wrong_key = SharedKey(self.folder.symmetric_key("not-the-key-of-gauge-02"))
        return [
            *(
                _part(one, named(self.stranger, one), "a CA that nobody enrolled", refused)
                for one in _ids("stray", 3)
            ),
            _part(
                "pump-99",
                named(self.pumps, "pump-98"),
                "a certificate with another common name",
                refused,
            ),
            _part("gauge-02", wrong_key, "the wrong symmetric key", refused),
            _part("ghost-01", None, "no credential at all", refused),
        ]

    def enroll(self, service: ProvisioningService, actor: Actor) -> None:
        """Enroll what is missing. What is there stays as it is, whoever changed it since."""
        known = set(service.enrollmentgroups.values_list("group_key", flat=True))
        for group_id, authority in (
            ("demo-root", self.root),
            ("demo-pumps", self.pumps),
            ("demo-valves", self.valves),
        ):
            with suppress(AlreadyEnrolled):
                enroll_authority(service, group_id, authority, actor=actor, reason=REASON)
        if "demo-valves" not in known:
            disable_enrollment_group(
                service, "demo-valves", actor=actor, reason="Issuing key lost in transit"
            )
        if LAMPS not in known:
            allow_symmetric_key_groups(service, actor=actor, reason=REASON)
            enroll_group_key(service, LAMPS, self.folder.symmetric_key(LAMPS), actor=actor, reason=REASON)
        self._upload(service, actor)
        self._enroll_one_by_one(service, actor)

    def _upload(self, service: ProvisioningService, actor: Actor) -> None:
        """One CA of which possession is proven, one with a code that waits, one with nothing."""
        known = set(service.ca_certificates.values_list("name_key", flat=True))
        for name, authority in (
            ("demo-root", self.root),
            ("demo-pumps", self.pumps),
            ("demo-valves", self.valves),
        ):
            if name in known:
                continue
            upload_authority(service, name, authority, actor=actor, reason=REASON)
            if name == "demo-root":
                prove_possession(service, name, authority, actor=actor, reason=REASON)
            if name == "demo-pumps":
                make_verification_code(service, name, actor=actor, reason=REASON)

    def _enroll_one_by_one(self, service: ProvisioningService, actor: Actor) -> None:
        """Gauges stay at one hub, so that the device ID of gauge-01 is taken there for gauge-04."""
        hubs = tuple(service.hubs.all()[:1])
        if not is_enrolled(service, PRESS):
            enroll_tpm(service, PRESS, self._tpm_of_the_press(), actor=actor, reason=REASON)
        for registration_id in ("meter-01", "meter-02"):
            if not is_enrolled(service, registration_id):
                files = self.folder.self_signed_device(registration_id)
                enroll_certificate(service, registration_id, files, actor=actor, reason=REASON)
                if registration_id == "meter-02":
                    disable_enrollment(service, registration_id, actor=actor, reason="Stolen from the yard")
        for registration_id in ("gauge-01", "gauge-02", "gauge-03", "gauge-04"):
            if not is_enrolled(service, registration_id):
                enroll_key(
                    service,
                    registration_id,
                    self.folder.symmetric_key(registration_id),
                    device_id="gauge-01" if registration_id == "gauge-04" else "",
                    hubs=hubs,
                    actor=actor,
                    reason=REASON,
                )
                if registration_id == "gauge-03":
                    disable_enrollment(service, registration_id, actor=actor, reason="Taken out of service")

    def deny_one(self, service: ProvisioningService, actor: Actor) -> None:
        """Deny one device of an enabled group. It has registered before, so that its key is barred as well."""
        if not is_enrolled(service, DENIED):
            deny_device(service, DENIED, actor=actor, reason="Reported compromised")


def _part(registration_id: str, credential: Credential | None, shows: str, expected: Outcome) -> Part:
    return Part(Device(registration_id, credential), shows, expected)


def _ids(kind: str, number: int) -> list[str]:
    return [f"{kind}-{one:02d}" for one in range(1, number + 1)]
