"""What a change would do to the devices that are known, before it is made: the change is rehearsed and taken back."""

from enrollments.actions.preview.effects import Device, Effect, Preview
from enrollments.actions.preview.rehearsing import preview_of

__all__ = ["Device", "Effect", "Preview", "preview_of"]
