"""What every page shows: where one is, what else there is, and as whom."""

from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.urls import reverse

from enrollments.actions.people import role_in
from enrollments.models import ProvisioningService
from enrollments.policy.roles import Right, Role


class Item(NamedTuple):
    label: str
    view: str
    icon: str
    right: Right
    also: tuple[str, ...] = ()
    """Other pages that stand below this entry, for which the address does not say so."""


_BESIDE_ENTRIES = ("portal:group-list", "portal:import-list")
SERVICE_NAVIGATION = (
    Item("Overview", "portal:service-overview", "dashboard", Right.SEE),
    Item("Manage enrollments", "portal:enrollment-list", "certificate", Right.SEE, _BESIDE_ENTRIES),
    Item("CA certificates", "portal:ca-list", "shield-check", Right.SEE),
    Item("Registration records", "portal:registration-list", "list-details", Right.SEE),
    Item("Attempts", "portal:attempt-list", "list-check", Right.SEE_HISTORY, ("portal:storm-list",)),
    Item("Explain", "portal:explain", "help-circle", Right.SEE_HISTORY),
    Item("Back in time", "portal:past", "clock", Right.SEE_HISTORY),
    Item("Linked hubs", "portal:hub-list", "server", Right.SEE),
    Item("Shared access policies", "portal:policy-list", "key", Right.ADMINISTER),
    Item("API tokens", "portal:token-list", "terminal-2", Right.SEE),
    Item("People and roles", "portal:service-people", "users", Right.SEE_HISTORY),
    Item("Revocation history", "portal:history-list", "history", Right.SEE),
    Item("Settings", "portal:service-settings", "settings", Right.SEE),
)
INSTALLATION_NAVIGATION = (
    Item("All resources", "portal:service-list", "stack-2", Right.SEE),
    Item("People", "portal:people-list", "users", Right.ADMINISTER),
    Item("API reference", "api-page", "route", Right.SEE),
)


def portal(request: HttpRequest) -> dict[str, Any]:
    """Navigation offers what the role allows; the views behind it check for themselves."""
    user = getattr(request, "user", None)
    if not isinstance(user, User):
        return {"environment_label": settings.DPS_ENVIRONMENT_LABEL}
    service: ProvisioningService | None = getattr(request, "current_service", None)
    # Of pages of a service it was found out with the role there.
    everywhere: Role | None = request.role_everywhere if service else role_in(user, None)  # type: ignore[attr-defined]  # set by access.requires
    role: Role | None = getattr(request, "current_role", None) if service else everywhere
    installation = [
        _link(request, item)
        for item in INSTALLATION_NAVIGATION
        if item.right is Right.SEE or (everywhere is not None and item.right in everywhere.rights)
    ]
    rights = role.rights if role else frozenset()
    return {
        "current_service": service,
        "navigation": [
            _link(request, item, service_name=service.name)
            for item in SERVICE_NAVIGATION
            if item.right in rights
        ]
        if service
        else [],
        "installation_navigation": installation,
        "environment_label": settings.DPS_ENVIRONMENT_LABEL,
        "role_label": role.label if role else "",
        "rights": {right.value: right in rights for right in Right},
    }


def _link(request: HttpRequest, item: Item, **kwargs: str) -> dict[str, Any]:
    url = reverse(item.view, kwargs=kwargs)
    exact = item.view in ("portal:service-overview", "portal:service-list")
    below = (url, *(reverse(view, kwargs=kwargs) for view in item.also))
    active = request.path == url if exact else request.path.startswith(below)
    return {"label": item.label, "url": url, "icon": item.icon, "active": active}
