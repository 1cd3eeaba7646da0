"""`manage.py preview`: what enabling, disabling or deleting entries would do to the devices that are known."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from enrollments.actions.preview import (
    NO_LIMITS,
    NO_NAMES,
    Act,
    Preview,
    names_left_open,
    preview_of_act,
    ref_of,
)
from enrollments.actions.preview.table import csv_text, in_order
from enrollments.actions.preview.words import as_json, in_line, in_lines
from enrollments.management.command import DpsCommand, add_service_option, called_wrongly, service_named
from enrollments.management.previewing import (
    below,
    below_as_json,
    below_in_lines,
    entry_named,
    left_open_as_json,
)
from enrollments.policy.names import registration_key


class Command(DpsCommand):
    help = (
        "Say what enabling, disabling or deleting entries would do to the devices that are known: who is refused, "
        "who is still admitted and through which entry, who comes in. Nothing is changed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("act", choices=[act.value for act in Act])
        parser.add_argument("kind", choices=("individual", "group"))
        parser.add_argument(
            "ids", metavar="ID", nargs="+", help="Registration IDs, or IDs of enrollment groups."
        )
        add_service_option(parser)
        parser.add_argument(
            "--csv", type=Path, metavar="FILE", help="Write each device with what becomes of it to a file."
        )

    def act(
        self, *, act: str, kind: str, ids: list[str], service: str, json: bool, csv: Path | None, **_: Any
    ) -> None:
        found = service_named(service)
        entries = [entry_named(found, kind, name) for name in dict.fromkeys(map(registration_key, ids))]
        told = preview_of_act(found, Act(act), entries, limits=NO_LIMITS)
        others = below(found, Act(act), entries)
        left_open = names_left_open(found, told, entries) if Act(act) is Act.DELETE else NO_NAMES
        if csv is not None:
            _write(csv, told)
        if json:
            self.print_json(
                {
                    "service": found.name,
                    "act": act,
                    "entries": [str(ref_of(one)) for one in entries],
                    **as_json(told),
                    "below": [below_as_json(one) for one in others],
                    "left_open": left_open_as_json(left_open),
                }
            )
            return
        named = ", ".join(str(ref_of(one)) for one in entries)
        self.stdout.write(f"If you {act} {named} of {found}:")
        for line in [
            *in_lines(told),
            *below_in_lines(Act(act), others),
            *([in_line(left_open)] if left_open else []),
        ]:
            self.stdout.write(f"- {line}")
        self.stdout.write("Nothing was changed.")


def _write(path: Path, told: Preview) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(csv_text(in_order(told)))
    except OSError as problem:
        called_wrongly(f"{path} cannot be written: {problem.strerror or problem}")
