"""Random worlds: a service with entries of all kinds, devices that have tried to register, and changes to it."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from ssl import PEM_cert_to_DER_cert

from cryptography import x509
from django.utils import timezone

from enrollments.actions.attempts_certificates import shown_at_attempts
from enrollments.actions.ca_certificates import delete_ca_certificate, groups_of
from enrollments.actions.certificates import parsed
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
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.judging import Judgement, judge
from enrollments.actions.judging.assumed import judge_tpm_as_proven
from enrollments.actions.name_holders import holder_of, may_take
from enrollments.actions.preview.proofs import groups_without_proof
from enrollments.actions.preview.world import chain_of
from enrollments.actions.services import change_settings
from enrollments.attestation.credential import ClaimedTpm, PresentedCredential
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationRecord,
    Slot,
)
from enrollments.policy.decision import Verdict
from tests.certificates import EXPIRED, NOT_YET_VALID, NOW, Minted, mint, root, self_signed
from tests.devices import (
    ALICE,
    challenged,
    derived_key,
    enroll_tpm,
    new_service,
    prove,
    register,
    shows,
    signs,
)
from tests.soft_tpm import SoftTpm

PLANT_ALONE = x509.NameConstraints([x509.DNSName("plant.example")], None)
NOT_PROCESSED = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
LATE = NOW + timedelta(days=3000)
HOSTS = ("pump.plant.example", "pump.shop.example")


def named(host: str) -> tuple[x509.SubjectAlternativeName, bool]:
    return x509.SubjectAlternativeName([x509.DNSName(host)]), False


@dataclass
class Forest:
    """CAs, cross-signed and re-issued ones among them, and leaves below each; made once, since keys are slow.

    unfit: leaves that can stand on no path (R9), and may be pinned. twins: by the name of a device, another certificate
    of its key. renewed: by name, other leaves of the same devices: from the same CA, and from another one.
    """

    cas: list[Minted] = field(default_factory=list)
    leaves: list[Minted] = field(default_factory=list)
    unfit: list[Minted] = field(default_factory=list)
    twins: dict[str, Minted] = field(default_factory=dict)
    renewed: dict[str, list[Minted]] = field(default_factory=dict)

    def of_key(self, ca: Minted) -> list[Minted]:
        return [one for one in self.cas if one.parsed.spki_sha256 == ca.parsed.spki_sha256]


def grown() -> Forest:
    first, second = root("Root 1"), root("Root 2")
    plant = first.intermediate("Plant")
    crossed = plant.cross_signed_by(second)
    line = plant.intermediate("Line")
    shop = second.intermediate("shop")
    lone = root("lone")
    fenced = first.intermediate("Fenced", extensions=[(PLANT_ALONE, True)])
    cas = [
        first,
        second,
        plant,
        crossed,
        line,
        shop,
        lone,
        plant.reissued("Plant under another name"),
        plant.reissued(),
        line.cross_signed_by(shop),
        fenced,
    ]
    leaves = [
        ca.leaf(f"{ca.parsed.common_names[0].lower().replace(' ', '-')}-{number}")
        for ca in (first, plant, line, shop, lone)
        for number in range(3)
    ]
    leaves += [line.leaf("line-old", **EXPIRED), crossed.leaf("crossed-1")]
    leaves += [self_signed(f"own-{number}") for number in range(3)]
    leaves += [
        fenced.leaf("fenced-0"),
        *(fenced.leaf(f"fenced-{host}", extensions=[named(host)]) for host in HOSTS),
    ]
    # With the key of a CA; and with the name of one, and another key.
    leaves += [line.leaf("twin-0", key=lone.key), self_signed("lone"), lone.leaf("shop")]
    unfit = [
        ca.intermediate(f"edge-{number}", not_after=LATE) for number, ca in enumerate((plant, line, lone))
    ]
    unfit += [ca.leaf(f"critical-{n}", extensions=[NOT_PROCESSED]) for n, ca in enumerate((plant, fenced))]
    leaves += [plant.leaf("plant-late", not_after=LATE), line.leaf("line-soon", **NOT_YET_VALID)]
    of_both = [one for one in leaves if one.parsed.common_names[0] in {"plant-2", "own-2", "lone-2"}]
    twins = {one.parsed.common_names[0]: shop.leaf(*one.parsed.common_names, key=one.key) for one in of_both}
    renewed = {
        leaf.parsed.common_names[0]: [
            (leaf.issuer.leaf if leaf.issuer else self_signed)(leaf.parsed.common_names[0]),
            cas[number % len(cas)].leaf(leaf.parsed.common_names[0]),
        ]
        for number, leaf in enumerate(leaves + unfit)
    }
    return Forest(cas, leaves + unfit, unfit, twins, renewed)


TPMS = ("tpm-0", "tpm-1")


@dataclass(frozen=True)
class Proof:
    """By a token that a device has shown. key: its own, where it is no TPM's. is_assigned: what came of it."""

    name: str
    shown: PresentedCredential
    key: str = ""
    is_assigned: bool = False
    is_own: bool = False

    @property
    def what(self) -> str:
        if self.shown.claimed_tpm is not None:
            return f"TPM {self.shown.claimed_tpm.endorsement_key.hex()}"
        return f"key {self.key}" if self.key else self.shown.authorization


