"""Times in commands that set switches: the options, and what such an act does, at its time or besides at its end."""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from enrollments.actions.preview import NO_LIMITS, Act, Entry, Preview, preview_of_act, preview_then
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.words import as_json, in_lines
from enrollments.actions.schedule import as_text, may_let_in_later
from enrollments.management.command import moment
from enrollments.models import ProvisioningService

# What stands before a line of a list.
MARK = "- "


@dataclass(frozen=True, slots=True)
class Times:
    """`until`: when what is done ends by itself. `at`: when it is done, of disabling alone. At most one of them."""

    until: datetime | None = None
    at: datetime | None = None

    def __bool__(self) -> bool:
        return self.until is not None or self.at is not None

    @property
    def given(self) -> dict[str, datetime]:
        """As actions take them."""
        return {name: at for name, at in (("until", self.until), ("at", self.at)) if at is not None}

    def as_json(self) -> dict[str, str]:
        return {name: at.isoformat() for name, at in self.given.items()}

    def may_widen(self, entries: Sequence[Entry]) -> bool:
        """Whether somebody may come in by disabling these for such a time: what is off ends, an end is put off."""
        return any(may_let_in_later(one, **self.given) for one in entries)


def add_times(parser: ArgumentParser, *acts: Act) -> None:
    """`--until`, and `--at` where one of the acts is disabling."""
    when = parser.add_mutually_exclusive_group()
    back = {Act.DISABLE: "Enable", Act.ENABLE: "Disable"}
    again = " or ".join(back[act] if not place else back[act].lower() for place, act in enumerate(acts))
    when.add_argument(
        "--until",
        type=moment,
        metavar="TIME",
        help=f"{again} them again at this time, such as 2026-05-03T14:00Z; without a zone it is UTC. Nothing has to be "
        "running then.",
    )
    if Act.DISABLE in acts:
        when.add_argument(
            "--at", type=moment, metavar="TIME", help="Disable them at this time, and not before."
        )


@dataclass(frozen=True, slots=True)
class Foreseen:
    """`preview`: of what is done, at its time where it has one. `end`: of what changes back, if it is until a time."""

    preview: Preview
    times: Times
    end: Preview | None = None

    @property
    def parts(self) -> dict[str, Preview]:
        """By when they hold: what is done, and what changes back."""
        first = f"at {as_text(self.times.at)}" if self.times.at is not None else "from now on"
        if self.end is None or self.times.until is None:
            return {first: self.preview}
        return {first: self.preview, f"at {as_text(self.times.until)}": self.end}

    def in_lines(self, act: Act, entries: int, mark: str = "") -> list[str]:
        """As sentences, those about a time below a line that names it. `entries`: how many it is done to.

        mark: what stands before each that is below another line.
        """
        first = [f"{mark}{line}" for line in in_lines(self.preview)]
        if self.times.at is not None:
            return [f"At {as_text(self.times.at)}, with whatever else is scheduled until then:", *first]
        if self.end is None or self.times.until is None:
            return first
        again = f"{'it is' if entries == 1 else 'they are'} {'disabled' if act is Act.ENABLE else 'enabled'} again"
        return [
            "From now on:",
            *first,
            f"At {as_text(self.times.until)}, when {again}, with whatever else is scheduled until then:",
            *(f"{mark}{line}" for line in in_lines(self.end)),
        ]

    def as_json(self) -> dict[str, Any]:
        """`preview` is of `at` where that is there, else of now; `at_the_end` is of `until`."""
        end = {"at_the_end": as_json(self.end)} if self.end is not None else {}
        return {"preview": as_json(self.preview), **self.times.as_json(), **end}


def foresee(
    service: ProvisioningService,
    act: Act,
    entries: Sequence[Entry],
    times: Times,
    limits: Limits | None = NO_LIMITS,
) -> Foreseen:
    """Raises Invalid, Conflict, SecretUnreadable. limits: see preview_of."""
    if times.at is not None:
        return Foreseen(preview_then(service, act, entries, at=times.at, limits=limits), times)
    end = None
    if times.until is not None:
        end = preview_then(service, act, entries, until=times.until, limits=limits)
    return Foreseen(preview_of_act(service, act, entries, limits=limits), times, end)
