"""Deciding about known devices, many at a time: facts from what is stored of them, the verdict from `decide`."""

from dataclasses import dataclass, field

from enrollments.actions.preview.effects import Outcome
from enrollments.actions.preview.world import NOTHING_ABOVE, Above, Individual, Secrets, World
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
    """A device as its record has it. `secrets`: keys that it may hold, where it signs tokens.

    is_current: whether its leaf is valid by its dates at the time of the preview.
    """

    registration_key: str
    registration_id: str
    mechanism: Mechanism
    evidence: str = ""
    leaf_thumbprint: str = ""
    leaf_spki: str = ""
    is_current: bool = True
    secrets: Secrets = field(default=frozenset(), repr=False)

    @property
    def is_judgeable(self) -> bool:
        return bool(self.evidence) if self.mechanism is Mechanism.X509 else bool(self.secrets)


class Decider:
    """Decides in one world. Devices that differ in nothing that counts are decided about once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._decided: dict[object, Outcome] = {}

    def outcome(self, device: Known) -> Outcome:
        individual = self._world.individuals.get(device.registration_key)
        if device.mechanism is Mechanism.X509:
            return self._by_certificate(device, individual)
        return self._by_secret(device, individual)

    def _by_certificate(self, device: Known, individual: Individual | None) -> Outcome:
        above = self._world.above.get(device.evidence, NOTHING_ABOVE)
        problem = above.problem or (None if device.is_current else Reason.LEAF_REFUSED)
        bars = self._world.leaf_bars.get(device.leaf_spki)
        proven = individual is not None and device.leaf_thumbprint in individual.pins
        alike = (device.evidence, problem, _state(individual), proven, min(bars) if bars else None)
        if alike not in self._decided:
            facts = _facts(device, individual, proven=proven, problem=problem)
            if problem is None:
                facts = _with_above(facts, above, tuple(bars.values()) if bars else ())
            self._decided[alike] = _outcome(facts)
        return _of_its_own(self._decided[alike], individual)

    def _by_secret(self, device: Known, individual: Individual | None) -> Outcome:
        proven = individual is not None and bool(individual.secrets & device.secrets)
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
            if group.secrets & device.secrets
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
