"""Back in time at step n is what was decided at step n: random histories of 500 operations, and a snapshot of each.

The snapshot is by brute force over the decision of that moment: every device shows what it has, and is judged.
"""

import random
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions.ca_certificates import delete_ca_certificate
from enrollments.actions.enrollment_groups import (
    GroupSpec,
    add_enrollment_group,
    change_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollments import (
    IndividualSpec,
    add_individual_enrollment,
    change_individual_enrollment,
    delete_enrollments,
    disable_enrollment,
    enable_enrollment,
)
from enrollments.actions.judging import judge
from enrollments.actions.judging.assumed import judge_tpm_as_proven
from enrollments.actions.key_identifiers import endorsement_identifier
from enrollments.actions.past import FleetLimits, compare, look_back
from enrollments.actions.services import change_settings
from enrollments.attestation.credential import ClaimedTpm, PresentedCredential
from enrollments.errors import DpsError
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HistoryEvent,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationRecord,
    RegistrationStatus,
    Slot,
)
from enrollments.policy.decision import Verdict
from enrollments.policy.names import registration_key
from tests.certificates import EXPIRED, Minted, root, self_signed
from tests.devices import ALICE, derived_key, new_service, prove, register, shows, signs
from tests.soft_tpm import SoftTpm

pytestmark = pytest.mark.django_db

OPERATIONS = 500
# At so many of the steps everything is looked at, and at so many a single device.
FLEETS, SINGLES, SPANS = 12, 10, 2
UNLIMITED = FleetLimits(rows=None, classes=None, singly=None, seconds=None)
KEYS = tuple(f"{letter * 43}=" for letter in "abcd")


@dataclass
class Forest:
    cas: list[Minted] = field(default_factory=list)
    leaves: list[Minted] = field(default_factory=list)


@pytest.fixture(scope="module")
def forest():
    first, second = root("Root 1"), root("Root 2")
    plant = first.intermediate("Plant")
    crossed = plant.cross_signed_by(second)
    line = plant.intermediate("Line")
    cas = [first, second, plant, crossed, line, root("Lone"), plant.reissued("Plant under another name")]
    leaves = [
        ca.leaf(f"{name}-{n}") for name, ca in (("a", first), ("b", plant), ("c", line)) for n in range(3)
    ]
    leaves += [second.leaf("d-0"), line.leaf("old-0", **EXPIRED), self_signed("own-0"), self_signed("own-1")]
    return Forest(cas, leaves)


class History:
    """A service to which random things are done, and devices that all show the same as ever."""

    def __init__(self, forest: Forest, seed: int) -> None:
        self.chance = random.Random(seed)
        self.forest = forest
        self.service = new_service()
        self.tpms = {name: SoftTpm().keys.endorsement_key for name in ("tpm-0", "tpm-1")}
        self.shown: dict[str, PresentedCredential] = {}
        self.snapshots: list[tuple[object, dict[str, tuple[Verdict, str]]]] = []
        self.settings(True)
        self.introduce()

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
        )
        act = self.chance.choices([one for one, _ in kinds], [weight for _, weight in kinds])[0]
        self.try_to(act)

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
                leaves = [one for one in self.forest.leaves if name in ("", one.parsed.common_names[0])]
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

    # --- What is decided now -------------------------------------------------------------------

    def decided(self) -> dict[str, tuple[Verdict, str]]:
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
                at = timezone.now()
                # Whatever comes next is later, also by a clock that has ticked once in between.
                self.snapshots.append((at, self.decided()))
                while timezone.now() <= at:
                    pass


def told(outcome) -> tuple[Verdict, str]:
    return outcome.verdict, str(outcome.through or "")


@pytest.mark.parametrize("seed", range(2))
def test_back_in_time_at_step_n_is_the_snapshot_of_step_n(forest, seed):
    history = History(forest, seed)
    chance = random.Random(seed)
    wanted = set(chance.sample(range(OPERATIONS), k=FLEETS))
    history.run(OPERATIONS, wanted)
    before = HistoryEvent.objects.count()
    names = sorted({*history.shown, *history.tpms})
    assert RegistrationRecord.objects.count() == len(names)

    for (at, snapshot), (later, at_later) in zip(history.snapshots, history.snapshots[1:], strict=False):
        said = compare(history.service, at, later, limits=UNLIMITED)

        assert said.preview.not_examined == 0
        by_name = {registration_key(one.registration_id): one for one in said.preview.devices}
        for name in names:
            one = by_name[name]
            if one.before is None or one.after is None:
                raise AssertionError(f"{name} is not known: {said.unclear}")
            assert (told(one.before), told(one.after)) == (snapshot[name], at_later[name]), name

    for _ in range(SINGLES):
        at, snapshot = chance.choice(history.snapshots)
        name = chance.choice(names)
        look = look_back(history.service, name, at, at)
        assert (look.first.verdict, str(look.first.entry or "")) == snapshot[name], name
        assert look.explanation is not None
        assert (look.explanation.verdict, look.explanation.entry_words) == snapshot[name]

    (begins, _), (ends, _) = history.snapshots[0], history.snapshots[-1]
    for name in chance.sample(names, k=SPANS):
        look = look_back(history.service, name, begins, ends)
        assert [one.begins for one in look.spells[1:]] == [one.ends for one in look.spells[:-1]]
        for at, snapshot in history.snapshots:
            spell = next(one for one in reversed(look.spells) if one.begins <= at)
            assert (spell.verdict, str(spell.entry or "")) == snapshot[name], name

    assert HistoryEvent.objects.count() == before, "looking back leaves nothing behind"
    assert history.decided() == history.decided()
