"""Judging a device by proof that nobody but the device can give. For questions of people, never for a device.

What comes out is no Judgement: nothing that registers, polls or assigns takes it.
"""

from dataclasses import dataclass
from datetime import datetime

from enrollments.actions.judging.world import World, credential_facts, individual_facts
from enrollments.models import AttestationMechanism, ProvisioningService
from enrollments.policy.decision import Decision, decide
from enrollments.policy.facts import CredentialFacts, Mechanism, RegistrationFacts
from enrollments.policy.reasons import Reason

TAKEN_AS_ANSWERED = "the TPM, taken as having answered its challenge"


@dataclass(frozen=True, slots=True)
class Assumed:
    """What would be decided, were it proven. No device has shown anything."""

    at: datetime
    facts: RegistrationFacts
    decision: Decision


def judge_tpm_as_proven(
    service: ProvisioningService, registration_id: str, *, at: datetime, entries_at: datetime | None = None
) -> Assumed:
    """As if the TPM that is enrolled under this registration ID had answered its challenge a moment ago.

    entries_at: see judge.
    """
    world = World.at(service, entries_at)
    individual = world.individual(registration_id)
    if individual is None or individual.mechanism != AttestationMechanism.TPM:
        # Nothing is enrolled that could have challenged it, so there is nothing it could have answered.
        unknown = CredentialFacts(Mechanism.TPM, "the TPM", problem=Reason.TPM_NOT_ENROLLED)
        facts = credential_facts(world, registration_id, individual, unknown)
    else:
        facts = RegistrationFacts(
            registration_id,
            CredentialFacts(Mechanism.TPM, TAKEN_AS_ANSWERED),
            individual=individual_facts(world, individual, own_credential_proven=True),
        )
    return Assumed(at, facts, decide(facts))
