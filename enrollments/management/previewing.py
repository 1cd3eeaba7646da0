"""What acts on entries do, as commands say it: of the devices that are known, and of those that nobody knows yet."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from enrollments.actions.preview import Act, BelowAnother, Entry, OpenNames, below_others, ref_of
from enrollments.actions.schedule import as_text
from enrollments.errors import NotFound
from enrollments.models import EnrollmentGroup, ProvisioningService
from enrollments.policy.names import registration_key


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


def below(
    service: ProvisioningService, act: Act, entries: Sequence[Entry], *, at: datetime | None = None
) -> list[BelowAnother]:
    groups = [one for one in entries if isinstance(one, EnrollmentGroup)]
    return below_others(service, groups, [ref_of(one) for one in entries] if act is Act.DELETE else (), at=at)


def below_as_json(one: BelowAnother) -> dict[str, Any]:
    return {
        "group": one.group.name,
        "through": [str(ref) for ref in one.through],
        "barred_by": [str(ref) for ref in one.barred_by],
        "uncertain": one.uncertain,
        "until": one.until.isoformat() if one.until is not None else None,
        "through_then": [str(ref) for ref in one.through_then],
    }


def left_open_as_json(names: OpenNames) -> dict[str, Any]:
    return {"registration_ids": list(names.names), "through": [str(ref) for ref in names.groups]}


def below_in_lines(act: Act, below: list[BelowAnother]) -> list[str]:
    if act is Act.DISABLE:
        return []
    lines = []
    for one in below:
        if one.uncertain:
            lines.append(f"The certificates above {one.group.name} form too many chains to follow.")
        elif one.barred_by:
            until = f" until {as_text(one.until)}" if one.until is not None else ""
            lines.append(
                f"Devices below {one.group.name} stay barred by {', '.join(map(str, one.barred_by))}{until}."
            )
            if one.through_then and act is Act.DELETE:
                lines.append(
                    f"Then they can register through {', '.join(map(str, one.through_then))}, those included that have "
                    "not registered yet. Only a disabled entry keeps them out."
                )
        elif one.through and act is Act.DELETE:
            lines.append(
                f"Devices below {one.group.name} can register through {', '.join(map(str, one.through))}, those "
                "included that have not registered yet. Only a disabled entry keeps them out."
            )
    return lines
