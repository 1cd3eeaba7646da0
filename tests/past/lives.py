"""Random histories in which devices have one credential after another: each is judged at each snapshot."""

import base64
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import quote

from django.utils import timezone

from enrollments.actions.enrollments import (
    IndividualSpec,
    add_individual_enrollment,
    change_individual_enrollment,
)
from enrollments.actions.judging import judge
from enrollments.actions.judging.assumed import judge_tpm_as_proven
from enrollments.actions.registrations import DeviceRequest, Outcome, register_device
from enrollments.attestation.credential import ClaimedTpm, PresentedCredential
from enrollments.attestation.tpm import read_storage_root_key
from enrollments.models import AttestationMechanism, IndividualEnrollment, ProvisioningService, Slot
from enrollments.policy.decision import Decision, Verdict
from tests.certificates import Minted, self_signed
from tests.devices import ALICE, PEER, derived_key, register, shows, signs
from tests.past.histories import KEYS, History
from tests.soft_tpm import SoftTpm

# By name of the device and of a credential: what was decided, and by which entry.
Snapshot = dict[str, dict[str, tuple[Verdict, str]]]


@dataclass
class Has:
    """A credential, shown or signed with; or a TPM. is_kept: whether a proof of it is kept."""

    shown: PresentedCredential | None = None
    tpm: SoftTpm | None = None
    leaf: Minted | None = None
    is_kept: bool = False


