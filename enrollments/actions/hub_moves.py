"""Carrying out a plan at the hubs: the new identity first, the former one's end after, and the way back."""

import logging
from dataclasses import dataclass, replace

from enrollments.errors import HubUnavailable
from enrollments.hubs import DeviceIdentity, connector_of
from enrollments.models import LinkedHub
from enrollments.policy.reprovisioning import Plan, Twin

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HubMove:
    """What is to be done at the hubs for one registration. `former`: the hub that is left, if one is.

    `is_new`: the identity did not exist for this device before, so it can be taken back.
    """

    plan: Plan
    identity: DeviceIdentity
    hub: LinkedHub
    former: LinkedHub | None
    is_new: bool

    @property
    def is_transactional(self) -> bool:
        hubs = [self.hub] if self.former is None else [self.hub, self.former]
        return all(connector_of(hub).transactional for hub in hubs)

    def provision(self) -> None:
        """Raises DeviceIdTaken, HubUnavailable."""
        connector_of(self.hub).provision(self.hub, self._with_twin())

    def leave_former(self) -> None:
        """Raises HubUnavailable."""
        if self.former is not None and self.plan.leaves is not None:
            connector_of(self.former).deregister(
                self.former, self.plan.leaves.device_id, self.identity.registration_key
            )

    def undo(self) -> bool:
        """Take a new identity back after the device was refused; whether the hub confirmed that it is gone."""
        if not self.is_new:
            return True
        try:
            connector_of(self.hub).deregister(
                self.hub, self.identity.device_id, self.identity.registration_key
            )
        except HubUnavailable as problem:
            logger.error(
                "identity of a refused device is left at its hub",
                extra={
                    "fields": {
                        "hub": self.hub.name,
                        "device": self.identity.device_id,
                        "cause": problem.message,
                    }
                },
            )
            return False
        return True

    def _with_twin(self) -> DeviceIdentity:
        if self.plan.twin is not Twin.MIGRATE or self.former is None or self.plan.leaves is None:
            return self.identity
        twin = connector_of(self.former).twin_of(
            self.former, self.plan.leaves.device_id, self.identity.registration_key
        )
        return self.identity if twin is None else replace(self.identity, twin=twin)
