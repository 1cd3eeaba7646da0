"""`manage.py as_of`: who could have registered at a time that has passed, and through which entry."""

import csv as spreadsheet
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from enrollments.actions.past import ALL_OF_FLEET, Limits, compare, look_back
from enrollments.actions.past.words import (
    answer,
    cause_of,
    comparison_as_json,
    comparison_in_lines,
    in_between,
    left_out,
    look_as_json,
    moment,
    shut_out_otherwise,
    table,
    verdict_of,
)
from enrollments.actions.preview.table import Echo
from enrollments.management.command import DpsCommand, add_service_option, called_wrongly, service_named
from enrollments.management.exported_files import write_exported


def utc(text: str) -> datetime:
    """For `type=`: a time; without a zone it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError("give a time such as 2026-03-01T12:00:00Z") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


class Command(DpsCommand):
    help = (
        "Say who could have registered at a time that has passed, and through which entry, worked out from the "
        "history: for one device, with each spell in which it could until another time, or for all devices of a "
        "service, compared with another time. A change made at exactly that time counts as made. Nothing is changed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("time", type=utc, metavar="TIME", help="Such as 2026-03-01T12:00:00Z; UTC.")
        parser.add_argument("--until", type=utc, metavar="TIME", help="The other time. Without it, now.")
        parser.add_argument("--device", default="", metavar="ID", help="One registration ID.")
        add_service_option(parser)
        parser.add_argument(
            "--csv", type=Path, metavar="FILE", help="Write each device with what differs to a file."
        )

    def act(
        self,
        *,
        time: datetime,
        until: datetime | None,
        device: str,
        service: str,
        json: bool,
        csv: Path | None,
        **_: Any,
    ) -> None:
        found = service_named(service)
        if device:
            if csv is not None:
                called_wrongly("--csv writes all devices of a service: leave --device out.")
            look = look_back(found, device, time, until, limits=Limits(None, None, None))
            if json:
                self.print_json({"service": found.name, **look_as_json(look)})
                return
            self.stdout.write(answer(look))
            self.stdout.write(in_between(look))
            self.stdout.write(f"Judged by {look.basis}.")
            if look.has_more:
                self.stdout.write(left_out(look))
            for spell in look.spells:
                by = f" by {spell.entry}" if spell.entry else ""
                self.stdout.write(
                    f"- from {moment(spell.begins)} to {moment(spell.ends)}: {verdict_of(spell)}{by}, since: "
                    f"{cause_of(spell)}"
                )
            for sentence in shut_out_otherwise(look):
                self.stdout.write(sentence)
            return
        said = compare(found, time, until, limits=ALL_OF_FLEET)
        if csv is not None:
            text = map(spreadsheet.writer(Echo()).writerow, table(said))
            times = {"at": said.at.isoformat(), "until": said.until.isoformat()}
            write_exported(csv, text, "who could have registered, as CSV", times, service=found)
        if json:
            self.print_json({"service": found.name, **comparison_as_json(said)})
            return
        for line in comparison_in_lines(said):
            self.stdout.write(line)
