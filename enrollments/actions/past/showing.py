"""When a device showed each of its credentials, and which of them it showed last: what shuts that one out is told.

Attempts that are counted together are kept as the first and the last of them: in between it is not known when it came.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, Self, TypeVar

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Showings:
    """The first and last of attempts that are counted together. let_in: of those that were answered as assigned."""

    spans: tuple[Span, ...] = ()
    let_in: tuple[Span, ...] = ()

    @classmethod
    def at(cls, first: datetime, last: datetime, *, let_in: bool) -> Self:
        spans = ((first, last),)
        return cls(spans, spans if let_in else ())

    def __add__(self, other: "Showings") -> "Showings":
        return Showings((*self.spans, *other.spans), (*self.let_in, *other.let_in))

    def was_let_in_between(self, begins: datetime, ends: datetime) -> bool:
        return any(first <= ends and last >= begins for first, last in self.let_in)


NEVER_SHOWN = Showings()


class Shows(Protocol):
    """A credential, with when it was shown."""

    @property
    def showings(self) -> Showings: ...


T = TypeVar("T", bound=Shows)


def shown_by(credentials: Iterable[T], at: datetime) -> list[T]:
    """Those that it had shown by that time."""
    return [one for one in credentials if any(first <= at for first, _ in one.showings.spans)]


def shown_last(credentials: Sequence[T], at: datetime) -> list[T]:
    """What it had shown last by that time: several, where it is not known which of them that was.

    Also what it was let in with last: who comes under its name with something else, and is turned away, hides nothing.
    """
    shown = _last(credentials, at, [one.showings.spans for one in credentials])
    let_in = _last(credentials, at, [one.showings.let_in for one in credentials])
    return [*shown, *(one for one in let_in if not any(one is other for other in shown))]


def _last(credentials: Sequence[T], at: datetime, spans: Sequence[Iterable[Span]]) -> list[T]:
    known: list[tuple[T, datetime, datetime]] = []
    for one, some in zip(credentials, spans, strict=True):
        times = [(last, last) if last <= at else (first, at) for first, last in some if first <= at]
        if times:
            known.append((one, max(early for early, _ in times), max(late for _, late in times)))
    earliest = max((early for _, early, _ in known), default=at)
    return [one for one, _, late in known if late >= earliest]
