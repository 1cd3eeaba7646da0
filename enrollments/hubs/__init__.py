"""Connectors to linked hubs, one for each kind."""

from enrollments.hubs.base import DeviceIdentity, DeviceIdTaken, HubConnector
from enrollments.hubs.builtin import BuiltInHub
from enrollments.models import HubKind, LinkedHub

CONNECTORS: dict[str, HubConnector] = {HubKind.BUILT_IN: BuiltInHub()}


def connector_of(hub: LinkedHub) -> HubConnector:
    return CONNECTORS[hub.kind]


__all__ = ["CONNECTORS", "BuiltInHub", "DeviceIdTaken", "DeviceIdentity", "HubConnector", "connector_of"]
