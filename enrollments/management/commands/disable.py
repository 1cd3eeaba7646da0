"""`manage.py disable`: break glass. Shuts a device or a group out with nothing but the database (R16)."""

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import EnrollmentNotFound, disable_enrollment
from enrollments.actions.revocation import deny_device
from enrollments.actions.schedule import as_text
from enrollments.errors import NotFound
from enrollments.management.command import (
    DpsCommand,
    add_service_option,
    called_wrongly,
    command_line_actor,
    moment,
    service_named,
)
from enrollments.models import EnrollmentGroup, IndividualEnrollment, ProvisioningService
from enrollments.policy.names import registration_key

Entry = IndividualEnrollment | EnrollmentGroup


class Command(DpsCommand):
    help = (
        "Shut a device or a group of devices out, at once or at a time. Needs the database and nothing else: no "
        "portal, no listener, no sign-in. Disabling what is disabled already changes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("kind", choices=("individual", "group"))
        parser.add_argument("id", metavar="ID", help="A registration ID, or the ID of an enrollment group.")
        add_service_option(parser)
        parser.add_argument("--reason", required=True, help="Why; kept in the history.")
        parser.add_argument(
            "--deny",
            action="store_true",
            help="For a device without an individual enrollment, such as one that came in through a group: "
            "add a disabled one, which shuts this device out and no other.",
        )
        when = parser.add_mutually_exclusive_group()
        when.add_argument(
            "--until",
            type=moment,
            metavar="TIME",
            help="Enable it again at this time, such as 2026-05-03T14:00Z; without a zone it is UTC. Nothing has to be "
            "running then.",
        )
        when.add_argument(
            "--at", type=moment, metavar="TIME", help="Disable it at this time, and not before."
        )

    def act(
        self,
        *,
        kind: str,
        id: str,
        service: str,
        reason: str,
        deny: bool,
        until: datetime | None,
        at: datetime | None,
        json: bool,
        **_: Any,
    ) -> None:
        if kind == "group" and deny:
            called_wrongly("--deny is for single devices: a group that is to be shut out is disabled.")
        if deny and (until or at):
            called_wrongly(
                "--deny is for good: the entry that it adds would admit the device once its time is over, whatever "
                "becomes of the group."
            )
        found = service_named(service)
        before = _entry(found, kind, id)
        if kind == "group":
            after: Entry = disable_enrollment_group(
                found, id, actor=command_line_actor(), reason=reason, until=until, at=at
            )
        else:
            after = _disable_device(found, id, reason=reason, deny=deny, until=until, at=at)
        # Each write gives an entry a new etag.
        changed = before is None or before.etag != after.etag
        if json:
            told = {"kind": kind, "id": str(after), "service": found.name, **_switch(after)}
            self.print_json({**told, "changed": changed})
            return
        name = f"{'Enrollment group' if kind == 'group' else 'Individual enrollment'} {after} of {found}"
        then = as_text(after.switches_at) if after.switches_at else ""
        if not changed:
            already = f"will be disabled at {then}" if after.enabled else "was disabled"
            self.stdout.write(f"{name} {already} already; nothing was changed.")
        elif after.enabled:
            self.stdout.write(f"{name} will be disabled at {then}. Until then it is enabled.")
        elif then:
            self.stdout.write(f"{name} is disabled from now on, until {then}.")
        elif before is None:
            self.stdout.write(f"{name} was added, disabled: the device is shut out from now on.")
        else:
            self.stdout.write(f"{name} is disabled from now on.")


def _switch(entry: Entry) -> dict[str, str]:
    state = {"status": entry.status.value}
    if entry.switches_at is not None:
        state["until"] = entry.switches_at.isoformat()
    return state


def _disable_device(
    service: ProvisioningService,
    registration_id: str,
    *,
    reason: str,
    deny: bool,
    until: datetime | None,
    at: datetime | None,
) -> IndividualEnrollment:
    actor = command_line_actor()
    if deny:
        return deny_device(service, registration_id, actor=actor, reason=reason)
    try:
        return disable_enrollment(service, registration_id, actor=actor, reason=reason, until=until, at=at)
    except EnrollmentNotFound as missing:
        raise NotFound(
            f"{missing.message} Nothing was changed. To shut out a device that has none, add --deny."
        ) from None


def _entry(service: ProvisioningService, kind: str, id: str) -> Entry | None:
    key = registration_key(id)
    if kind == "group":
        return service.enrollmentgroups.filter(group_key=key).first()
    return service.individualenrollments.filter(registration_key=key).first()