class World:
    """A service with random entries, in which each device has tried to register."""

    def __init__(
        self, forest: Forest, chance: random.Random, *, renewing: bool = False, signing: bool = False
    ) -> None:
        self.forest, self.chance, self.signing, self.renewing = forest, chance, signing, renewing
        self.proofs: list[Proof] = []
        self.proven_on_record: dict[str, Proof] = {}
        # Of each device the thumbprints of the leaves by which it proved itself, whatever came of it.
        self.leaves_proven: dict[str, set[str]] = {}
        # By registration key, of what `credentials` found last: what is enrolled, and was never shown.
        self.unshown: dict[str, set[object]] = {}
        self.service = new_service()
        change_settings(
            self.service, {"symmetric_key_groups": True, "device_registrations_per_minute": 60}, actor=ALICE
        )
        self.service.refresh_from_db()
        for ca in chance.sample(forest.cas, k=chance.randint(1, 5)):
            self.try_to(self.add_group, ca)
        for leaf in chance.sample(forest.leaves, k=chance.randint(0, 6)):
            self.try_to(self.add_individual, leaf)
        for leaf in chance.sample(forest.unfit, k=chance.randint(0, len(forest.unfit))):
            self.try_to(self.pin, leaf)
        self.key_group = self.add_key_group()
        # What each device sends, whatever was kept of it.
        self.shown = {leaf.parsed.common_names[0]: self.sends(leaf) for leaf in forest.leaves}
        for number in range(3):
            name = f"keyed-{number}"
            self.shown[name] = self.signs(name, derived_key(self.key_group.primary_key, name))
        for number in range(2):
            entry = add_individual_enrollment(
                self.service,
                IndividualSpec(
                    registration_id=f"token-{number}", mechanism=AttestationMechanism.SYMMETRIC_KEY
                ),
                actor=ALICE,
            )
            self.shown[entry.registration_id] = self.signs(entry.registration_id, entry.primary_key)
        self.add_coincidences()
        for name, credential in self.shown.items():
            if credential.authorization:
                self.prove(Proof(name, credential))
            else:
                self.come(credential, name)
        self.came = self.delete_records()
        if renewing:
            self.renew()
        if signing:
            self.sign_too()
            self.came = self.delete_records()
        self.vague = self.forget_some()
        identified = self.service.registrations.exclude(key_ids="")
        self.identified = set(identified.values_list("registration_key", flat=True))
        for ca in chance.sample(forest.cas, k=chance.randint(0, 4)):
            prove(self.service, ca, f"first-{forest.cas.index(ca)}")
        # What was enrolled when they registered is not what is enrolled now.
        for _ in range(chance.randint(0, 4)):
            self.change()()

    def sends(self, leaf: Minted) -> PresentedCredential:
        """The leaf alone, or with its CAs: some by other certificates of their keys, and by several at once."""
        if self.chance.random() < 0.3:
            return only(leaf)
        sent = []
        for ca in leaf.chain[1:]:
            same = self.forest.of_key(ca)
            several = self.chance.sample(same, k=self.chance.randint(1, len(same)))
            sent += several if self.chance.random() < 0.5 else [ca]
        twin = self.forest.twins.get(leaf.parsed.common_names[0])
        if twin is not None and self.chance.random() < 0.5:
            sent += twin.chain
        self.chance.shuffle(sent)
        return PresentedCredential(certificates=(leaf.der, *(one.der for one in sent)))

    def pin(self, leaf: Minted) -> None:
        spec = IndividualSpec(certificates={Slot.PRIMARY: leaf.parsed}, enabled=self.chance.random() < 0.8)
        add_individual_enrollment(self.service, spec, actor=ALICE)

    def try_to(self, act, *args):
        from enrollments.errors import Conflict, Invalid

        try:
            return act(*args)
        except (Conflict, Invalid):
            return None

    def add_group(self, ca: Minted) -> EnrollmentGroup:
        name = f"group-{self.chance.randrange(10**9)}"
        helpers = tuple(
            one.parsed for one in self.chance.sample(self.forest.cas, k=self.chance.randint(0, 2))
        )
        spec = GroupSpec(
            group_id=name,
            certificates={Slot.PRIMARY: ca.parsed},
            helpers=helpers,
            enabled=self.chance.random() < 0.6,
        )
        return add_enrollment_group(self.service, spec, actor=ALICE)

    def add_key_group(self, name: str = "keys", key: str = "") -> EnrollmentGroup:
        spec = GroupSpec(
            group_id=name.replace(" ", "-"), mechanism=AttestationMechanism.SYMMETRIC_KEY, primary_key=key
        )
        return add_enrollment_group(self.service, spec, actor=ALICE)

    def signs(self, name: str, key: str) -> PresentedCredential:
        """With a token that is good for as long as anybody looks ahead."""
        return signs(self.service, name, key, expiry=int(timezone.now().timestamp()) + 10**7)

    def add_coincidences(self) -> None:
        """Devices whose keys are, or are derived from, what some entry holds as something else."""
        for number in range(2):
            self.add_keyed(f"very-{number}", self.key_group.primary_key)
            name = f"derived-{number}"
            self.add_keyed(name, derived_key(self.key_group.secondary_key, name))
        for name in ("very-0", "very-1"):
            self.shown[name] = self.signs(name, self.key_group.primary_key)
        for name in ("derived-0", "derived-1"):
            self.shown[name] = self.signs(name, derived_key(self.key_group.secondary_key, name))
        if self.chance.random() < 0.3:
            self.add_key_group("keys too", self.key_group.primary_key)

    def add_keyed(self, name: str, key: str, *, enabled: bool = True) -> IndividualEnrollment:
        spec = IndividualSpec(
            registration_id=name,
            mechanism=AttestationMechanism.SYMMETRIC_KEY,
            primary_key=key,
            enabled=enabled,
        )
        return add_individual_enrollment(self.service, spec, actor=ALICE)

    def delete_records(self) -> set[str]:
        """Of some devices only an attempt is left, and of those that proved themselves what was kept of their chain."""
        for record in self.service.registrations.order_by("pk"):
            if self.chance.random() < 0.2:
                record.delete()
        return set(shown_at_attempts(self.service))

    def forget_some(self) -> set[str]:
        """Make some records what older versions wrote, or what was written under another key of the installation."""
        vague = set()
        for record in self.service.registrations.exclude(key_fingerprint="").order_by("pk"):
            if self.chance.random() < 0.2:
                record.key_ids = ""
                if self.chance.random() < 0.5:
                    record.key_fingerprint = f"00000000:{record.key_fingerprint[9:]}"
                record.save(update_fields=["key_ids", "key_fingerprint"])
                vague.add(record.registration_key)
        return vague

    def add_individual(self, leaf: Minted) -> IndividualEnrollment:
        certificates = {Slot.PRIMARY: leaf.parsed} if self.chance.random() < 0.7 else {}
        spec = IndividualSpec(
            registration_id=leaf.parsed.common_names[0],
            certificates=certificates,
            enabled=bool(certificates) and self.chance.random() < 0.5,
        )
        return add_individual_enrollment(self.service, spec, actor=ALICE)

    def change(self):
        """A random change, as a function that makes it and returns what it added; with the entries it is about."""
        groups = list(EnrollmentGroup.objects.filter(service=self.service))
        individuals = list(IndividualEnrollment.objects.filter(service=self.service))
        acts = [self.demanding_proof, self.proving, self.unproving]
        acts += [self.adding_group, self.adding_individual, self.adding_deny_entry]
        acts += [self.adding_key_group, self.adding_keyed, self.adding_keyed]
        acts += [self.adding_tpm, self.adding_what_was_proven] if self.signing else []
        acts += [self.adding_one_of_several, self.barring_one_of_several] if self.renewing else []
        acts += [self.turning_group, self.deleting_group, self.changing_group] if groups else []
        acts += [self.handing_over] if groups else []
        acts += (
            [self.turning_individual, self.deleting_individuals, self.changing_keys] if individuals else []
        )
        return self.chance.choice(acts)(groups, individuals)

    # Each returns a callable with the attribute `entries`.
    def adding_group(self, groups, individuals):
        ca, state = self.chance.choice(self.forest.cas), self.chance.getstate()

        def act():
            self.chance.setstate(state)
            added = self.try_to(self.add_group, ca)
            return [added] if added else []

        return about(act, [])

    def demanding_proof(self, groups, individuals):
        demanded = not ProvisioningService.what_decisions_read(self.service.pk).proof_of_possession

        def act():
            change_settings(self.service, {"proof_of_possession": demanded}, actor=ALICE)
            return []

        return about(act, groups_without_proof(self.service))

    def proving(self, groups, individuals):
        ca, name = self.chance.choice(self.forest.cas), f"ca-{self.chance.randrange(10**9)}"

        def act():
            prove(self.service, ca, name)
            return []

        return about(act, groups_without_proof(self.service))

    def unproving(self, groups, individuals):
        proven = list(self.service.ca_certificates.order_by("pk"))
        gone = self.chance.choice(proven) if proven else None

        def act():
            if gone is not None:
                delete_ca_certificate(self.service, gone.name, actor=ALICE)
            return []

        return about(act, list(groups_of(gone)) if gone else [])

    def adding_individual(self, groups, individuals):
        leaf, state = self.chance.choice(self.forest.leaves), self.chance.getstate()

        def act():
            self.chance.setstate(state)
            added = self.try_to(self.add_individual, leaf)
            return [added] if added else []

        return about(act, [])

    def one_of_several(self) -> Minted:
        """The leaf of a device, or one of those that came after it."""
        leaf = self.chance.choice(self.forest.leaves)
        return self.chance.choice([leaf, *self.forest.renewed[leaf.parsed.common_names[0]]])

    def adding_one_of_several(self, groups, individuals):
        return self.adding(self.one_of_several(), enabled=self.chance.random() < 0.7)

    def barring_one_of_several(self, groups, individuals):
        """Under another name, by its key."""
        one = self.one_of_several()
        return self.adding(mint("somebody", key=one.key), enabled=self.chance.random() < 0.2)

    def adding(self, leaf: Minted, *, enabled: bool):
        spec = IndividualSpec(certificates={Slot.PRIMARY: leaf.parsed}, enabled=enabled)

        def act():
            added = self.try_to(lambda: add_individual_enrollment(self.service, spec, actor=ALICE))
            return [added] if added else []

        return about(act, [])

    def adding_deny_entry(self, groups, individuals):
        name = self.chance.choice(["keyed-0", "keyed-1", "line-0", "own-0"])

        def act():
            spec = IndividualSpec(registration_id=name, enabled=False)
            added = self.try_to(lambda: add_individual_enrollment(self.service, spec, actor=ALICE))
            return [added] if added else []

        return about(act, [])

    def adding_key_group(self, groups, individuals):
        """The same group once more where it was deleted, or one with a key that was in use."""
        name, key = self.chance.choice(["keys", "keys-again"]), self.a_group_key()

        def act():
            added = self.try_to(self.add_key_group, name, key)
            return [added] if added else []

        return about(act, [])

    def adding_keyed(self, groups, individuals):
        name = self.chance.choice(["keyed-0", "keyed-1", "very-0", "derived-0", "derived-1"])
        key = self.a_key(name)
        enabled = self.chance.random() < 0.7

        def act():
            added = self.try_to(lambda: self.add_keyed(name, key, enabled=enabled))
            return [added] if added else []

        return about(act, [])

    def adding_tpm(self, groups, individuals):
        name, number = self.chance.choice(TPMS), self.chance.randrange(2)
        enabled = self.chance.random() < 0.7

        def act():
            added = self.try_to(lambda: enroll_tpm_of(self.service, name, number, enabled=enabled))
            return [added] if added else []

        return about(act, [])

    def adding_what_was_proven(self, groups, individuals):
        """An entry with the very key that some device has shown at an attempt."""
        proof = self.chance.choice([one for one in self.proofs if one.key])
        enabled = self.chance.random() < 0.7

        def act():
            added = self.try_to(lambda: self.add_keyed(proof.name, proof.key, enabled=enabled))
            return [added] if added else []

        return about(act, [])

    def a_group_key(self) -> str:
        return self.chance.choice([self.key_group.primary_key, self.key_group.secondary_key])

    def a_key(self, name: str) -> str:
        """That of a group itself, one that is derived from it for this device, or a new one."""
        key = self.a_group_key()
        return self.chance.choice([key, derived_key(key, name), "bmV3IHNlY3JldCBrZXkgd2l0aCBieXRlcw=="])

    def turning_group(self, groups, individuals):
        group = self.chance.choice(groups)
        turn = disable_enrollment_group if group.enabled else enable_enrollment_group
        return about(lambda: [turn(self.service, group.group_id, actor=ALICE)], [group])

    def deleting_group(self, groups, individuals):
        gone = self.chance.sample(groups, k=min(len(groups), self.chance.randint(1, 2)))

        def act():
            delete_enrollment_groups(self.service, [one.group_id for one in gone], actor=ALICE)
            return []

        return about(act, gone)

    def changing_group(self, groups, individuals):
        group, ca = self.chance.choice(groups), self.chance.choice(self.forest.cas)
        enabled = self.chance.random() < 0.7
        key = self.chance.choice([self.a_group_key(), "bmV3IHNlY3JldCBrZXkgd2l0aCBieXRlcw=="])
        followed = self.chance.choice([None, *groups])

        def act():
            current = EnrollmentGroup.objects.get(pk=group.pk)
            is_keyed = current.mechanism == AttestationMechanism.SYMMETRIC_KEY
            spec = GroupSpec(
                mechanism=AttestationMechanism(current.mechanism),
                certificates={} if is_keyed else {Slot.PRIMARY: ca.parsed},
                primary_key=key if is_keyed else "",
                enabled=enabled,
                predecessor=followed if followed != current else None,
            )
            self.try_to(
                lambda: change_enrollment_group(
                    self.service, current.group_id, spec, expected_etag=current.etag, actor=ALICE
                )
            )
            return []

        return about(act, [group])

    def handing_over(self, groups, individuals):
        """A group gets another CA, and a new one gets its former: it holds the names of the devices all the same."""
        group, ca = self.chance.choice(groups), self.chance.choice(self.forest.cas)
        follows = self.chance.random() < 0.3

        def act():
            current = EnrollmentGroup.objects.get(pk=group.pk)
            former = current.certificates.filter(slot=Slot.PRIMARY).select_related("certificate").first()
            if former is None:
                return []
            spec = GroupSpec(certificates={Slot.PRIMARY: ca.parsed}, enabled=current.enabled)
            changed = self.try_to(
                lambda: change_enrollment_group(
                    self.service, current.group_id, spec, expected_etag=current.etag, actor=ALICE
                )
            )
            held = parsed(former.certificate.pem)
            spec = GroupSpec(
                group_id=f"after-{group.group_id}",
                certificates={Slot.PRIMARY: held},
                predecessor=changed if follows else None,
            )
            added = changed and self.try_to(lambda: add_enrollment_group(self.service, spec, actor=ALICE))
            return [added] if added else []

        return about(act, [group])

    def turning_individual(self, groups, individuals):
        one = self.chance.choice(individuals)
        turn = disable_enrollment if one.enabled else enable_enrollment
        return about(lambda: [turn(self.service, one.registration_id, actor=ALICE)], [one])

    def deleting_individuals(self, groups, individuals):
        gone = self.chance.sample(individuals, k=min(len(individuals), self.chance.randint(1, 3)))

        def act():
            delete_enrollments(self.service, [one.registration_id for one in gone], actor=ALICE)
            return []

        return about(act, gone)

    def changing_keys(self, groups, individuals):
        one = self.chance.choice(individuals)
        both = self.chance.random() < 0.5
        key = self.a_key(one.registration_id)

        def act():
            current = IndividualEnrollment.objects.get(pk=one.pk)
            spec = IndividualSpec(
                mechanism=AttestationMechanism.SYMMETRIC_KEY,
                primary_key=key,
                secondary_key=key if both else "",
                enabled=current.enabled,
            )
            self.try_to(
                lambda: change_individual_enrollment(
                    self.service, current.registration_id, spec, expected_etag=current.etag, actor=ALICE
                )
            )
            return []

        return about(act, [one])

    def outcomes(self, at: datetime | None = None):
        current = ProvisioningService.objects.get(pk=self.service.pk)
        decided = {}
        for name, credential in self.shown.items():
            decision = judge(current, name, credential, at=at or timezone.now()).decision
            decided[name.lower()] = (decision.verdict, decision.entry if decision.entry else None)
        return decided

    # --- Keys that devices prove besides ---------------------------------------------------------------

    def sign_too(self) -> None:
        """Some devices try again by keys: of a group, of their own, of a TPM; whatever is enabled at that moment."""
        names = [leaf.parsed.common_names[0] for leaf in self.chance.sample(self.forest.leaves, k=5)]
        names += self.chance.sample(["keyed-0", "keyed-1", "token-0", "very-0", "derived-0"], k=3)
        for name in [*names, *TPMS]:
            for _ in range(self.chance.randint(1, 2)):
                if self.chance.random() < 0.5:
                    self.turning_group([self.key_group_now()], [])()
                if self.chance.random() < 0.2:
                    admit = not ProvisioningService.what_decisions_read(
                        self.service.pk
                    ).groups_with_keys_admit
                    change_settings(self.service, {"symmetric_key_groups": admit}, actor=ALICE)
                by_tpm = name in TPMS or self.chance.random() < 0.15
                ways = [self.sign_by_tpm] if by_tpm else [self.sign_by_group, self.sign_by_own]
                self.chance.choice(ways)(name)

    def key_group_now(self) -> EnrollmentGroup:
        return EnrollmentGroup.objects.get(pk=self.key_group.pk)

    def sign_by_group(self, name: str) -> None:
        key = derived_key(self.a_group_key(), name)
        self.prove(Proof(name, self.signs(name, key), key))

    def sign_by_own(self, name: str) -> None:
        """By what its entry holds, or by that of one which is not there for long."""
        key = self.a_key(name)
        entry = self.service.individualenrollments.filter(registration_key=name.lower()).first()
        if entry is not None and entry.mechanism == AttestationMechanism.SYMMETRIC_KEY:
            key = self.chance.choice([entry.primary_key, entry.secondary_key])
        elif entry is None:
            self.add_keyed(name, key, enabled=self.chance.random() < 0.5)
        self.prove(Proof(name, self.signs(name, key), key))
        if entry is None and self.chance.random() < 0.7:
            delete_enrollments(self.service, [name], actor=ALICE)

    def sign_by_tpm(self, name: str) -> None:
        tpm = SoftTpm(self.chance.randrange(2))
        endorsement_key, enabled = tpm.keys.endorsement_key, self.chance.random() < 0.5
        added = self.try_to(
            lambda: enroll_tpm(self.service, name, endorsement_key=endorsement_key, enabled=enabled)
        )
        if added:
            self.prove(Proof(name, challenged(self.service, tpm, name)))
            if self.chance.random() < 0.7:
                delete_enrollments(self.service, [name], actor=ALICE)

    def prove(self, proof: "Proof") -> None:
        """Register with it. Noted is what came of it, and whether it is in the record from then on."""
        key = proof.name.lower()
        service = ProvisioningService.objects.get(pk=self.service.pk)
        judgement = judge(service, proof.name, proof.shown, at=timezone.now())
        individual = judgement.facts.individual
        is_own = individual is not None and individual.own_credential_proven
        before = self.evidence(key)
        outcome = register(service, proof.shown, proof.name).outcome
        assert outcome in {"assigned", "failed", "disabled", "unauthorized"}, outcome
        if judgement.decision.proven:
            self.proofs.append(replace(proof, is_assigned=outcome == "assigned", is_own=is_own))
        if self.evidence(key) != before or outcome == "assigned":
            self.proven_on_record[key] = proof

    def evidence(self, key: str) -> object:
        columns = ("pk", "mechanism", "leaf_thumbprint", "key_ids", "key_fingerprint")
        return self.service.registrations.filter(registration_key=key).values_list(*columns).first()

    def proven_by_attempts(self) -> "list[Proof]":
        """What is known by attempts, be it that it admitted the device before another one did."""
        return self.proofs

    def proven_by_known_keys(self) -> set[str]:
        """Of whom each proof is by a key of its own: of a derived one, no more is kept than what it is derived from."""
        return {one.name.lower() for one in self.proofs} - {
            one.name.lower() for one in self.proofs if not one.is_own
        }

    # --- All that is known of devices ----------------------------------------------------------------

    def come(self, credential: PresentedCredential, name: str) -> None:
        service = ProvisioningService.objects.get(pk=self.service.pk)
        if judge(service, name, credential, at=timezone.now()).decision.proven:
            leaf = hashlib.sha256(credential.certificates[0]).hexdigest()
            self.leaves_proven.setdefault(name.lower(), set()).add(leaf)
        register(service, credential, name)

    def renew(self) -> None:
        """Some devices try again with another certificate, and some entries get another one or a second one."""
        for leaf in self.chance.sample(self.forest.leaves, k=10):
            name = leaf.parsed.common_names[0]
            other = self.forest.renewed[name][self.chance.randrange(2)]
            if self.chance.random() < 0.5:
                # As most do: another leaf below what it sent before.
                above = self.shown[name].certificates[1:]
                self.come(PresentedCredential(certificates=(other.der, *above)), name)
            elif self.chance.random() < 0.5:
                self.come(shows(*other.chain) if len(other.chain) > 1 else only(other), name)
        for entry in self.service.individualenrollments.filter(mechanism=AttestationMechanism.X509):
            several = self.forest.renewed.get(entry.registration_id)
            if several and self.chance.random() < 0.6:
                pins = dict(
                    zip(Slot, [one.parsed for one in several[: self.chance.randint(1, 2)]], strict=False)
                )
                spec = IndividualSpec(certificates=pins, enabled=entry.enabled)
                self.try_to(
                    lambda entry=entry, spec=spec: change_individual_enrollment(
                        self.service, entry.registration_id, spec, expected_etag=entry.etag, actor=ALICE
                    )
                )

    def enroll_unshown(self, others: Sequence[Minted]) -> None:
        """Certificates that nobody has shown: second ones, and such as have the key of another device or of a CA.

        Of some devices nothing is left but that.
        """
        for leaf in self.chance.sample(others, k=self.chance.randint(0, len(others))):
            self.try_to(self.pin_two, leaf)
        for leaf in self.chance.sample(self.forest.leaves, k=6):
            self.try_to(self.pin_two, *self.forest.renewed[leaf.parsed.common_names[0]])
        for entry in self.service.individualenrollments.order_by("pk"):
            if self.chance.random() < 0.4:
                self.service.registrations.filter(registration_key=entry.registration_key).delete()
                self.service.attempts.filter(registration_key=entry.registration_key).delete()
                self.forget_proofs(entry.registration_key)

    def forget_proofs(self, key: str) -> None:
        """Nothing of what that device has signed is known any more."""
        self.proofs = [one for one in self.proofs if one.name.lower() != key]
        self.proven_on_record.pop(key, None)
        self.leaves_proven.pop(key, None)

    def pin_two(self, *leaves: Minted) -> None:
        """Or one; where the device has an entry, in place of what that holds."""
        name = leaves[0].parsed.common_names[0]
        several = [*leaves, self_signed(name)]
        self.chance.shuffle(several)
        pins = dict(zip(Slot, [one.parsed for one in several[: self.chance.randint(1, 2)]], strict=False))
        spec = IndividualSpec(registration_id=name, certificates=pins, enabled=self.chance.random() < 0.6)
        there = self.service.individualenrollments.filter(registration_key=name.lower()).first()
        if there is None:
            add_individual_enrollment(self.service, spec, actor=ALICE)
        else:
            change_individual_enrollment(self.service, name, spec, expected_etag=there.etag, actor=ALICE)

    def credentials(self) -> dict[str, dict[object, PresentedCredential]]:
        """By registration key, all that devices are known by: of records, attempts and individual enrollments."""
        known: dict[str, dict[object, PresentedCredential]] = {}
        for record in self.service.registrations.all():
            if record.leaf_thumbprint:
                shown = self.sent(record) or chain_of(record)
                known.setdefault(record.registration_key, {})[record.leaf_thumbprint] = shown
            else:
                proof = self.proven_on_record[record.registration_key]
                known.setdefault(record.registration_key, {})[proof.what] = proof.shown
        for proof in self.proven_by_attempts():
            known.setdefault(proof.name, {})[proof.what] = proof.shown
        for key, several in shown_at_attempts(self.service).items():
            for one in several:
                sent = tuple(certificate.der for certificate in one.read_chain())
                known.setdefault(key, {}).setdefault(one.thumbprint, PresentedCredential(certificates=sent))
        for key, leaves in self.leaves_proven.items():
            assert leaves <= known[key].keys(), "what admitted a device once counts, whatever did since"
        self.unshown = {}
        for key, held in self.enrolled().items():
            self.unshown[key] = held.keys() - known.get(key, {}).keys()
            known[key] = {**held, **known.get(key, {})}
        return known

    def sent(self, record: RegistrationRecord) -> PresentedCredential | None:
        """All that the device sends with the leaf of its record, whatever was kept of it; None where it is another."""
        shown = self.shown.get(record.registration_id)
        leaf = shown.certificates[0] if shown is not None and shown.certificates else b""
        return shown if hashlib.sha256(leaf).hexdigest() == record.leaf_thumbprint else None

    def enrolled(self) -> dict[str, dict[object, PresentedCredential]]:
        found: dict[str, dict[object, PresentedCredential]] = {}
        for entry in IndividualEnrollment.objects.filter(service=self.service):
            own = found.setdefault(entry.registration_key, {})
            for held in entry.certificates.select_related("certificate"):
                der = PEM_cert_to_DER_cert(held.certificate.pem)
                own[held.certificate.thumbprint_sha256] = PresentedCredential(certificates=(der,))
            if entry.mechanism == AttestationMechanism.SYMMETRIC_KEY:
                for secret in (entry.primary_key, entry.secondary_key):
                    proof = Proof(entry.registration_id, self.signs(entry.registration_id, secret), secret)
                    own[proof.what] = proof.shown
            if entry.mechanism == AttestationMechanism.TPM:
                shown = ClaimedTpm(bytes(entry.endorsement_key))
                proof = Proof(entry.registration_id, PresentedCredential(claimed_tpm=shown))
                own[proof.what] = proof.shown
        return found

    def judged(self, known: dict[str, dict[object, PresentedCredential]], at: datetime | None = None):
        """By registration key and credential: verdict, entry, and the entry that keeps the name from it (R11)."""
        current = ProvisioningService.objects.get(pk=self.service.pk)
        names = {one.lower(): one for one in self.shown}
        found = {}
        for key, several in known.items():
            record = RegistrationRecord.of(current.pk, key)
            for credential, shown in several.items():
                judgement = judged(current, names.get(key, key), shown, at or timezone.now())
                decision = judgement.decision
                is_held = (
                    record is not None
                    and decision.verdict is Verdict.ADMIT
                    and isinstance(judgement, Judgement)
                    and not may_take(record, judgement)
                )
                said = decision.verdict, decision.entry, holder_of(record) if record and is_held else None
                found.setdefault(key, {})[credential] = said
        return found


