"""`manage.py disable`: break glass. Shuts a device, a group or a back end out with nothing but the database (R16)."""

from argparse import ArgumentParser
from typing import Any

from enrollments.actions.access_policies import disable_policy
from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import EnrollmentNotFound, disable_enrollment
from enrollments.actions.revocation import deny_device
from enrollments.errors import NotFound
from enrollments.management.command import (
    DpsCommand,
    add_service_option,
    called_wrongly,
    command_line_actor,
    service_named,
)
from enrollments.models import EnrollmentGroup, IndividualEnrollment, ProvisioningService
from enrollments.policy.names import registration_key

Entry = IndividualEnrollment | EnrollmentGroup


class Command(DpsCommand):
    help = (
        "Shut out, at once, a device, a group of devices, or the back ends that use an access policy. Needs the "
        "database and nothing else: no portal, no listener, no sign-in. Disabling what is disabled already changes "
        "nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("kind", choices=("individual", "group", "policy"))
        parser.add_argument(
            "id",
            metavar="ID",
            help="A registration ID, the ID of an enrollment group, or the name of an access policy.",
        )
        add_service_option(parser)
        parser.add_argument("--reason", required=True, help="Why; kept in the history.")
        parser.add_argument(
            "--deny",
            action="store_true",
            help="For a device without an individual enrollment, such as one that came in through a group: "
            "add a disabled one, which shuts this device out and no other.",
        )

    def act(self, *, kind: str, id: str, service: str, reason: str, deny: bool, json: bool, **_: Any) -> None:
        if kind != "individual" and deny:
            called_wrongly(f"--deny is for single devices: a {kind} that is to be shut out is disabled.")
        found = service_named(service)
        if kind == "policy":
            self._disable_policy(found, id, reason=reason, json=json)
            return
        before = _entry(found, kind, id)
        if kind == "group":
            after: Entry = disable_enrollment_group(found, id, actor=command_line_actor(), reason=reason)
        else:
            after = _disable_device(found, id, reason=reason, deny=deny)
        # Each write gives an entry a new etag.
        changed = before is None or before.etag != after.etag
        if json:
            told = {"kind": kind, "id": str(after), "service": found.name, "status": after.status.value}
            self.print_json({**told, "changed": changed})
            return
        name = f"{'Enrollment group' if kind == 'group' else 'Individual enrollment'} {after} of {found}"
        if not changed:
            self.stdout.write(f"{name} was disabled already; nothing was changed.")
        elif before is None:
            self.stdout.write(f"{name} was added, disabled: the device is shut out from now on.")
        else:
            self.stdout.write(f"{name} is disabled from now on.")

    def _disable_policy(self, service: ProvisioningService, name: str, *, reason: str, json: bool) -> None:
        policy, changed = disable_policy(service, name, actor=command_line_actor(), reason=reason)
        if json:
            told = {"kind": "policy", "id": policy.name, "service": service.name, "status": "disabled"}
            self.print_json({**told, "changed": changed})
        elif changed:
            self.stdout.write(
                f"Access policy {policy} of {service} is disabled: its keys open nothing from now on."
            )
        else:
            self.stdout.write(
                f"Access policy {policy} of {service} was disabled already; nothing was changed."
            )


def _disable_device(
    service: ProvisioningService, registration_id: str, *, reason: str, deny: bool
) -> IndividualEnrollment:
    shut_out = deny_device if deny else disable_enrollment
    try:
        return shut_out(service, registration_id, actor=command_line_actor(), reason=reason)
    except EnrollmentNotFound as missing:
        raise NotFound(
            f"{missing.message} Nothing was changed. To shut out a device that has none, add --deny."
        ) from None


def _entry(service: ProvisioningService, kind: str, id: str) -> Entry | None:
    key = registration_key(id)
    if kind == "group":
        return service.enrollmentgroups.filter(group_key=key).first()
    return service.individualenrollments.filter(registration_key=key).first()
