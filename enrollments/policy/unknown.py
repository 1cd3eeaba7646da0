"""Values that another version wrote: while nodes are renewed one by one, an older one meets what a newer one keeps."""

from enum import Enum
from typing import TypeVar


class Unknown(str):
    """What is kept, as it is kept, where a member of an enumeration is asked for. It reads like one and equals none."""

    __slots__ = ()

    @property
    def value(self) -> str:
        return str(self)

    @property
    def in_words(self) -> str:
        return f"{self.value} (of a version that this one does not know)"

    @property
    def label(self) -> str:
        return self.in_words


E = TypeVar("E", bound=Enum)


def known(kind: type[E], value: str) -> E | Unknown:
    """The member with that value. For what is shown or told: nothing is ever admitted by an unknown value."""
    try:
        return kind(value)
    except ValueError:
        return Unknown(value)
