"""What a change would do to the devices that are known, before it is made: the change is rehearsed and taken back."""

from enrollments.actions.preview.acts import (
    CANNOT_BE_TOLD,
    Act,
    cancel,
    carry_out,
    preview_of_act,
    ref_of,
    turn,
    what_adding_did,
    what_changing_did,
    what_disabling_did,
)
from enrollments.actions.preview.below import BelowAnother, below_others, disabled_groups_above
from enrollments.actions.preview.effects import Device, Effect, Outcome, Preview
from enrollments.actions.preview.limits import NO_LIMITS, Limits
from enrollments.actions.preview.open_names import NO_NAMES, OpenNames, names_left_open
from enrollments.actions.preview.rehearsing import preview_of
from enrollments.actions.preview.settings import preview_of_switching, what_switching_did
from enrollments.actions.preview.times import (
    preview_of_disabling_at,
    preview_of_end,
    preview_then,
    those_put_off,
)
from enrollments.actions.preview.to_come import (
    Coming,
    ToCome,
    bars_to_come,
    coming_by,
    kept_shut,
    preview_to_come,
)
from enrollments.actions.preview.touched import Entry

__all__ = [
    "CANNOT_BE_TOLD",
    "NO_LIMITS",
    "NO_NAMES",
    "Act",
    "BelowAnother",
    "Coming",
    "Device",
    "Effect",
    "Entry",
    "Limits",
    "OpenNames",
    "Outcome",
    "Preview",
    "ToCome",
    "bars_to_come",
    "below_others",
    "cancel",
    "carry_out",
    "coming_by",
    "disabled_groups_above",
    "kept_shut",
    "names_left_open",
    "preview_of",
    "preview_of_act",
    "preview_of_disabling_at",
    "preview_of_end",
    "preview_of_switching",
    "preview_then",
    "preview_to_come",
    "ref_of",
    "those_put_off",
    "turn",
    "what_adding_did",
    "what_changing_did",
    "what_disabling_did",
    "what_switching_did",
]
