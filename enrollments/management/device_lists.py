"""The devices of a dry run, each by its name: a table, JSON, or a file for spreadsheets; alike in every command."""

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from enrollments.actions.preview import Device, Preview
from enrollments.actions.preview.table import csv_of_parts, csv_text, in_order, values
from enrollments.errors import SecretUnreadable
from enrollments.management.command import called_wrongly
from enrollments.management.exported_files import write_exported
from enrollments.management.tables import Column, as_table
from enrollments.models import ProvisioningService

# Previews by what they are of: of one alone, nobody has to be told that.
Parts = Mapping[str, Preview]
# With what the name of a part begins that is about what was scheduled and is put off.
PUT_OFF = "put off from"
# The same of those who come in later, or stay in: of each the two sides are then those of that time (see Coming).
LATER = "later: "
_COLUMNS = (
    Column("REGISTRATION ID", 40),
    Column("EFFECT", 14),
    Column("NOW", 80),
    Column("AFTERWARDS", 80),
)


def add_device_lists(parser: ArgumentParser, condition: str = "In a dry run") -> None:
    parser.add_argument(
        "--list", dest="listed", action="store_true", help=f"{condition}: every device by its name."
    )
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help=f"{condition}: write each device with what becomes of it to this file.",
    )


@dataclass(frozen=True, slots=True)
class DeviceLists:
    """What was asked for beside the numbers."""

    listed: bool = False
    csv: Path | None = None

    @classmethod
    def asked(cls, *, dry_run: bool, listed: bool, csv: Path | None) -> "DeviceLists":
        """Whoever asks for what only a dry run tells does not get the act."""
        if not dry_run and (listed or csv is not None):
            called_wrongly(
                f"{'--list' if listed else '--csv'} is of a dry run: add --dry-run, or leave it out."
            )
        return cls(listed, csv)

    def write(self, parts: Parts, change: str, service: ProvisioningService) -> None:
        """The file, if one is asked for, after a row of the history that says of which change these are the devices.

        Raises SecretUnreadable where nothing could be worked out.
        """
        if (self.listed or self.csv is not None) and not parts:
            raise SecretUnreadable
        if self.csv is not None:
            write_devices(self.csv, parts, change, service)

    def lines(self, parts: Parts) -> Iterator[str]:
        """The table, if it is asked for; one for each part."""
        for when, preview in parts.items() if self.listed else ():
            devices = in_order(preview)
            if devices and len(parts) > 1:
                yield f"{when[0].upper()}{when[1:]}:"
            if devices:
                yield from as_table(_COLUMNS, [map(_cells, devices)])

    def as_json(self, parts: Parts) -> dict[str, list[dict[str, str]]]:
        """Members for the answer to programs, if they are asked for: of what is done, and of what else `parts` has."""
        if not self.listed:
            return {}
        told: dict[str, list[dict[str, str]]] = {}
        for when, one in parts.items():
            rows = list(map(_device, in_order(one)))
            if when.startswith(LATER):
                said = {"when": when.removeprefix(LATER)}
                told.setdefault("devices_later", []).extend({**said, **row} for row in rows)
            else:
                told[_member(when, parts)] = rows
        return told


def _member(when: str, parts: Parts) -> str:
    """What is done comes first; see Foreseen.parts."""
    if when == next(iter(parts)):
        return "devices"
    return "devices_put_off" if when.startswith(PUT_OFF) else "devices_at_the_end"


def write_devices(path: Path, parts: Parts, change: str, service: ProvisioningService) -> None:
    """As CSV; of several parts each line says of which it is."""
    (first, *others) = parts.values()
    text = csv_of_parts(parts) if others else csv_text(in_order(first))
    write_exported(path, text, "preview as CSV", {"change": change}, service=service)


def _cells(one: Device) -> tuple[str, ...]:
    """What admits it otherwise stands in the last column: of most devices nothing does."""
    name, effect, now, afterwards, *otherwise = _device(one).values()
    return name, effect, now, "; otherwise ".join([afterwards, *otherwise])


def _device(one: Device) -> dict[str, str]:
    name, effect, now, now_by, then, then_by, held_through, otherwise = values(one)
    afterwards = f"{then} by {then_by}" if then_by else then
    return {
        "registration_id": name,
        "effect": effect,
        "now": f"{now} by {now_by}" if now_by else now,
        "afterwards": f"{afterwards}; its name is held through {held_through}"
        if held_through
        else afterwards,
        **({"otherwise": f"admitted by {otherwise}"} if otherwise else {}),
    }
