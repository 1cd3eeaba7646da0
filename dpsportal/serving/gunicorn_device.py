"""gunicorn's settings for the device listener: TLS, and what devices call."""

import os
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpsportal.settings")
os.environ["DPS_LISTENER"] = "device"

from django.conf import settings  # after the two variables that the settings read

from dpsportal.env import refuse
from dpsportal.serving.gunicorn_common import listener_settings
from dpsportal.serving.limits import DEVICE_LIMITS
from dpsportal.serving.refusals import for_devices
from dpsportal.serving.server_certificate import ensure_server_certificate
from dpsportal.serving.tls import UnusableCertificate, server_context


def _certificate_and_key() -> tuple[Path, Path]:
    certificate, key = settings.DPS_TLS_CERT, settings.DPS_TLS_KEY
    if certificate and key:
        try:
            server_context(certificate, key)
        except UnusableCertificate as error:
            refuse("DPS_TLS_CERT", f"cannot be used: {error}")
        return certificate, key
    if certificate or key:
        missing = "DPS_TLS_KEY" if certificate else "DPS_TLS_CERT"
        refuse(missing, "is missing: a server certificate and its key are given together")
    return ensure_server_certificate(settings.DPS_DATA_DIR)


bind = settings.DPS_DEVICE_BIND
proc_name = "dpsportal-device"
certfile, keyfile = map(str, _certificate_and_key())
globals().update(listener_settings(DEVICE_LIMITS, for_devices))
