"""The version of the project, where it is kept for packaging."""

import tomllib
from functools import cache

from django.conf import settings


@cache
def project_version() -> str:
    return str(tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]["version"])