def judged(service, name, shown, at):
    """The decision about a device; of the TPM that is enrolled under its name, as if that had opened its challenge."""
    entry = service.individualenrollments.filter(registration_key=name.lower()).first()
    held = bytes(entry.endorsement_key or b"") if entry is not None else b""
    if shown.claimed_tpm is not None and held == shown.claimed_tpm.endorsement_key:
        return judge_tpm_as_proven(service, name, at=at)
    return judge(service, name, shown, at=at)


def enroll_tpm_of(service, name: str, number: int, **spec):
    return enroll_tpm(service, name, endorsement_key=SoftTpm(number).keys.endorsement_key, **spec)


def only(leaf: Minted) -> PresentedCredential:
    return PresentedCredential(certificates=(leaf.der,))


def about(act, entries):
    act.entries = entries
    return act


def by_name(verdict, through):
    """What was added has another number than in the rehearsal where a database gives none twice (PostgreSQL)."""
    return verdict, through and (through.kind, through.name)


def still_shown(world: World, name: str) -> bool:
    """Whether what the device shows here is what its record has: the same leaf, or a token."""
    record = world.service.registrations.filter(registration_key=name).first()
    if record is None:
        return name in world.came
    credential = world.shown[name]
    if credential.authorization:
        return record.mechanism == AttestationMechanism.SYMMETRIC_KEY
    return record.leaf_thumbprint != ""


