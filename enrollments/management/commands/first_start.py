"""`manage.py first_start`: what is needed before anybody can sign in. Changes nothing later."""

import os
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError

from enrollments.actions.people import add_person
from enrollments.actions.services import add_service
from enrollments.errors import Invalid
from enrollments.management.addresses import ca_file, device_endpoint, portal_url, service_endpoint
from enrollments.management.command import REFUSED, DpsCommand, command_line_actor
from enrollments.models import ProvisioningService
from enrollments.policy.roles import Role

FIRST_SERVICE = "local"


class Command(DpsCommand):
    help = (
        "Make the first administrator, if nobody exists (DPS_ADMIN_USERNAME, DPS_ADMIN_PASSWORD; a password "
        f"is generated and shown once if none is given), and the provisioning service {FIRST_SERVICE!r} with "
        "a built-in hub, if there is no service. Print the addresses."
    )

    def act(self, *, json: bool, **_: Any) -> None:
        administrator, password = _first_administrator()
        if not ProvisioningService.objects.exists():
            add_service(FIRST_SERVICE, actor=command_line_actor(), reason="first start")
        found = list(ProvisioningService.objects.all())
        services = {service.name: service.id_scope for service in found}
        endpoints = {service.name: service_endpoint(service) for service in found}
        ca = ca_file()
        if json:
            self.print_json(
                {
                    "portal": portal_url(),
                    "device_endpoint": device_endpoint(),
                    "service_endpoints": endpoints,
                    "ca_certificate": str(ca) if ca else None,
                    "services": services,
                    "administrator": administrator,
                    "password": password,
                }
            )
            return
        lines = [
            ("Portal", portal_url()),
            ("Device API", device_endpoint()),
            *(("Service API", endpoint) for endpoint in sorted(set(filter(None, endpoints.values())))),
            *((f"Service {name}", f"ID scope {id_scope}") for name, id_scope in services.items()),
            ("CA file", str(ca or "the CA that issued DPS_TLS_CERT")),
        ]
        if administrator:
            lines.append(("Administrator", administrator))
        if password:
            lines.append(("Password", f"{password}   (shown this once)"))
        width = max(len(name) for name, _ in lines)
        self.stdout.write("\n".join(f"{name.ljust(width)}  {value}" for name, value in lines))


def _first_administrator() -> tuple[str | None, str | None]:
    """The name of an administrator who was made just now, and the password if it was generated."""
    if User.objects.exists():
        return None, None
    given = _given_password()
    try:
        user, password = add_person(
            os.environ.get("DPS_ADMIN_USERNAME") or "admin",
            role=Role.ADMINISTRATOR,
            service=None,
            actor=command_line_actor(),
            password=given,
            reason="first start",
        )
    except Invalid as refusal:
        variable = "DPS_ADMIN_PASSWORD" if "password" in refusal.errors else "DPS_ADMIN_USERNAME"
        raise CommandError(f"{variable} cannot be used: {refusal.message}", returncode=REFUSED) from None
    return user.get_username(), None if given else password


def _given_password() -> str:
    if password := os.environ.get("DPS_ADMIN_PASSWORD"):
        return password
    if not (path := os.environ.get("DPS_ADMIN_PASSWORD_FILE")):
        return ""
    try:
        password = Path(path).read_text().strip()
    except (OSError, ValueError) as problem:
        raise CommandError(f"DPS_ADMIN_PASSWORD_FILE cannot be read: {problem}", returncode=REFUSED) from None
    if not password:
        # Generating one instead would leave an installation whose password nobody has noted.
        raise CommandError(f"DPS_ADMIN_PASSWORD_FILE names {path}, which is empty.", returncode=REFUSED)
    return password
