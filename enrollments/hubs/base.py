"""What a linked hub can do for us, whatever kind it is."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from enrollments.errors import Conflict
from enrollments.models import LinkedHub


class DeviceIdTaken(Conflict):
    """The device ID at this hub belongs to another registration ID (R11)."""

    code = "device_id_taken"


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """The identity that a hub is asked to hold. Keys and thumbprint are what the device will show to the hub.

    twin: tags and desired properties to start from; None leaves the twin that the hub has.
    """

    device_id: str
    registration_key: str
    thumbprint_sha256: str = ""
    primary_key: str = field(default="", repr=False)
    secondary_key: str = field(default="", repr=False)
    iot_edge: bool = False
    twin: dict[str, Any] | None = None


class HubConnector(Protocol):
    """A way to talk to one kind of hub.

    `transactional`: its effects are rows of our own database, so it is called inside the transaction of the
    decision. Any other connector is called outside of one, and its answer is judged afterwards (R12).
    Everything raises HubUnavailable where the hub did not confirm.
    """

    transactional: bool

    def provision(self, hub: LinkedHub, identity: DeviceIdentity, held: DeviceIdentity | None = None) -> None:
        """Create or update the identity. Raises DeviceIdTaken.

        held: what `held` found in the same transaction, if it was asked for: what stands already is not written again.
        """

    def held(self, hub: LinkedHub, device_id: str, registration_key: str) -> DeviceIdentity | None:
        """What a transactional hub holds under this device ID for this registration ID, but for the twin.

        Keys that cannot be read are told as if there were none.
        """

    def twin_of(self, hub: LinkedHub, device_id: str, registration_key: str) -> dict[str, Any] | None:
        """Tags and desired properties, or None if the hub does not know the device."""

    def deregister(self, hub: LinkedHub, device_id: str, registration_key: str) -> bool:
        """Remove the identity; True if there was one. Returning is the confirmation that it is gone."""