class Lives(History):
    """As its base, but devices renew what they have, come with any of it, and are refused now and then."""

    def __init__(self, *args) -> None:
        self.has: dict[str, dict[str, Has]] = {}
        self.soft_tpms = {f"tpm-{number}": SoftTpm(number) for number in range(2)}
        super().__init__(*args)
        self.lives: list[tuple[datetime, Snapshot]] = []

    def introduce(self) -> None:
        """Whoever signs may be given any of a few keys; what registered at the beginning is kept."""
        super().introduce()
        for leaf in [*self.forest.leaves, *self.forest.strangers]:
            name = leaf.parsed.common_names[0]
            is_known = leaf in self.forest.leaves
            self.add_leaf(name, leaf, shows(leaf) if is_known else bare(leaf), is_kept=is_known)
        for name in sorted({*self.has, *self.shown, *self.soft_tpms}):
            for _ in range(2):
                self.mint_for(name)
            for number, key in enumerate(KEYS):
                self.add(name, f"key {number}", Has(signs(self.service, name, key)))
                self.add(name, f"derived {number}", Has(signs(self.service, name, derived_key(key, name))))
            for other, tpm in self.soft_tpms.items():
                self.add(name, other, Has(tpm=tpm))
        for name, label in (
            *((f"key-{number}", f"key {number}") for number in range(3)),
            *((f"derived-{number}", "derived 0") for number in range(2)),
            *((name, name) for name in self.soft_tpms),
        ):
            self.has[name][label].is_kept = True

    def add(self, name: str, label: str, one: Has) -> None:
        self.has.setdefault(name, {})[label] = one

    def add_leaf(self, name: str, leaf: Minted, shown: PresentedCredential, *, is_kept: bool = False) -> str:
        label = f"leaf {len(self.has.get(name, {}))}"
        self.add(name, label, Has(shown, leaf=leaf, is_kept=is_kept))
        # What is enrolled is the leaf alone.
        self.add(name, f"{label} alone", Has(bare(leaf), leaf=leaf))
        return label

    # --- Operations --------------------------------------------------------------------------------

    def operate(self) -> None:
        act = self.chance.choices(
            [super().operate, self.renew, self.come, self.pin_two, self.give_derived], [5, 2, 4, 1, 1]
        )[0]
        if act != super().operate:
            self.acts[act.__name__] += 1
            self.try_to(act)
        else:
            act()

    def mint_for(self, name: str) -> None:
        """What it will renew to: of any CA or of none, with all that is above it, or less; for seconds, or long."""
        options = {}
        if self.chance.random() < 0.25:
            options["not_after"] = timezone.now() + timedelta(seconds=self.chance.randint(2, 20))
        ca = self.chance.choice([None, *self.forest.cas])
        leaf = ca.leaf(name, **options) if ca is not None else self_signed(name, **options)
        shown = shows(leaf)
        if self.chance.random() < 0.3:
            shown = bare(leaf)
        elif self.chance.random() < 0.3:
            shown = shows(*leaf.chain, self.chance.choice(self.forest.cas))
        self.add_leaf(name, leaf, shown)

    def renew(self) -> None:
        name = self.chance.choice(sorted(self.has))
        label = self.chance.choice(sorted(one for one, has in self.has[name].items() if has.leaf))
        if self.chance.random() < 0.5:
            self.try_to(self.pin, name, self.has[name][label].leaf)
        self.come_with(name, label)

    def pin(self, name: str, *leaves: Minted) -> None:
        slots = dict(zip((Slot.PRIMARY, Slot.SECONDARY), (one.parsed for one in leaves), strict=False))
        entry = IndividualEnrollment.objects.filter(service=self.service, registration_key=name).first()
        if entry is None:
            spec = IndividualSpec(certificates=slots)
            add_individual_enrollment(self.service, spec, actor=ALICE)
        else:
            spec = IndividualSpec(certificates=slots, enabled=entry.enabled)
            change_individual_enrollment(self.service, name, spec, expected_etag=entry.etag, actor=ALICE)

    def pin_two(self) -> None:
        name = self.chance.choice(sorted(self.has))
        leaves = list({id(one.leaf): one.leaf for one in self.has[name].values() if one.leaf}.values())
        if len(leaves) > 1:
            self.pin(name, *self.chance.sample(leaves, k=2))

    def give_derived(self) -> None:
        """Its own entry gets the key that a group derives for it, or did."""
        name = self.chance.choice(sorted(self.has))
        spec = self.key_spec(name, derived_key(self.chance.choice(KEYS[:2]), name))
        entry = IndividualEnrollment.objects.filter(service=self.service, registration_key=name).first()
        if entry is None:
            add_individual_enrollment(self.service, spec, actor=ALICE)
        else:
            spec = replace(spec, registration_id="", enabled=entry.enabled)
            change_individual_enrollment(self.service, name, spec, expected_etag=entry.etag, actor=ALICE)

    def come(self) -> None:
        """With anything, often with what its entry or a group lets in."""
        name = self.chance.choice(sorted(self.has))
        now = timezone.now()
        labels = sorted(self.has[name])
        admitted = [
            one for one in labels if self.judged(name, self.has[name][one], now).verdict is Verdict.ADMIT
        ]
        self.come_with(
            name, self.chance.choice(admitted if admitted and self.chance.random() < 0.6 else labels)
        )

    def come_with(self, name: str, label: str) -> None:
        one = self.has[name][label]
        decision = self.judged(name, one, timezone.now())
        shown = one.shown
        answer = self.activate(name, one.tpm) if one.tpm else register(self.service, shown, name)
        if answer is not None and answer.outcome is not Outcome.THROTTLED:
            one.is_kept |= decision.proven

    def activate(self, name: str, tpm: SoftTpm):
        claimed = ClaimedTpm(tpm.keys.endorsement_key, read_storage_root_key(tpm.keys.storage_root_key))
        asked = DeviceRequest(name, PresentedCredential(claimed_tpm=claimed), PEER, timezone.now())
        answer = register_device(self.service, asked)
        if answer.outcome is not Outcome.CHALLENGE:
            return None
        tpm.activate(answer.tpm_blob)
        resource = quote(f"{self.service.id_scope}/registrations/{name}", safe="")
        expiry = int(time.time()) + 600
        signature = quote(base64.b64encode(tpm.sign(f"{resource}\n{expiry}")), safe="")
        token = f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn=registration"
        proof = PresentedCredential(authorization=token, claimed_tpm=claimed)
        return register_device(self.service, DeviceRequest(name, proof, PEER, timezone.now()))

    # --- What is decided now ------------------------------------------------------------------------

    def judged(self, name: str, one: Has, at: datetime) -> Decision:
        service = ProvisioningService.objects.get(pk=self.service.pk)
        if one.tpm is None:
            return judge(service, name, one.shown, at=at).decision
        entry = service.individualenrollments.filter(registration_key=name).first()
        key = one.tpm.keys.endorsement_key
        is_its_own = entry is not None and entry.mechanism == AttestationMechanism.TPM
        if is_its_own and bytes(entry.endorsement_key or b"") == key:
            return judge_tpm_as_proven(service, name, at=at).decision
        return judge(service, name, PresentedCredential(claimed_tpm=ClaimedTpm(key)), at=at).decision

    def run(self, operations: int, wanted: set[int]) -> None:
        for step in range(operations):
            self.operate()
            if step in wanted:
                self.wait_until_nothing_is_due_soon()
                at = timezone.now()
                snapshot: Snapshot = {}
                for name, every in self.has.items():
                    decisions = {label: self.judged(name, one, at) for label, one in every.items()}
                    snapshot[name] = {
                        label: (decision.verdict, str(decision.entry or ""))
                        for label, decision in decisions.items()
                    }
                self.lives.append((at, snapshot))
                while timezone.now() <= at:
                    pass


def bare(leaf: Minted) -> PresentedCredential:
    return PresentedCredential(certificates=(leaf.der,))
