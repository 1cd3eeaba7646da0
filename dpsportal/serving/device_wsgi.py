"""The WSGI application behind the device listener: what devices call."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpsportal.settings")
os.environ["DPS_LISTENER"] = "device"

from django.conf import settings  # after the two variables that the settings read
from django.core.wsgi import get_wsgi_application

from dpsportal.serving.environment import ListenerEnvironment

application = ListenerEnvironment(
    get_wsgi_application(), listener="device", trusted_proxies=settings.DPS_TRUSTED_PROXIES
)
