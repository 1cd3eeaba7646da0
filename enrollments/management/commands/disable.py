"""`manage.py disable`: break glass. Shuts a device, a group or a back end out with nothing but the database (R16)."""

from argparse import ArgumentParser
from datetime import datetime
from pathlib import Path
from typing import Any

from enrollments.actions.access_policies import disable_policy
from enrollments.actions.denying import bars_by_name_alone
from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.entries import EnrollmentGroupNotFound, EnrollmentNotFound
from enrollments.actions.known_credentials import proven_by_name
from enrollments.actions.preview import (
    NO_LIMITS,
    Act,
    Entry,
    Preview,
    preview_of,
    ref_of,
    what_adding_did,
    what_disabling_did,
)
from enrollments.actions.preview.words import as_json, did
from enrollments.actions.revocation import deny_device, unread_leaves
from enrollments.actions.schedule import as_text, may_let_in_later, settle_if_possible
from enrollments.errors import Conflict, NotFound
from enrollments.management.command import (
    DpsCommand,
    add_service_option,
    called_wrongly,
    command_line_actor,
    moment,
    service_named,
)
from enrollments.management.device_lists import DeviceLists, add_device_lists
from enrollments.management.timed import Foreseen, Times, foresee
from enrollments.models import IndividualEnrollment, ProvisioningService
from enrollments.policy.names import registration_key


class Command(DpsCommand):
    help = (
        "Shut out a device, a group of devices, or the back ends that use an access policy: at once, and the first two "
        "also at a time or until one. Needs the database and nothing else: no portal, no listener, no sign-in. "
        "Disabling what is disabled already changes nothing."
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
        parser.add_argument(
            "--reason", default="", help="Why; kept in the history. Needed, but for a dry run."
        )
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

        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Only say what would become of the devices that are known, at the time that is given if there is one. "
            "Nothing is changed.",
        )
        add_device_lists(parser)

    def act(
        self,
        *,
        kind: str,
        id: str,
        service: str,
        reason: str,
        deny: bool,
        dry_run: bool,
        until: datetime | None,
        at: datetime | None,
        listed: bool,
        csv: Path | None,
        json: bool,
        **_: Any,
    ) -> None:
        if kind != "individual" and deny:
            called_wrongly(f"--deny is for single devices: a {kind} that is to be shut out is disabled.")
        if kind == "policy" and dry_run:
            called_wrongly(
                "--dry-run tells what becomes of devices, and no device rests on an access policy."
            )
        if kind == "policy" and (until or at):
            called_wrongly("An access policy is disabled at once, until somebody enables it: give no time.")
        if deny and (until or at):
            called_wrongly(
                "--deny is for good: the entry that it adds would admit the device once its time is over, whatever "
                "becomes of the group."
            )
        if not reason and not dry_run:
            called_wrongly("Say why, with --reason: it is kept in the history.")
        lists = DeviceLists.asked(dry_run=dry_run, listed=listed, csv=csv)
        found = service_named(service)
        if kind == "policy":
            self._disable_policy(found, id, reason=reason, json=json)
            return
        if dry_run:
            self._say(found, kind, id, deny=deny, until=until, at=at, lists=lists, json=json)
            return
        settle_if_possible(found)  # what was due before is no part of this
        epoch = ProvisioningService.epoch_of(found.pk) if until or at else None
        before = _entry(found, kind, id)
        if before is not None and may_let_in_later(before, until=until, at=at):
            raise Conflict(
                f"{before} is disabled already, or turns by itself at another time, so somebody may come in by a time "
                f"that is set now: {'groups' if kind == 'group' else 'enrollments'} disable {before} shows who, and "
                "asks."
            )
        if kind == "group":
            after: Entry = disable_enrollment_group(
                found,
                id,
                actor=command_line_actor(),
                reason=reason,
                expected_epoch=epoch,
                until=until,
                at=at,
            )
        else:
            after = _disable_device(found, id, reason=reason, deny=deny, until=until, at=at, epoch=epoch)
        # Each write gives an entry a new etag.
        changed = before is None or before.etag != after.etag
        shuts_out = changed and not after.enabled and (before is None or before.enabled)
        what = _what_it_did(found, before, after) if shuts_out else None
        unread = unread_leaves(proven_by_name(found, str(after))) if before is None else []
        left_open = bars_by_name_alone(unread)
        if json:
            told: dict[str, Any] = {
                "kind": kind,
                "id": str(after),
                "service": found.name,
                **_switch(after),
                "changed": changed,
            }
            if shuts_out:
                told["preview"] = as_json(what) if what is not None else None
            if left_open:
                told["note"] = left_open
            self.print_json(told)
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
        if shuts_out:
            self.stdout.write("\n".join(filter(None, (did(what), left_open))))

    def _say(
        self,
        service: ProvisioningService,
        kind: str,
        id: str,
        *,
        deny: bool,
        until: datetime | None,
        at: datetime | None,
        lists: DeviceLists,
        json: bool,
    ) -> None:
        """What disabling would do, by the same actions, taken back: at its time, and what changes back at its end."""
        entry = _entry(service, kind, id)
        if entry is None and not deny:
            # Said as it would be said in earnest.
            known = EnrollmentGroupNotFound(id) if kind == "group" else EnrollmentNotFound(id)
            raise NotFound(f"{known.message} Nothing was changed.")

        times = Times(until, at)
        if entry is None:

            def add() -> list[Entry]:
                return [_disable_device(service, id, reason="", deny=True)]

            foreseen = Foreseen(preview_of(service, add, limits=NO_LIMITS), times)
        else:
            foreseen = foresee(service, Act.DISABLE, [entry], times)
        change = f"disable {ref_of(entry)}" if entry is not None else f"deny {id}"
        lists.write(foreseen.parts, change, service)
        if json:
            shown = {"kind": kind, "id": str(entry or id), "service": service.name, "changed": False}
            devices = lists.as_json(foreseen.parts)
            self.print_json({**shown, "dry_run": True, **foreseen.as_json(), **devices})
            return
        listed = lists.lines(foreseen.parts)
        for line in [*foreseen.in_lines(Act.DISABLE, 1), *listed, "Nothing was changed."]:
            self.stdout.write(line)

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


def _what_it_did(service: ProvisioningService, before: Entry | None, after: Entry) -> Preview | None:
    if before is None:
        return what_adding_did(service, after)
    return what_disabling_did(service, [after])


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
    until: datetime | None = None,
    at: datetime | None = None,
    epoch: int | None = None,
) -> IndividualEnrollment:
    actor = command_line_actor()
    if deny:
        return deny_device(service, registration_id, actor=actor, reason=reason)
    try:
        return disable_enrollment(
            service, registration_id, actor=actor, reason=reason, expected_epoch=epoch, until=until, at=at
        )
    except EnrollmentNotFound as missing:
        raise NotFound(
            f"{missing.message} Nothing was changed. To shut out a device that has none, add --deny."
        ) from None


def _entry(service: ProvisioningService, kind: str, id: str) -> Entry | None:
    key = registration_key(id)
    if kind == "group":
        return service.enrollmentgroups.without_secrets().filter(group_key=key).first()
    return service.individualenrollments.without_secrets().filter(registration_key=key).first()
