"""System checks: settings that contradict each other stop the start."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def tls_files_come_in_pairs(**_: Any) -> list[CheckMessage]:
    if bool(settings.DPS_TLS_CERT) == bool(settings.DPS_TLS_KEY):
        return []
    return [
        Error(
            "DPS_TLS_CERT and DPS_TLS_KEY belong together, and only one of them is set.",
            hint="Set both, or neither to have a certificate made for localhost.",
            id="dpsportal.E001",
        )
    ]


@register()
def proxied_listener_has_proxies(**_: Any) -> list[CheckMessage]:
    if not settings.DPS_PROXIED_BIND or settings.DPS_TRUSTED_PROXIES:
        return []
    return [
        Error(
            "DPS_TRUSTED_PROXIES is empty, and DPS_PROXIED_BIND serves only the proxies that it names.",
            hint="Name the addresses from which they connect, or leave DPS_PROXIED_BIND out.",
            id="dpsportal.E003",
        )
    ]


@register()
def sqlite_takes_its_turn_when_a_transaction_begins(**_: Any) -> list[CheckMessage]:
    """R12 rests on it: read first and lock later admits on a state that is gone."""
    database: dict[str, Any] = settings.DATABASES["default"]
    if not database["ENGINE"].endswith("sqlite3"):
        return []
    if database.get("OPTIONS", {}).get("transaction_mode") == "IMMEDIATE":
        return []
    return [Error("SQLite must run with transaction_mode IMMEDIATE.", id="dpsportal.E002")]
