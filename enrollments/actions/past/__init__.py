"""Back in time: who could have registered then, and through which entry, worked out from the history."""

from enrollments.actions.past.device import Cause, Limits, LookBack, Spell, look_back
from enrollments.actions.past.fleet import Comparison, FleetLimits, compare

__all__ = ["Cause", "Comparison", "FleetLimits", "Limits", "LookBack", "Spell", "compare", "look_back"]
