"""How much a preview looks at: what there is time for while somebody waits for a dialog, or all that there is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from django.conf import settings

from enrollments.models.locks import if_nobody_else

# Classes of evidence that are looked at, those of most devices first: each costs a search for paths, twice.
MAX_CLASSES = 300
# Devices that share with nobody what lies above them: as many as there is time for.
MAX_SINGLY = 300
SECONDS_SINGLY = 1.0
# The latest attempts, among which devices without a record are looked for.
MAX_ATTEMPTS = 50_000


@dataclass(frozen=True, slots=True)
class Limits:
    """None: as much as there is."""

    classes: int | None = None
    singly: int | None = None
    seconds: float | None = None
    attempts: int | None = None

    def deadline(self) -> float:
        """On the clock of `monotonic`."""
        return float("inf") if self.seconds is None else monotonic() + self.seconds


NO_LIMITS = Limits()


def at_a_glance() -> Limits:
    return Limits(MAX_CLASSES, MAX_SINGLY, SECONDS_SINGLY, MAX_ATTEMPTS)


@contextmanager
def turn_to_examine_all() -> Iterator[bool]:
    """Whether it is ours. They are examined for one at a time: on SQLite others who write wait for each rehearsal."""
    with if_nobody_else(Path(settings.DPS_DATA_DIR) / "examining-all") as has_turn:
        yield has_turn
