"""Previews of what a switch does at a time to come: in dialogs, and by an address that can be handed on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from django.http import QueryDict
from django.utils.dateparse import parse_datetime

from enrollments.actions.preview import Act, Coming, Entry, Limits, Preview, ToCome, preview_then
from enrollments.actions.preview.words import from_when
from enrollments.actions.schedule import as_text
from enrollments.errors import Invalid
from enrollments.models import ProvisioningService

_TIMES = ("at", "until")


@dataclass(frozen=True, slots=True)
class Then:
    """An act on entries at a time, until a time, or, with neither, what is scheduled for their switches."""

    at: datetime | None = None
    until: datetime | None = None

    @classmethod
    def named(cls, query: QueryDict) -> "Then | None":
        """What an address says; None where it is about now. Raises Invalid."""
        given = {name: _read(query.get(name, "")) for name in _TIMES if name in query}
        if not given and "scheduled" not in query:
            return None
        if len(given) > 1:
            raise Invalid({"": ["A preview is of one time: leave out `at` or `until`."]})
        return cls(**given)

    @property
    def query(self) -> list[tuple[str, str]]:
        for name in _TIMES:
            moment: datetime | None = getattr(self, name)
            if moment is not None:
                return [(name, _written(moment))]
        return [("scheduled", "1")]

    @property
    def as_text(self) -> str:
        """To tell one time from another."""
        return urlencode(self.query)

    @property
    def is_what_is_scheduled(self) -> bool:
        return self.at is None and self.until is None

    def words(self, act: Act, entries: Sequence[Entry]) -> str:
        """When that is, and what turns switches then, as the beginning of a sentence about the devices."""
        moment = self.at or self.until or entries[0].switches_at
        on = act is Act.ENABLE if self.until is None else act is Act.DISABLE
        if self.is_what_is_scheduled:
            on = not entries[0].enabled
        they_are = "it is" if len(entries) == 1 else "they are"
        turned = f"{'enabled' if on else 'disabled'}{' again' if self.until is not None else ''}"
        return f"At {in_utc(moment)}, when {they_are} {turned}, with whatever else is scheduled until then:"

    def preview(
        self, service: ProvisioningService, act: Act, entries: Sequence[Entry], limits: Limits | None = None
    ) -> Preview:
        """Raises Invalid, Conflict. limits: see preview_of."""
        return preview_then(service, act, entries, at=self.at, until=self.until, limits=limits)


# Of times to come that were not looked at one by one.
_OTHER = "other"


@dataclass(frozen=True, slots=True)
class Later:
    """Those who come in by a change from a time on, or stay in: what a question tells of them, by its address.

    All as of Coming.
    """

    at: datetime | None
    stays: bool
    is_first: bool = True

    @classmethod
    def of(cls, coming: Coming) -> "Later":
        return cls(coming.at, coming.stays, coming.is_first)

    @classmethod
    def named(cls, query: QueryDict) -> "Later | None":
        """What an address says; None where it is about now. Raises Invalid."""
        text = query.get("later", "")
        if not text:
            return None
        at = None if text == _OTHER else _read(text)
        return cls(at, "stays" in query, "or_earlier" not in query)

    @property
    def query(self) -> list[tuple[str, str]]:
        said = [("later", _written(self.at) if self.at is not None else _OTHER)]
        said += [("stays", "1")] if self.stays else []
        return said if self.is_first else [*said, ("or_earlier", "1")]

    @property
    def words(self) -> str:
        return from_when(Coming(self.at, Preview(0, ()), self.is_first, self.stays))

    @property
    def all_of_them(self) -> str:
        """What leads to the list of them."""
        when = f"from {in_utc(self.at)} on" if self.at is not None else "at other times"
        return f"All devices that {'stay' if self.stays else 'come'} in {when}"

    @property
    def sides(self) -> tuple[str, str]:
        """What the two columns of a list are of."""
        return ("Then without it", "Then with it") if self.stays else ("Before then", "From then on")

    def preview(self, coming: ToCome) -> Preview:
        """Of these devices; of none, where nobody comes in then any more."""
        for one in coming.comings:
            if (one.at, one.stays) == (self.at, self.stays):
                return one.preview
        return Preview(coming.now.epoch, ())


def in_utc(at: datetime | None) -> str:
    return as_text(at) if at is not None else ""


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(text: str) -> datetime:
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Invalid({"": ["The time of a preview is one such as 2026-05-03T14:00:00Z."]})
    return moment
