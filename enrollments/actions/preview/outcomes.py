"""Deciding about known devices, many at a time: facts from what is stored of them, the verdict from `decide`."""

from dataclasses import dataclass, field

from enrollments.actions.preview.effects import Outcome
from enrollments.actions.preview.secrets import Secrets
from enrollments.actions.preview.world import NOTHING_ABOVE, Above, Individual, World
from enrollments.policy.decision import decide
from enrollments.policy.facts import (
    BarredKey,
    CredentialFacts,
    EntryKind,
    GroupFacts,
    IndividualFacts,
    Mechanism,
    RegistrationFacts,
)
from enrollments.policy.reasons import Reason


@dataclass(frozen=True, slots=True)
class Known:
    """A device as its record has it. is_current: whether its leaf is valid by its dates at the time of the preview.

    problem: what is wrong with its leaf, where that is not known from what lies above it.
    readings: of a device that signs, what it may hold. Several where its record does not tell which of them it is.
    holder: the group that holds its name, if one does.
    place: of what is not in its record, under which that is looked at. is_former: whether it
    showed that before what its record has (see was_outlived).
    """

    registration_key: str
    registration_id: str
    mechanism: Mechanism
    evidence: str = ""
    leaf_thumbprint: str = ""
    leaf_spki: str = ""
    is_current: bool = True
    problem: Reason | None = None
    readings: tuple[Secrets, ...] = field(default=(), repr=False)
    holder: int | None = None
    place: str = ""
    is_former: bool = False

    @property
    def looked_at_as(self) -> str:
        return self.place or self.registration_key

    @property
    def is_judgeable(self) -> bool:
        return bool(self.evidence) if self.mechanism is Mechanism.X509 else bool(self.readings)


class Decider:
    """Decides in one world. Devices that differ in nothing that counts are decided about once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._decided: dict[object, Outcome] = {}

    def outcome(self, device: Known) -> Outcome | None:
        """None where it hangs on what nobody knows: which key the device has, or whether its entry has that key."""
        individual = self._world.individuals.get(device.registration_key)
        if device.mechanism is Mechanism.X509:
            return self._by_certificate(device, individual)
        possible = {
            self._by_secret(device, individual, secrets, proven=proven)
            for secrets in device.readings
            for proven in _may_be_proven(device, individual, secrets)
        }
        return possible.pop() if len(possible) == 1 else None

    def _by_certificate(self, device: Known, individual: Individual | None) -> Outcome:
        above = self._world.above.get(device.evidence, NOTHING_ABOVE)
        problem = device.problem or above.problem or (None if device.is_current else Reason.LEAF_REFUSED)
        bars = self._world.leaf_bars.get(device.leaf_spki)
        proven = individual is not None and device.leaf_thumbprint in individual.pins
        alike = (device.evidence, problem, _state(individual), proven, min(bars) if bars else None)
        if alike not in self._decided:
            facts = _facts(device, individual, proven=proven, problem=problem)
            if problem is None:
                facts = _with_above(facts, above, tuple(bars.values()) if bars else ())
            self._decided[alike] = _outcome(facts)
        if problem is None and (bars or above.barred):
            return self._decided[alike]  # R6: by the entry that bars, be it another device's
        return _of_its_own(self._decided[alike], individual)

    def _by_secret(
        self, device: Known, individual: Individual | None, secrets: Secrets, *, proven: bool
    ) -> Outcome:
        signed = tuple(
            GroupFacts(
                group.ref,
                group.enabled,
                group.created,
                0,
                signed=True,
                switched_off=not self._world.key_groups_admit,
            )
            for group in self._world.key_groups.values()
            if group.signs_for(device.registration_id, secrets)
        )
        alike = (tuple(group.ref.pk for group in signed), _state(individual), proven)
        if alike not in self._decided:
            facts = _facts(device, individual, proven=proven, problem=None)
            self._decided[alike] = _outcome(
                RegistrationFacts(
                    facts.claimed_registration_id,
                    facts.credential,
                    individual=facts.individual,
                    groups=signed,
                )
            )
        return _of_its_own(self._decided[alike], individual)


def _may_be_proven(device: Known, individual: Individual | None, secrets: Secrets) -> tuple[bool, ...]:
    """Whether the device of these has the credential of its entry; both, where that cannot be seen."""
    if individual is None or not individual.holds_keys:
        return (False,)
    if individual.mechanism is Mechanism.TPM and device.mechanism is Mechanism.SYMMETRIC_KEY:
        return (False,)
    if individual.secrets & secrets:
        return (True,)
    return (False,) if individual.knows_of(secrets) else (False, True)


def _state(individual: Individual | None) -> tuple[bool, Mechanism] | None:
    return (individual.enabled, individual.mechanism) if individual is not None else None


def _facts(
    device: Known, individual: Individual | None, *, proven: bool, problem: Reason | None
) -> RegistrationFacts:
    own = None
    if individual is not None:
        proven = proven and problem is None
        own = IndividualFacts(
            individual.ref, individual.enabled, individual.mechanism, own_credential_proven=proven
        )
    return RegistrationFacts(
        device.registration_id, CredentialFacts(device.mechanism, problem=problem), individual=own
    )


def _with_above(facts: RegistrationFacts, above: Above, bars: tuple[object, ...]) -> RegistrationFacts:
    own = tuple(BarredKey(ref, 0, "the device's certificate") for ref in bars)  # type: ignore[arg-type]  # entries
    return RegistrationFacts(
        facts.claimed_registration_id,
        facts.credential,
        individual=facts.individual,
        barred_keys=(*own, *above.barred),
        groups=above.groups,
    )


def _outcome(facts: RegistrationFacts) -> Outcome:
    decision = decide(facts)
    return Outcome(decision.verdict, decision.entry)


def _of_its_own(outcome: Outcome, individual: Individual | None) -> Outcome:
    """Decided for a device that is alike: where its own individual enrollment decides, that is this device's."""
    through = outcome.through
    if individual is None or through is None or through.kind is not EntryKind.INDIVIDUAL:
        return outcome
    return Outcome(outcome.verdict, individual.ref)
