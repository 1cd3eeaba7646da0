"""`manage.py service_info`: what a client of a service needs."""

from argparse import ArgumentParser
from typing import Any

from enrollments.management.addresses import ca_file, device_endpoint
from enrollments.management.command import DpsCommand, add_service_option, service_named


class Command(DpsCommand):
    help = (
        "Print what a client of a provisioning service needs. ca_certificate is the path of the PEM file "
        "with the CA that clients must trust; null where DPS_TLS_CERT is set: its CA is your own. "
        "service_endpoint and connection_string are null: this version has no service API."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        add_service_option(parser)

    def act(self, *, service: str, json: bool, **_: Any) -> None:
        found, ca = service_named(service), ca_file()
        info = {
            "name": found.name,
            "id_scope": found.id_scope,
            "device_endpoint": device_endpoint(),
            "service_endpoint": None,
            "connection_string": None,
            "ca_certificate": str(ca) if ca else None,
        }
        if json:
            self.print_json(info)
            return
        no_api = "none, this version has no service API"
        self.stdout.write(
            f"Name               {found.name}\n"
            f"ID scope           {found.id_scope}\n"
            f"Device endpoint    {info['device_endpoint']}\n"
            f"Service endpoint   {no_api}\n"
            f"Connection string  {no_api}\n"
            f"CA certificate     {ca or 'the CA that issued DPS_TLS_CERT'}"
        )
