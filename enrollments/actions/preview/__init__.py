"""What a change would do to the devices that are known, before it is made: the change is rehearsed and taken back."""

from enrollments.actions.preview.acts import (
    Act,
    carry_out,
    preview_of_act,
    ref_of,
    what_adding_did,
    what_disabling_did,
)
from enrollments.actions.preview.below import BelowAnother, below_others, disabled_groups_above
from enrollments.actions.preview.effects import Device, Effect, Outcome, Preview
from enrollments.actions.preview.rehearsing import Entry, preview_of

__all__ = [
    "Act",
    "BelowAnother",
    "Device",
    "Effect",
    "Entry",
    "Outcome",
    "Preview",
    "below_others",
    "carry_out",
    "disabled_groups_above",
    "preview_of",
    "preview_of_act",
    "ref_of",
    "what_adding_did",
    "what_disabling_did",
]
