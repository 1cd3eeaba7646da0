"""gunicorn's settings for the proxied listener: plain HTTP from a proxy that terminates TLS, for devices."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpsportal.settings")
os.environ["DPS_LISTENER"] = "device"

from django.conf import settings  # after the two variables that the settings read

from dpsportal.env import refuse
from dpsportal.serving.gunicorn_common import listener_settings
from dpsportal.serving.limits import PROXIED_LIMITS
from dpsportal.serving.refusals import for_devices

if not settings.DPS_TRUSTED_PROXIES:
    refuse("DPS_TRUSTED_PROXIES", "is empty: DPS_PROXIED_BIND serves only the proxies that it names")

bind = settings.DPS_PROXIED_BIND
proc_name = "dpsportal-proxied"
globals().update(listener_settings(PROXIED_LIMITS, for_devices))
