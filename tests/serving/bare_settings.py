"""The project's settings with an application that only says who it is: enough to start the real listeners."""

from dpsportal.settings import *  # noqa: F403  # whatever the listeners read

INSTALLED_APPS: list[str] = []
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "tests.serving.bare_urls"
