"""Back in time: who could have registered then, and through which entry, worked out from the history."""

from enrollments.actions.past.causes import Cause
from enrollments.actions.past.comparison import Comparison
from enrollments.actions.past.device import ALL_OF_DEVICE, Limits, look_back
from enrollments.actions.past.fleet import ALL_OF_FLEET, FleetLimits, compare
from enrollments.actions.past.shut_outs import ShutOuts, what_shut_out
from enrollments.actions.past.spells import LookBack, ShutOut, Spell
from enrollments.actions.past.walking import TooMuch

__all__ = [
    "ALL_OF_DEVICE",
    "ALL_OF_FLEET",
    "Cause",
    "Comparison",
    "FleetLimits",
    "Limits",
    "LookBack",
    "ShutOut",
    "ShutOuts",
    "Spell",
    "TooMuch",
    "compare",
    "look_back",
    "what_shut_out",
]
