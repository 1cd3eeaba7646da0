"""Registration IDs and group IDs: their form, and how they compare (R2)."""

import re

# Contract 2.1. ASCII is spelled out: `\w` and `[a-z]` with IGNORECASE would let non-ASCII letters in.
_BARE = r"[A-Za-z0-9\-._:]{0,127}[A-Za-z0-9\-]"
_FORM = re.compile(rf"{_BARE}\Z")
PATTERN = f"^{_BARE}$"
"""The same for those who read schemas, where `$` is the end of the text and of nothing else."""
_TO_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}

FORM_IN_WORDS = (
    "1 to 128 ASCII letters, digits and the characters - . _ : with a letter, a digit or a hyphen at the end"
)


def is_registration_id(text: str) -> bool:
    return _FORM.match(text) is not None


def registration_key(text: str) -> str:
    """The form in which registration IDs are compared: ASCII lower case, nothing else folded.

    `str.lower` and `str.casefold` would make other letters equal to ASCII ones (the Kelvin sign, for one); where there
    are no others, `str.lower` is the same, and ten times as fast.
    """
    return text.lower() if text.isascii() else text.translate(_TO_LOWER)


def same_registration_id(one: str, other: str) -> bool:
    return registration_key(one) == registration_key(other)
