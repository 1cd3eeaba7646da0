"""Times in commands that set switches: the options, and what such an act does, at its time or besides at its end."""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from enrollments.actions.preview import (
    NO_LIMITS,
    Act,
    Coming,
    Entry,
    Preview,
    ToCome,
    preview_of_act,
    preview_then,
    preview_to_come,
    those_put_off,
)
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.words import as_json, coming_as_json, coming_in_lines, from_when, in_lines
from enrollments.actions.schedule import as_text, may_let_in_later
from enrollments.management.command import moment
from enrollments.management.device_lists import LATER, PUT_OFF
from enrollments.models import ProvisioningService

# What stands before a line of a list.
MARK = "- "


@dataclass(frozen=True, slots=True)
class Times:
    """`until`: when what is done ends by itself. `at`: when it is done, of disabling alone. At most one of them.

    for_good: of enabling alone, a disabling that is scheduled is dropped.
    """

    until: datetime | None = None
    at: datetime | None = None
    for_good: bool = False

    def __bool__(self) -> bool:
        return self.until is not None or self.at is not None

    @property
    def given(self) -> dict[str, Any]:
        """As actions take them."""
        for_good = {"for_good": True} if self.for_good else {}
        return {**self._moments, **for_good}

    @property
    def _moments(self) -> dict[str, datetime]:
        return {name: at for name, at in (("until", self.until), ("at", self.at)) if at is not None}

    def as_json(self) -> dict[str, str]:
        return {name: at.isoformat() for name, at in self._moments.items()}

    def may_widen(self, entries: Sequence[Entry]) -> bool:
        """Whether somebody may come in by disabling these for such a time: what is off ends, an end is put off."""
        return any(may_let_in_later(one, **self._moments) for one in entries)


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
    if Act.ENABLE in acts:
        when.add_argument(
            "--for-good",
            action="store_true",
            help="Also drop what is scheduled for those that are enabled already, and are to be disabled at a time.",
        )


@dataclass(frozen=True, slots=True)
class Foreseen:
    """`preview`: of what is done, at its time where it has one. `end`: of what changes back, if it is until a time.

    put_off: of what is scheduled for those that are to be disabled, which is put off or dropped by it; `scheduled`: for
    which time that is. to_come: of what is done now, who comes in or stays in by it later.
    """

    preview: Preview
    times: Times
    end: Preview | None = None
    put_off: Preview | None = None
    scheduled: datetime | None = None
    to_come: ToCome | None = None

    @property
    def comings(self) -> tuple[Coming, ...]:
        return self.to_come.comings if self.to_come is not None else ()

    @property
    def parts(self) -> dict[str, Preview]:
        """By when they hold: what is done, what changes back, and who comes in or stays in later."""
        first = f"at {as_text(self.times.at)}" if self.times.at is not None else "from now on"
        parts = {first: self.preview}
        if self.put_off is not None and self.scheduled is not None:
            parts[f"{PUT_OFF} {as_text(self.scheduled)}"] = self.put_off
        if self.end is not None and self.times.until is not None:
            parts[f"at {as_text(self.times.until)}"] = self.end
        for one in self.comings:
            when = from_when(one)[:-1]
            parts[f"{LATER}{when[0].lower()}{when[1:]}"] = one.preview
        return parts

    def in_lines(self, act: Act, entries: int, mark: str = "") -> list[str]:
        """As sentences, those about a time below a line that names it. `entries`: how many it is done to.

        mark: what stands before each that is below another line.
        """
        first = [f"{mark}{line}" for line in in_lines(self.preview)]
        put_off = []
        if self.put_off is not None and self.scheduled is not None:
            goes = "dropped" if self.times.for_good else "put off"
            put_off = [
                f"What is scheduled for {as_text(self.scheduled)} would do this then, and is {goes}:",
                *(f"{mark}{line}" for line in in_lines(self.put_off)),
            ]
        if self.times.at is not None:
            at_that_time = f"At {as_text(self.times.at)}, with whatever else is scheduled until then:"
            return [at_that_time, *first, *put_off]
        if self.end is None or self.times.until is None:
            later = coming_in_lines(self.comings, mark)
            return ["From now on:", *first, *put_off, *later] if put_off or later else first
        again = f"{'it is' if entries == 1 else 'they are'} {'disabled' if act is Act.ENABLE else 'enabled'} again"
        return [
            "From now on:",
            *first,
            *put_off,
            *coming_in_lines(self.comings, mark),
            f"At {as_text(self.times.until)}, when {again}, with whatever else is scheduled until then:",
            *(f"{mark}{line}" for line in in_lines(self.end)),
        ]

    def as_json(self) -> dict[str, Any]:
        """`preview` is of `at` where that is there, else of now; `at_the_end` of `until`; `put_off` of `scheduled`.

        to_come: of each time at which somebody comes in later, or stays in by the act; None stands for several that
        were not looked at singly.
        """
        told: dict[str, Any] = {"preview": as_json(self.preview), **self.times.as_json()}
        if self.comings:
            told["to_come"] = coming_as_json(self.comings)
        if self.end is not None:
            told["at_the_end"] = as_json(self.end)
        if self.put_off is not None and self.scheduled is not None:
            told |= {"scheduled": self.scheduled.isoformat(), "put_off": as_json(self.put_off)}
        return told


def foresee(
    service: ProvisioningService,
    act: Act,
    entries: Sequence[Entry],
    times: Times,
    limits: Limits | None = NO_LIMITS,
) -> Foreseen:
    """Raises Invalid, Conflict, SecretUnreadable. limits: see preview_of."""
    later = those_put_off(act, entries, **times.given)
    scheduled = later[0].switches_at if later else None
    put_off = preview_then(service, act, later, limits=limits) if later else None
    if times.at is not None:
        preview = preview_then(service, act, entries, at=times.at, limits=limits)
        return Foreseen(preview, times, put_off=put_off, scheduled=scheduled)
    end = None
    if times.until is not None:
        end = preview_then(service, act, entries, until=times.until, limits=limits)
    preview = preview_of_act(service, act, entries, limits=limits)
    coming = preview_to_come(service, act, entries, preview, limits=limits)
    return Foreseen(coming.now, times, end, put_off, scheduled, coming)
