"""gunicorn's settings for the portal listener: plain HTTP, pages for people."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpsportal.settings")
os.environ["DPS_LISTENER"] = "portal"

from django.conf import settings  # after the two variables that the settings read

from dpsportal.serving.gunicorn_common import listener_settings
from dpsportal.serving.limits import PORTAL_LIMITS
from dpsportal.serving.refusals import for_people

bind = settings.DPS_PORTAL_BIND
proc_name = "dpsportal-portal"
globals().update(listener_settings(PORTAL_LIMITS, for_people))
