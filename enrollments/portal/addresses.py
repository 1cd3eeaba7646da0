"""Where devices and back ends reach this installation, as told on pages."""

from django.conf import settings
from django.http import HttpRequest

from enrollments.models import ProvisioningService

HTTPS_PORT = "443"
_EVERY_INTERFACE = frozenset({"0.0.0.0", "[::]", "::", "*"})  # noqa: S104  # compared with, not bound to


def device_endpoint(request: HttpRequest) -> str:
    """Where devices call. A listener on every interface is reached by the name that led to this page."""
    host, port = _listener(request)
    return f"https://{host}:{port}"


def service_host(service: ProvisioningService, request: HttpRequest) -> str:
    """`host` or `host:port`, as a connection string names it; empty where no host name leads to this service alone."""
    host, port = _listener(request)
    if service.host_name:
        host = service.host_name
    elif ProvisioningService.objects.count() > 1:
        return ""
    return host if port == HTTPS_PORT else f"{host}:{port}"


def _listener(request: HttpRequest) -> tuple[str, str]:
    host, _, port = settings.DPS_DEVICE_BIND.rpartition(":")
    if host in _EVERY_INTERFACE:
        named = request.get_host()
        host = named if named.endswith("]") else named.rsplit(":", 1)[0]
    return host, port
