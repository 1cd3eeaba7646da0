"""The WSGI application behind the metrics listener."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpsportal.settings")
os.environ["DPS_LISTENER"] = "metrics"

from django.core.wsgi import get_wsgi_application  # after the two variables that the settings read

from dpsportal.serving.environment import ListenerEnvironment

application = ListenerEnvironment(get_wsgi_application(), listener="metrics", trusted_proxies=())
