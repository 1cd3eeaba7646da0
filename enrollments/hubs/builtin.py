"""The built-in hub: device identities and twins in our own database."""

from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from enrollments.errors import SecretUnreadable
from enrollments.hubs.base import DeviceIdentity, DeviceIdTaken
from enrollments.models import HubDevice, LinkedHub
from enrollments.models.enrollments import empty_twin, new_etag
from enrollments.models.prepared import Prepared
from enrollments.policy.names import registration_key as key_of


@Prepared
def _identity(hub: int, device_key: str, owner: str) -> "QuerySet[HubDevice, Any]":
    found = HubDevice.objects.filter(hub=hub, device_key=device_key, registration_key=owner)
    return found.values_list("thumbprint_sha256", "iot_edge", "primary_key", "secondary_key")


@Prepared
def _identity_without_keys(hub: int, device_key: str, owner: str) -> "QuerySet[HubDevice, Any]":
    found = HubDevice.objects.filter(hub=hub, device_key=device_key, registration_key=owner)
    return found.values_list("thumbprint_sha256", "iot_edge")


class BuiltInHub:
    transactional = True

    def provision(self, hub: LinkedHub, identity: DeviceIdentity, held: DeviceIdentity | None = None) -> None:
        # Most devices come again as they were. A twin is only given where it has to be written.
        if held is not None and held == identity:
            return
        values: dict[str, Any] = {
            "registration_key": identity.registration_key,
            "thumbprint_sha256": identity.thumbprint_sha256,
            "primary_key": identity.primary_key,
            "secondary_key": identity.secondary_key,
            "iot_edge": identity.iot_edge,
        }
        if identity.twin is not None:
            values["twin"] = identity.twin
        if self._update(hub, identity, values):
            return
        try:
            with transaction.atomic():
                HubDevice.objects.create(
                    hub=hub,
                    device_id=identity.device_id,
                    device_key=key_of(identity.device_id),
                    **{"twin": empty_twin(), **values},
                )
        except IntegrityError:
            raise DeviceIdTaken(
                f"Device ID {identity.device_id} at {hub} belongs to another registration."
            ) from None

    def held(self, hub: LinkedHub, device_id: str, registration_key: str) -> DeviceIdentity | None:
        asked = hub.pk, key_of(device_id), registration_key
        try:
            row = _identity.one(*asked)
        except SecretUnreadable:
            row = _identity_without_keys.one(*asked)
        if row is None:
            return None
        thumbprint, iot_edge, *keys = row
        primary, secondary = keys or ("", "")
        return DeviceIdentity(device_id, registration_key, thumbprint, primary, secondary, iot_edge)

    def twin_of(self, hub: LinkedHub, device_id: str, registration_key: str) -> dict[str, Any] | None:
        return self._of(hub, device_id, registration_key).values_list("twin", flat=True).first()

    def deregister(self, hub: LinkedHub, device_id: str, registration_key: str) -> bool:
        removed, _ = self._of(hub, device_id, registration_key).delete()
        return removed > 0

    def _update(self, hub: LinkedHub, identity: DeviceIdentity, values: dict[str, Any]) -> bool:
        """Update the row if it belongs to this registration ID; nobody else's row is touched (R11)."""
        own = self._of(hub, identity.device_id, identity.registration_key)
        return own.update(**values, etag=new_etag(), updated_at=timezone.now()) > 0

    @staticmethod
    def _of(hub: LinkedHub, device_id: str, owner: str) -> QuerySet[HubDevice]:
        return HubDevice.objects.filter(hub=hub, device_key=key_of(device_id), registration_key=owner)
