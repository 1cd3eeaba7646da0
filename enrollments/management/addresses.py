"""Where this installation is reached, as told to people and clients."""

from pathlib import Path

from django.conf import settings

from enrollments.models import ProvisioningService

HTTPS_PORT = 443
# A listener on every address of the machine is reached by this name, for which its certificate was made.
_EVERY_ADDRESS = frozenset({"0.0.0.0", "::", "[::]", "*"})  # noqa: S104  # recognised here, not bound


def host_and_port(bind: str) -> tuple[str, int]:
    """`host:port` as a client dials it, IPv6 without brackets. Raises ValueError."""
    host, _, port = bind.rpartition(":")
    number = int(port)
    if not host or not 0 < number < 65536:
        raise ValueError(f"{bind!r} is not host:port")
    return ("localhost" if host in _EVERY_ADDRESS else host.strip("[]")), number


def portal_url() -> str:
    return f"http://{_dialled(settings.DPS_PORTAL_BIND)}/"


def device_endpoint() -> str:
    return f"https://{_dialled(settings.DPS_DEVICE_BIND)}"


def service_host(service: ProvisioningService) -> str | None:
    """`host` or `host:port`, as a connection string names it. None where no host name leads to this service alone."""
    host, port = host_and_port(settings.DPS_DEVICE_BIND)
    if service.host_name:
        host = service.host_name
    elif ProvisioningService.objects.count() > 1:
        return None
    name = f"[{host}]" if ":" in host else host
    return name if port == HTTPS_PORT else f"{name}:{port}"


def service_endpoint(service: ProvisioningService) -> str | None:
    host = service_host(service)
    return f"https://{host}" if host else None


def ca_file() -> Path | None:
    """The CA that clients must trust. None where DPS_TLS_CERT is set: its CA is the operator's own."""
    if settings.DPS_TLS_CERT:
        return None
    return Path(settings.DPS_DATA_DIR) / "tls" / "ca.pem"


def _dialled(bind: str) -> str:
    host, port = host_and_port(bind)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
