"""In how many random worlds a property is tried: some of them with each change, all of them by `make test-thorough`."""

import os

_ON_POSTGRESQL = os.environ.get("DATABASE_URL", "").startswith("postgres")


def _share() -> int:
    """Each world is one test, and most of them take seconds: all together would be most of the suite."""
    if os.environ.get("DPS_THOROUGH"):
        return 1
    return 8 if _ON_POSTGRESQL else 4


def seeds(first: int, end: int, *, least: int = 2) -> range:
    """The seeds from `first` on, up to `end`: a share of them, always the same, on PostgreSQL a smaller one."""
    return range(first, min(end, first + max(least, -(-(end - first) // _share()))))
