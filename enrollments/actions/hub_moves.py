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

    `is_new`: the identity did not exist for this device before, so it can be taken back. `held`: what the hub was seen
    to hold of it in this transaction.
    """

    plan: Plan
    identity: DeviceIdentity
    hub: LinkedHub
    former: LinkedHub | None
    is_new: bool
    held: DeviceIdentity | None = None

    @property
    def is_transactional(self) -> bool:
        hubs = [self.hub] if self.former is None else [self.hub, self.former]
        return all(connector_of(hub).transactional for hub in hubs)

    def provision(self) -> None:
        """Raises DeviceIdTaken, HubUnavailable."""
        connector_of(self.hub).provision(self.hub, self._with_twin(), self.held)

    def leave_former(self) -> bool:
        """End the former identity; whether its hub confirmed. The device is assigned to the new hub either way."""
        if self.former is None or self.plan.leaves is None:
            return True
        return self._remove(self.former, self.plan.leaves.device_id, "identity of a device that moved on")

    def undo(self) -> bool:
        """Take a new identity back after the device was refused; whether the hub confirmed that it is gone."""
        if not self.is_new:
            return True
        return self._remove(self.hub, self.identity.device_id, "identity of a refused device")

    def _remove(self, hub: LinkedHub, device_id: str, what: str) -> bool:
        try:
            connector_of(hub).deregister(hub, device_id, self.identity.registration_key)
        except HubUnavailable as problem:
            fields = {"hub": hub.name, "device": device_id, "cause": problem.message}
            logger.error(f"{what} is left at its hub", extra={"fields": fields})
            return False
        return True

    def _with_twin(self) -> DeviceIdentity:
        if self.plan.twin is not Twin.MIGRATE or self.former is None or self.plan.leaves is None:
            return self.identity
        twin = connector_of(self.former).twin_of(
            self.former, self.plan.leaves.device_id, self.identity.registration_key
        )
        return self.identity if twin is None else replace(self.identity, twin=twin)
