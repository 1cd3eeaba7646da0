"""How far a preview is, for whoever waits for it; and its chance to end early, since whoever is told may raise."""

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """What is counted at it: lines, devices or groups of them that are looked above, and devices."""

    READING = "reading"
    LOOKING = "looking"
    JUDGING = "judging"


Tell = Callable[[Step, int], None]


def tell_nobody(step: Step, done: int) -> None:
    pass
