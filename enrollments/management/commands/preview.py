"""`manage.py preview`: what enabling, disabling or deleting entries would do to the devices that are known."""

from argparse import ArgumentParser
from datetime import datetime
from pathlib import Path
from typing import Any

from enrollments.actions.preview import NO_NAMES, Act, bars_to_come, names_left_open, ref_of
from enrollments.actions.preview.words import as_json, bars_as_json, bars_in_lines, in_line
from enrollments.management.command import DpsCommand, add_service_option, called_wrongly, service_named
from enrollments.management.device_lists import DeviceLists, add_device_lists
from enrollments.management.dialogue import list_of
from enrollments.management.previewing import (
    below,
    below_as_json,
    below_in_lines,
    entry_named,
    left_open_as_json,
)
from enrollments.management.timed import MARK, Times, add_times, foresee
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
        add_times(parser, Act.DISABLE, Act.ENABLE)
        add_device_lists(parser, "Beside the numbers")

    def act(
        self,
        *,
        act: str,
        kind: str,
        ids: list[str],
        service: str,
        json: bool,
        listed: bool,
        csv: Path | None,
        until: datetime | None,
        at: datetime | None,
        for_good: bool,
        **_: Any,
    ) -> None:
        times = Times(until, at, for_good)
        if for_good and Act(act) is not Act.ENABLE:
            called_wrongly("--for-good is about enabling.")
        if times and Act(act) is Act.DELETE:
            called_wrongly("What is deleted is deleted at once, and for good: give no time.")
        if at is not None and Act(act) is Act.ENABLE:
            called_wrongly("Nothing is enabled at a time to come: give --until, or no time.")
        found = service_named(service)
        entries = [entry_named(found, kind, name) for name in dict.fromkeys(map(registration_key, ids))]
        foreseen = foresee(found, Act(act), entries, times)
        told = foreseen.preview
        others = below(found, Act(act), entries, at=at)
        left_open = names_left_open(found, told, entries) if Act(act) is Act.DELETE else NO_NAMES
        dropped = bars_to_come(entries) if Act(act) is Act.DELETE else []
        lists = DeviceLists(listed, csv)
        refs = [str(ref_of(one)) for one in entries]
        lists.write(foreseen.parts, f"{act} {list_of(refs)}", found)
        if json:
            self.print_json(
                {
                    "service": found.name,
                    "act": act,
                    "entries": refs,
                    **as_json(told),
                    **{name: value for name, value in foreseen.as_json().items() if name != "preview"},
                    "below": [below_as_json(one) for one in others],
                    "left_open": left_open_as_json(left_open),
                    **bars_as_json(dropped),
                    **lists.as_json(foreseen.parts),
                }
            )
            return
        self.stdout.write(f"If you {act} {', '.join(refs)} of {found}:")
        more = [*below_in_lines(Act(act), others), *([in_line(left_open)] if left_open else [])]
        more += bars_in_lines(dropped)
        for line in [
            *foreseen.in_lines(Act(act), len(entries), MARK),
            *(f"{MARK}{line}" for line in more),
        ]:
            self.stdout.write(line)
        for line in lists.lines(foreseen.parts):
            self.stdout.write(line)
        self.stdout.write("Nothing was changed.")
