"""`manage.py service_info`: what a client of a service needs."""

from argparse import ArgumentParser
from typing import Any

from enrollments.actions.access_policies import policy_to_connect_by, reveal_policy_keys
from enrollments.management.addresses import ca_file, device_endpoint, service_endpoint, service_host
from enrollments.management.command import (
    DpsCommand,
    add_service_option,
    command_line_actor,
    service_named,
)
from enrollments.models import ProvisioningService


class Command(DpsCommand):
    help = (
        "Print what a client of a provisioning service needs. ca_certificate is the path of the PEM file "
        "with the CA that clients must trust; null where DPS_TLS_CERT is set: its CA is your own. "
        "connection_string is for back ends and holds a key: that it was printed is recorded in the history. "
        "service_endpoint is null where several services share the listener and this one has no host name."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        add_service_option(parser)
        parser.add_argument(
            "--without-keys",
            action="store_true",
            help="Leave the connection string out (null), and nothing is recorded.",
        )

    def act(self, *, service: str, json: bool, without_keys: bool, **_: Any) -> None:
        found, ca = service_named(service), ca_file()
        connection, why_none = None, "not asked for (--without-keys)"
        if not without_keys:
            connection, why_none = _connection_string(found)
        info = {
            "name": found.name,
            "id_scope": found.id_scope,
            "device_endpoint": device_endpoint(),
            "service_endpoint": service_endpoint(found),
            "connection_string": connection,
            "ca_certificate": str(ca) if ca else None,
        }
        if json:
            self.print_json(info)
            return
        self.stdout.write(
            f"Name               {found.name}\n"
            f"ID scope           {found.id_scope}\n"
            f"Device endpoint    {info['device_endpoint']}\n"
            f"Service endpoint   {info['service_endpoint'] or f'none: {NO_HOST_NAME}'}\n"
            f"Connection string  {connection or f'none: {why_none}'}\n"
            f"CA certificate     {ca or 'the CA that issued DPS_TLS_CERT'}"
        )


NO_HOST_NAME = "there are several services, and this one has no host name in its settings"


def _connection_string(service: ProvisioningService) -> tuple[str | None, str]:
    """With the reason why there is none."""
    host = service_host(service)
    if host is None:
        return None, NO_HOST_NAME
    if not service.shared_access_keys:
        return None, "the keys of access policies are switched off in its settings"
    policy = policy_to_connect_by(service)
    if policy is None:
        return None, "no access policy with all rights is enabled"
    policy, primary, _secondary = reveal_policy_keys(
        service, policy.name, actor=command_line_actor(), reason="printed by service_info"
    )
    return f"HostName={host};SharedAccessKeyName={policy.name};SharedAccessKey={primary}", ""
