"""What a device that registers again keeps (R11, contract 7.4)."""

from dataclasses import dataclass
from enum import StrEnum


class ReprovisioningPolicy(StrEnum):
    MIGRATE = "migrate"
    RESET = "reset"
    NEVER = "never"

    @property
    def label(self) -> str:
        return {
            "migrate": "Re-provision and migrate data",
            "reset": "Re-provision and reset to the initial twin",
            "never": "Never re-provision",
        }[self.value]


class Substatus(StrEnum):
    INITIAL_ASSIGNMENT = "initialAssignment"
    DATA_MIGRATED = "deviceDataMigrated"
    DATA_RESET = "deviceDataReset"
    REPROVISIONED = "reprovisionedToInitialAssignment"


class Twin(StrEnum):
    """Where the twin of the identity comes from."""

    KEEP = "keep"
    MIGRATE = "migrate"
    INITIAL = "initial"


@dataclass(frozen=True, slots=True)
class Assignment:
    hub: int
    device_id: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The assignment to end with. `leaves`: the former one whose identity is to be removed."""

    assignment: Assignment
    twin: Twin
    substatus: Substatus
    leaves: Assignment | None = None


def plan_assignment(
    policy: ReprovisioningPolicy,
    current: Assignment | None,
    target: Assignment,
    *,
    identity_exists: bool = True,
) -> Plan:
    """`current`: the last assignment of this device; `identity_exists`: whether its hub still knows it."""
    if current is None:
        return Plan(target, Twin.INITIAL, Substatus.INITIAL_ASSIGNMENT)
    if not identity_exists:
        # The hub forgot the device: there is no data to keep, so it starts anew where the policy says.
        place = current if policy is ReprovisioningPolicy.NEVER else target
        return Plan(place, Twin.INITIAL, Substatus.REPROVISIONED)
    if policy is ReprovisioningPolicy.NEVER or current == target:
        return Plan(current, Twin.KEEP, Substatus.INITIAL_ASSIGNMENT)
    if policy is ReprovisioningPolicy.RESET:
        return Plan(target, Twin.INITIAL, Substatus.DATA_RESET, leaves=current)
    return Plan(target, Twin.MIGRATE, Substatus.DATA_MIGRATED, leaves=current)
