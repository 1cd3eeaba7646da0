"""`manage.py preview`: what enabling, disabling or deleting entries would do to the devices that are known."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from enrollments.actions.preview import (
    NO_NAMES,
    Act,
    BelowAnother,
    Entry,
    Preview,
    below_others,
    names_left_open,
    preview_of_act,
    ref_of,
)
from enrollments.actions.preview.table import csv_text, in_order
from enrollments.actions.preview.words import as_json, in_line, in_lines
from enrollments.errors import NotFound
from enrollments.management.command import DpsCommand, add_service_option, called_wrongly, service_named
from enrollments.models import EnrollmentGroup, ProvisioningService
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
        told = preview_of_act(found, Act(act), entries)
        below = _below(found, Act(act), entries)
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
                    "below": [_below_as_json(one) for one in below],
                    "left_open": {
                        "registration_ids": list(left_open.names),
                        "through": [str(ref) for ref in left_open.groups],
                    },
                }
            )
            return
        named = ", ".join(str(ref_of(one)) for one in entries)
        self.stdout.write(f"If you {act} {named} of {found}:")
        for line in [
            *in_lines(told),
            *_below_in_lines(Act(act), below),
            *([in_line(left_open)] if left_open else []),
        ]:
            self.stdout.write(f"- {line}")
        self.stdout.write("Nothing was changed.")


def entry_named(service: ProvisioningService, kind: str, name: str) -> Entry:
    """Raises NotFound."""
    key = registration_key(name)
    found: Entry | None
    if kind == "group":
        found = service.enrollmentgroups.without_secrets().filter(group_key=key).first()
    else:
        found = service.individualenrollments.without_secrets().filter(registration_key=key).first()
    if found is None:
        what = "enrollment group" if kind == "group" else "individual enrollment"
        raise NotFound(f"There is no {what} {name[:130]} in {service}.")
    return found


def _below(service: ProvisioningService, act: Act, entries: Sequence[Entry]) -> list[BelowAnother]:
    groups = [one for one in entries if isinstance(one, EnrollmentGroup)]
    return below_others(service, groups, [ref_of(one) for one in entries] if act is Act.DELETE else ())


def _below_as_json(one: BelowAnother) -> dict[str, Any]:
    return {
        "group": one.group.name,
        "through": [str(ref) for ref in one.through],
        "barred_by": [str(ref) for ref in one.barred_by],
        "uncertain": one.uncertain,
    }


def _below_in_lines(act: Act, below: list[BelowAnother]) -> list[str]:
    if act is Act.DISABLE:
        return []
    lines = []
    for one in below:
        if one.uncertain:
            lines.append(f"The certificates above {one.group.name} form too many chains to follow.")
        elif one.barred_by:
            lines.append(
                f"Devices below {one.group.name} stay barred by {', '.join(map(str, one.barred_by))}."
            )
        elif one.through and act is Act.DELETE:
            lines.append(
                f"Devices below {one.group.name} can enroll through {', '.join(map(str, one.through))}, those "
                "included that have not registered yet. Only a disabled entry keeps them out."
            )
    return lines


def _write(path: Path, told: Preview) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(csv_text(in_order(told)))
    except OSError as problem:
        called_wrongly(f"{path} cannot be written: {problem.strerror or problem}")