def together(before, after, known, unshown=()):
    """What may be said of the device before and after, as pairs: by whichever entry.

    One of those that it has shown and that let it in, before or after. unshown: those among the known that are
    enrolled, and were never shown: they count where none that was shown does.
    """
    shown = [key for key in before if key in known and key not in unshown]
    sides = {key: (side_by_name(*before[key]), side_by_name(*after[key])) for key in before}
    if let_in := {sides[key] for key in shown if any(map(is_in, sides[key]))}:
        return let_in
    counts = [key for key in before if key in known]
    if not any(is_in(before[key]) for key in counts):
        counts = list(before)  # what the change brings lets in, and keeps in nobody
    firsts, seconds = (best(sides[key][which] for key in counts) for which in (0, 1))
    return {(first, second) for first in firsts for second in seconds}


def is_in(side):
    verdict, _, held = side
    return verdict is Verdict.ADMIT and held is None


def may_be_untold(expected):
    return {first for first, _ in expected} == {second for _, second in expected}


def sides_of(device):
    return (
        side_by_name(device.before.verdict, device.before.through, device.held_before),
        side_by_name(device.after.verdict, device.after.through, device.held_after),
    )


def is_let_in_otherwise(after, known):
    return any(is_in(after[key]) for key in known if key in after)


def best(sides):
    sides = set(sides)
    least = min(map(rank, sides))
    return {side for side in sides if rank(side) == least}


def rank(side):
    verdict, _, held = side
    if verdict is Verdict.ADMIT:
        return 0 if held is None else 1
    return 2 if verdict is Verdict.DISABLED else 3


def side_by_name(verdict, through, held):
    """What was added has another number than in the rehearsal where a database gives none twice (PostgreSQL)."""
    return verdict, through and (through.kind, through.name), held and (held.kind, held.name)
