"""Random histories: a service to which is done whatever can be done, and what was decided meanwhile."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.utils import timezone

from enrollments.actions.ca_certificates import delete_ca_certificate
from enrollments.actions.deleting import delete_and_deny
from enrollments.actions.enrollment_groups import (
    add_enrollment_group,
    change_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import (
    add_individual_enrollment,
    change_individual_enrollment,
    delete_enrollments,
    disable_enrollment,
    enable_enrollment,
)
from enrollments.actions.enrollments_together import (
    Asked,
    add_individual_enrollments,
    change_individual_enrollments,
)
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.judging import judge
from enrollments.actions.judging.assumed import judge_tpm_as_proven
from enrollments.actions.key_identifiers import endorsement_identifier
from enrollments.actions.preview import Act, cancel, carry_out, turn
from enrollments.actions.revocation import deny_devices, deprovision_device
from enrollments.actions.schedule import settle_due
from enrollments.actions.services import change_settings
from enrollments.attestation.credential import ClaimedTpm, PresentedCredential
from enrollments.errors import DpsError
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    HistoryEvent,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationRecord,
    RegistrationStatus,
    Slot,
)
from enrollments.policy.decision import Verdict
from tests.certificates import EXPIRED, Minted, mint, root, self_signed
from tests.devices import ALICE, derived_key, new_service, prove, register, shows, signs
from tests.service_api.conftest import BackEnd
from tests.soft_tpm import SoftTpm
from tests.transfer.lists import below, imported, pinned

KEYS = tuple(f"{letter * 43}=" for letter in "abcd")
# By name, what was decided about a device, and by which entry.
Told = dict[str, tuple[Verdict, str]]


@dataclass
class Forest:
    """`strangers`: leaves of devices that never register."""

    cas: list[Minted] = field(default_factory=list)
    leaves: list[Minted] = field(default_factory=list)
    strangers: list[Minted] = field(default_factory=list)


def grown() -> Forest:
    first, second = root("Root 1"), root("Root 2")
    plant = first.intermediate("Plant")
    crossed = plant.cross_signed_by(second)
    line = plant.intermediate("Line")
    cas = [first, second, plant, crossed, line, root("Lone"), plant.reissued("Plant under another name")]
    leaves = [
        ca.leaf(f"{name}-{n}") for name, ca in (("a", first), ("b", plant), ("c", line)) for n in range(3)
    ]
    leaves += [second.leaf("d-0"), line.leaf("old-0", **EXPIRED), self_signed("own-0"), self_signed("own-1")]
    # One has the key of a device that comes, and one that of a CA.
    strangers = [plant.leaf("new-0"), line.leaf("new-1"), first.leaf("new-2"), self_signed("new-3")]
    strangers += [mint("new-4", key=leaves[0].key, issuer=second), mint("new-5", key=plant.key, issuer=first)]
    return Forest(cas, leaves, strangers)


class History:
    """A service to which random things are done, and devices that all show the same as ever."""

    def __init__(self, forest: Forest, seed: int, api: Callable[[ProvisioningService], BackEnd]) -> None:
        self.chance = random.Random(seed)
        self.forest = forest
        self.service = new_service()
        self.api = api(self.service)
        self.tpms = {f"tpm-{number}": SoftTpm(number).keys.endorsement_key for number in range(2)}
        self.shown: dict[str, PresentedCredential] = {}
        self.snapshots: list[tuple[datetime, Told]] = []
        # Names that have an entry with a certificate, at each of the snapshots.
        self.pinned: list[set[str]] = []
        self.enrolled: list[set[str]] = []
        self.acts: Counter[str] = Counter()
        self.settings(True)
        self.introduce()
        for leaf in forest.strangers:
            # What is enrolled for a device is the leaf alone.
            self.shown[leaf.parsed.common_names[0]] = PresentedCredential(certificates=(leaf.der,))

    # --- Devices -------------------------------------------------------------------------------

    def introduce(self) -> None:
        """Each device registers once where everything lets it in, so that there is a record of what it showed."""
        for ca in self.forest.cas[:2]:
            name = ca.parsed.common_names[0].replace(" ", "-")
            spec = GroupSpec(group_id=name, certificates={Slot.PRIMARY: ca.parsed})
            add_enrollment_group(self.service, spec, actor=ALICE)
        for leaf in self.forest.leaves:
            name = leaf.parsed.common_names[0]
            self.shown[name] = shows(leaf)
            if name.startswith(("own", "old")):
                self.try_to(self.add_x509, leaf)
            self.register(name)
        for number, key in enumerate(KEYS[:3]):
            name = f"key-{number}"
            self.add_keys(name, key)
            self.shown[name] = signs(self.service, name, key)
            self.register(name)
        group = self.add_key_group("keys-0", KEYS[0])
        assert group is not None
        for number in range(2):
            name = f"derived-{number}"
            self.shown[name] = signs(self.service, name, derived_key(KEYS[0], name))
            self.register(name)

        for name in self.tpms:
            # As a registration leaves it; that a TPM answers its challenge is tried in test_tpm.py.
            now = timezone.now()
            RegistrationRecord.objects.create(
                service=self.service,
                registration_id=name,
                status=RegistrationStatus.DISABLED,
                mechanism=AttestationMechanism.TPM,
                operation_id="5.1",
                operation_done_at=now,
                epoch=0,
                key_ids=endorsement_identifier(self.tpms[name]),
                created_at=now,
                updated_at=now,
            )

    def register(self, name: str) -> None:
        # A certificate that has expired by now had not, two days ago.
        at = timezone.now() - timedelta(days=2) if name.startswith("old") else None
        register(self.service, self.shown[name], name, at=at)

    # --- Operations ----------------------------------------------------------------------------

    def operate(self) -> None:
        kinds = (
            (self.turn_group, 5),
            (self.turn_individual, 5),
            (self.add_any_group, 4),
            (self.add_any_individual, 6),
            (self.delete_group, 3),
            (self.delete_individual, 4),
            (self.change_group, 3),
            (self.change_individual, 4),
            (self.turn_setting, 1),
            (self.turn_demand, 1),
            (self.prove_or_forget, 2),
            (self.turn_many, 2),
            (self.delete_many, 2),
            (self.delete_and_keep_out, 1),
            (self.deny, 2),
            (self.add_many, 2),
            (self.change_many, 2),
            (self.schedule, 4),
            (self.cancel, 1),
            (self.write_down_what_is_due, 1),
            (self.carry_out_a_list, 2),
            (self.call_the_service_api, 3),
            (self.change_what_decides_nothing, 2),
        )
        act = self.chance.choices([one for one, _ in kinds], [weight for _, weight in kinds])[0]
        rows = HistoryEvent.objects.count()
        self.try_to(act)
        self.acts[act.__name__] += HistoryEvent.objects.count() > rows

    def try_to(self, act, *args):
        try:
            return act(*args)
        except DpsError:
            return None  # what an action refuses has changed nothing

    def turn_setting(self) -> None:
        self.settings(self.chance.random() < 0.7)

    def settings(self, keys: bool) -> None:
        values = {"symmetric_key_groups": keys, "device_registrations_per_minute": 60}
        change_settings(self.service, values, actor=ALICE)

    def turn_demand(self) -> None:
        change_settings(self.service, {"proof_of_possession": self.chance.random() < 0.4}, actor=ALICE)

    def prove_or_forget(self) -> None:
        proven = list(self.service.ca_certificates.order_by("pk"))
        if proven and self.chance.random() < 0.4:
            delete_ca_certificate(self.service, self.chance.choice(proven).name, actor=ALICE)
        else:
            prove(self.service, self.chance.choice(self.forest.cas), f"ca-{self.chance.randrange(9)}")

    def groups(self):
        return list(EnrollmentGroup.objects.filter(service=self.service).order_by("pk"))

    def individuals(self):
        return list(IndividualEnrollment.objects.filter(service=self.service).order_by("pk"))

    def turn_group(self) -> None:
        one = self.chance.choice(self.groups())
        turn = disable_enrollment_group if one.enabled else enable_enrollment_group
        turn(self.service, one.group_id, actor=ALICE)

    def turn_individual(self) -> None:
        one = self.chance.choice(self.individuals())
        turn = disable_enrollment if one.enabled else enable_enrollment
        turn(self.service, one.registration_id, actor=ALICE)

    def delete_group(self) -> None:
        if len(found := self.groups()) > 2:
            delete_enrollment_groups(self.service, [self.chance.choice(found).group_id], actor=ALICE)

    def delete_individual(self) -> None:
        if len(found := self.individuals()) > 3:
            delete_enrollments(self.service, [self.chance.choice(found).registration_id], actor=ALICE)

    def group_spec(self, ca: Minted, **more) -> GroupSpec:
        slots = {Slot.PRIMARY: ca.parsed}
        if self.chance.random() < 0.3:
            slots[Slot.SECONDARY] = self.chance.choice(self.forest.cas).parsed
        helpers = self.chance.sample(self.forest.cas, k=self.chance.choice((0, 0, 1, 2)))
        return GroupSpec(certificates=slots, helpers=tuple(one.parsed for one in helpers), **more)

    def add_group(self, ca: Minted) -> EnrollmentGroup:
        name = f"group-{self.chance.choice('ABCDEF')}{self.chance.choice('xX')}"
        spec = self.group_spec(ca, group_id=name, enabled=self.chance.random() < 0.8)
        return add_enrollment_group(self.service, spec, actor=ALICE)

    def add_key_group(self, name: str, key: str) -> EnrollmentGroup:
        spec = GroupSpec(
            group_id=name,
            mechanism=AttestationMechanism.SYMMETRIC_KEY,
            primary_key=key,
            secondary_key=KEYS[3],
        )
        return add_enrollment_group(self.service, spec, actor=ALICE)

    def add_any_group(self) -> None:
        if self.chance.random() < 0.25:
            self.add_key_group(f"keys-{self.chance.randrange(3)}", self.chance.choice(KEYS))
        else:
            self.add_group(self.chance.choice(self.forest.cas))

    def change_group(self) -> None:
        one = self.chance.choice(self.groups())
        if one.mechanism == AttestationMechanism.SYMMETRIC_KEY:
            spec = GroupSpec(
                mechanism=AttestationMechanism.SYMMETRIC_KEY,
                primary_key=self.chance.choice(KEYS),
                enabled=one.enabled,
            )
        else:
            predecessor = self.chance.choice([None, *self.groups()])
            spec = self.group_spec(
                self.chance.choice(self.forest.cas),
                enabled=self.chance.random() < 0.8,
                predecessor=predecessor if predecessor != one else None,
            )
        change_enrollment_group(self.service, one.group_id, spec, expected_etag=one.etag, actor=ALICE)

    def x509_spec(self, leaf: Minted, **more) -> IndividualSpec:
        return IndividualSpec(certificates={Slot.PRIMARY: leaf.parsed}, **more)

    def add_x509(self, leaf: Minted) -> IndividualEnrollment:
        return add_individual_enrollment(self.service, self.x509_spec(leaf), actor=ALICE)

    def add_keys(self, name: str, key: str) -> IndividualEnrollment:
        return add_individual_enrollment(self.service, self.key_spec(name, key), actor=ALICE)

    def key_spec(self, name: str, key: str, **more) -> IndividualSpec:
        return IndividualSpec(
            registration_id=name, mechanism=AttestationMechanism.SYMMETRIC_KEY, primary_key=key, **more
        )

    def tpm_spec(self, name: str, **more) -> IndividualSpec:
        key = self.tpms[self.chance.choice(sorted(self.tpms))]
        return IndividualSpec(
            registration_id=name, mechanism=AttestationMechanism.TPM, endorsement_key=key, **more
        )

    def some_spec(self, name: str = "") -> IndividualSpec:
        """Of any mechanism. A device may be enrolled for another one than it shows."""
        enabled = self.chance.random() < 0.7
        match self.chance.choice(("x509", "x509", "keys", "tpm", "deny")):
            case "x509":
                leaves = [
                    one
                    for one in [*self.forest.leaves, *self.forest.strangers]
                    if name in ("", one.parsed.common_names[0])
                ]
                if leaves:
                    return self.x509_spec(self.chance.choice(leaves), enabled=enabled)
            case "tpm":
                named = name or self.chance.choice([*sorted(self.tpms), "a-0", "key-0"])
                return self.tpm_spec(named, enabled=enabled)
            case "deny":
                return IndividualSpec(
                    registration_id=name or self.chance.choice(sorted(self.shown)), enabled=False
                )
        named = name or self.chance.choice([*(one for one in self.shown if "-" in one)])
        return self.key_spec(named, self.chance.choice(KEYS), enabled=enabled)

    def add_any_individual(self) -> None:
        add_individual_enrollment(self.service, self.some_spec(), actor=ALICE)

    def change_individual(self) -> None:
        one = self.chance.choice(self.individuals())
        spec = self.some_spec(one.registration_id)
        change_individual_enrollment(
            self.service, one.registration_id, spec, expected_etag=one.etag, actor=ALICE
        )

    def some(self, rows, most: int = 3):
        return self.chance.sample(rows, k=min(len(rows), self.chance.randint(1, most)))

    def turn_many(self) -> None:
        """Entries of both kinds, all in one transaction."""
        act = self.chance.choice((Act.DISABLE, Act.ENABLE))
        carry_out(self.service, act, self.some([*self.groups(), *self.individuals()], 4), actor=ALICE)

    def delete_many(self) -> None:
        if len(found := self.groups()) > 2 and len(self.individuals()) > 3:
            entries = [*self.some(found, 2), *self.some(self.individuals(), 2)]
            carry_out(self.service, Act.DELETE, entries, actor=ALICE)

    def delete_and_keep_out(self) -> None:
        if len(found := self.groups()) > 2:
            delete_and_deny(self.service, [self.chance.choice(found)], actor=ALICE)

    def deny(self) -> None:
        names = self.some(sorted(self.shown))
        if self.chance.random() < 0.3:
            deprovision_device(self.service, names[0], actor=ALICE)
        else:
            deny_devices(self.service, names, actor=ALICE)

    def add_many(self) -> None:
        add_individual_enrollments(self.service, [self.some_spec() for _ in range(3)], actor=ALICE)

    def change_many(self) -> None:
        """A spec of None disables."""
        asked = [
            Asked(
                one.registration_id,
                self.some_spec(one.registration_id) if self.chance.random() < 0.6 else None,
                one.etag,
            )
            for one in self.some(self.individuals())
        ]
        change_individual_enrollments(self.service, asked, actor=ALICE)

    def schedule(self) -> None:
        """Soon, so that it falls due while the history goes on, or so late that only what is made of it now counts."""
        ahead = timedelta(seconds=1) if self.chance.random() < 0.5 else timedelta(days=1)
        at = timezone.now() + ahead + timedelta(seconds=0.5)
        one = self.chance.choice([*self.groups(), *self.individuals()])
        act, times = self.chance.choice(
            ((Act.DISABLE, {"until": at}), (Act.ENABLE, {"until": at}), (Act.DISABLE, {"at": at}))
        )
        turn(self.service, act, one, actor=ALICE, **times)

    def cancel(self) -> None:
        if found := [one for one in [*self.groups(), *self.individuals()] if one.switches_at]:
            cancel(self.service, self.chance.choice(found), actor=ALICE)

    def write_down_what_is_due(self) -> None:
        settle_due(self.service)

    def carry_out_a_list(self) -> None:
        leaf = self.chance.choice([*self.forest.leaves, *self.forest.strangers])
        ca = self.chance.choice(self.forest.cas)
        status = self.chance.choice(("enabled", "disabled"))
        name = self.chance.choice([one for one in sorted(self.shown) if "-" in one])
        own = {"symmetricKey": {"primaryKey": self.chance.choice(KEYS), "secondaryKey": KEYS[3]}}
        key = {"type": "symmetricKey", **own}
        lines = (
            pinned(leaf, provisioningStatus=status),
            below(f"group-{self.chance.choice('ABCDEF')}x", ca, provisioningStatus=status),
            {"registrationId": name, "attestation": key, "provisioningStatus": status},
        )
        imported(self.service, *self.some(lines))

    def call_the_service_api(self) -> None:
        one = self.chance.choice(self.individuals())
        path = f"/enrollments/{one.registration_id}"
        match self.chance.choice(("put", "delete", "bulk")):
            case "put":
                body = self.api.get(path).json()
                body["provisioningStatus"] = self.chance.choice(("enabled", "disabled"))
                self.api.put(path, body, If_Match=body["etag"])
            case "delete" if len(self.individuals()) > 3:
                self.api.delete(path)
            case _:
                entries = [
                    {"registrationId": found.registration_id} for found in self.some(self.individuals())
                ]
                if len(self.individuals()) > 6:
                    self.api.post("/enrollments", {"mode": "delete", "enrollments": entries})

    def change_what_decides_nothing(self) -> None:
        signing = [one for one in self.individuals() if one.mechanism == AttestationMechanism.SYMMETRIC_KEY]
        for one in self.some(signing, 1):
            spec = IndividualSpec(
                mechanism=one.mechanism, enabled=one.enabled, device_id=f"at-hub-{self.chance.randrange(9)}"
            )
            change_individual_enrollment(
                self.service, one.registration_id, spec, expected_etag=one.etag, actor=ALICE
            )

    # --- What is decided now -------------------------------------------------------------------

    def decided(self) -> Told:
        now = timezone.now()
        service = ProvisioningService.objects.get(pk=self.service.pk)
        found = {}
        for name, credential in self.shown.items():
            decision = judge(service, name, credential, at=now).decision
            found[name] = (decision.verdict, str(decision.entry or ""))
        for name, key in self.tpms.items():
            entry = service.individualenrollments.filter(registration_key=name).first()
            if entry is not None and bytes(entry.endorsement_key or b"") == key:
                decision = judge_tpm_as_proven(service, name, at=now).decision
            else:
                claimed = PresentedCredential(claimed_tpm=ClaimedTpm(key))
                decision = judge(service, name, claimed, at=now).decision
            found[name] = (decision.verdict, str(decision.entry or ""))
        return found

    def run(self, operations: int, wanted: set[int]) -> None:
        for step in range(operations):
            self.operate()
            if step in wanted:
                self.wait_until_nothing_is_due_soon()
                at = timezone.now()
                # Whatever comes next is later, also by a clock that has ticked once in between.
                self.snapshots.append((at, self.decided()))
                own = {one.registration_key: one for one in self.individuals()}
                self.enrolled.append(set(own))
                held = HeldCertificate.objects.filter(service=self.service, role=HeldRole.DEVICE)
                self.pinned.append(set(held.values_list("individual__registration_key", flat=True)))
                while timezone.now() <= at:
                    pass

    def wait_until_nothing_is_due_soon(self) -> None:
        """So that no switch turns while everything is being looked at, which takes its time."""
        while any(
            one.switches_at is not None and abs(one.switches_at - timezone.now()) < timedelta(seconds=5)
            for one in [*self.groups(), *self.individuals()]
        ):
            time.sleep(0.1)
