"""The product's settings, its database among them, with nothing in between but the line per request."""

from dpsportal.settings import *  # noqa: F403  # all that is not said otherwise here

INSTALLED_APPS = ["benchmarks.ceiling"]
ROOT_URLCONF = "benchmarks.ceiling.urls"
MIDDLEWARE = ["dpsportal.request_log.RequestLogMiddleware"]
