"""gunicorn's settings for the metrics listener: plain HTTP, for a Prometheus server on a network of one's own."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpsportal.settings")
os.environ["DPS_LISTENER"] = "metrics"

from django.conf import settings  # after the two variables that the settings read

from dpsportal.serving.gunicorn_common import listener_settings
from dpsportal.serving.limits import METRICS_LIMITS
from dpsportal.serving.refusals import as_text

bind = settings.DPS_METRICS_BIND
proc_name = "dpsportal-metrics"
globals().update({**listener_settings(METRICS_LIMITS, as_text), "workers": 1, "threads": 2})
