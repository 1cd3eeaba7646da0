"""`manage.py registrations`: what became of each device, and what can be done about it, from the command line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from enrollments.actions.denying import (
    StoodBefore,
    keys_left_open,
    preview_of_denying,
    what_denying_did,
)
from enrollments.actions.empty_entries import holding_nothing
from enrollments.actions.kept_out import kept_out
from enrollments.actions.name_claims import freeing_allows, name_version
from enrollments.actions.name_holders import holder_of
from enrollments.actions.preview import CANNOT_BE_TOLD, NO_LIMITS, Preview
from enrollments.actions.preview.words import as_json, did, in_lines
from enrollments.actions.revocation import deny_devices, deprovision_device, free_names
from enrollments.actions.schedule import as_text, settle_if_possible
from enrollments.errors import Conflict, HubUnavailable, NotFound, PreviewOutdated
from enrollments.management import record_lists
from enrollments.management.command import command_line_actor
from enrollments.management.device_lists import DeviceLists, add_device_lists
from enrollments.management.dialogue import (
    TRIES,
    PeopleCommand,
    add_act_options,
    add_json,
    add_names,
    list_of,
    names_given,
    needs_reason,
    nobody_is_asked,
)
from enrollments.management.showing import records_of, show_record
from enrollments.management.tables import as_json_lines, facts
from enrollments.models import (
    ProvisioningService,
    RegistrationRecord,
)
from enrollments.policy.facts import EntryKind
from enrollments.policy.names import registration_key


class Command(PeopleCommand):
    help = (
        "List and show registration records, deny and deprovision their devices, release their names, and delete them. "
        "It needs the database and nothing else."
    )

    def add_verbs(self) -> None:
        listed = self.add_verb("list", self.list_records, "List records in the order of their IDs.")
        record_lists.add_options(listed)
        shown = self.add_verb("show", self.show, "Show records with the last attempts of their devices.")
        add_names(shown, "Registration IDs")
        add_json(shown, "Print a JSON object a line.")
        for name, carry_out, asks, help in (
            ("disable", self.deny, False, "Deny devices, each by a disabled individual enrollment (R5)."),
            (
                "deprovision",
                self.deprovision,
                False,
                "Deny devices, and deregister them at their hubs (R13).",
            ),
            ("release", self._freeing(by_deleting=False), True, "Let other entries have the names (R11)."),
            (
                "delete",
                self._freeing(by_deleting=True),
                True,
                "Delete records, which also releases the names.",
            ),
        ):
            parser = self.add_verb(name, carry_out, help)
            add_names(parser, "Registration IDs")
            add_act_options(parser, asks=asks)
            if not asks:
                add_device_lists(parser)  # the others free names, and touch no device
        again = self.add_verb("enable", self.enable, "Say what keeps devices out, and how to let them in.")
        add_names(again, "Registration IDs")

    # --- Looking ------------------------------------------------------------------------------------

    def list_records(self, service: ProvisioningService, **options: Any) -> None:
        lines = record_lists.lines(service, **options)
        self.tell_list(lines, f"No registration records of {service} are like that.")

    def show(self, service: ProvisioningService, *, names: list[str], json: bool, **_: Any) -> None:
        self.done = True
        settle_if_possible(service)
        for place, record in enumerate(_records(service, names)):
            shown = show_record(service, record)
            if json:
                self.tell_lines(as_json_lines([[shown.as_json()]]))
                continue
            if place:
                self.stdout.write("")
            self.tell_lines(facts(shown.in_words()))

    def enable(self, service: ProvisioningService, *, names: list[str], **_: Any) -> None:
        """Two entries may be meant, or none: which one is a decision that nobody can take here."""
        settle_if_possible(service)
        raise Conflict("\n".join(_way_in(service, record) for record in _records(service, names)))

    # --- Shutting out -------------------------------------------------------------------------------

    def deny(
        self,
        service: ProvisioningService,
        *,
        names: list[str],
        reason: str,
        dry_run: bool,
        listed: bool,
        csv: Path | None,
        json: bool,
        **_: Any,
    ) -> None:
        """Never held up, and told afterwards."""
        needs_reason(reason, dry_run=dry_run)
        lists = DeviceLists.asked(dry_run=dry_run, listed=listed, csv=csv)
        settle_if_possible(service)  # what was due before is no part of this
        records = _records(service, names)
        ids = [one.registration_id for one in records]
        if dry_run:
            preview = _rehearsed(service, ids)
            self._print_rehearsed(service, "disable", ids, preview, lists, json=json)
            return
        before = StoodBefore.of(service, ids)
        made = deny_devices(service, ids, actor=command_line_actor(), reason=reason)
        self.done = True
        changed = list(map(str, before.changed(made)))
        previews = [what_denying_did(service, before, made)] if before.shut_out(made) else []
        left_open = keys_left_open(service, before, made)
        self._print_denied(service, "disable", ids, changed, *previews, left_open=left_open, json=json)

    def _print_denied(
        self,
        service: ProvisioningService,
        act: str,
        ids: list[str],
        changed: list[str],
        *previews: Preview | None,
        left_open: str,
        json: bool,
    ) -> None:
        if json:
            told = _as_json(previews)
            self.print_json(_document(service, act, ids, changed, previews=told, **_as_note(left_open)))
        else:
            if changed:
                what = " ".join(map(did, previews)) or "They are out for good now, and no longer for a time."
                self.stdout.write(f"Denied {list_of(changed)} of {service}. {what} {left_open}".rstrip())
            if already := [one for one in ids if one not in changed]:
                self.stdout.write(f"Denied already: {list_of(already)}.")

    def _print_rehearsed(
        self,
        service: ProvisioningService,
        act: str,
        ids: list[str],
        preview: Preview | None,
        lists: DeviceLists,
        *,
        json: bool,
        **more: Any,
    ) -> None:
        parts = {"from now on": preview} if preview is not None else {}
        lists.write(parts, f"{act} {list_of(ids)}", service)
        if json:
            told = {**more, "previews": _as_json([preview]), **lists.as_json(parts)}
            self.print_json(_document(service, act, ids, [], dry_run=True, **told))
            return
        self.stdout.write(f"If you deny {list_of(ids)} of {service}:")
        lines = in_lines(preview) if preview is not None else ["What it does cannot be worked out."]
        self.tell_lines(f"- {line}" for line in lines)
        self.tell_lines(lists.lines(parts))
        self.stdout.write("Nothing was changed.")

    def deprovision(
        self,
        service: ProvisioningService,
        *,
        names: list[str],
        reason: str,
        dry_run: bool,
        listed: bool,
        csv: Path | None,
        json: bool,
        **_: Any,
    ) -> None:
        """One after the other: hubs are asked outside of any transaction. Each says what was confirmed (R13)."""
        needs_reason(reason, dry_run=dry_run)
        lists = DeviceLists.asked(dry_run=dry_run, listed=listed, csv=csv)
        records = _records(service, names)
        ids = [one.registration_id for one in records]
        if dry_run:
            preview = _rehearsed(service, ids)
            for one in records if not json else ():
                hub = f"deregistered at hub {one.hub} as {one.device_id}" if one.hub else "is at no hub"
                self.stdout.write(f"{one} would be denied, and {hub}.")
            hubs = {str(one): one.hub.host_name if one.hub else None for one in records}
            self._print_rehearsed(service, "deprovision", ids, preview, lists, json=json, hubs=hubs)
            return
        before, entries = StoodBefore.of(service, ids), []
        changed: list[str] = []
        problems: dict[str, str] = {}
        for name in ids:
            result = deprovision_device(service, name, actor=command_line_actor(), reason=reason)
            entries.append(result.entry)
            if result.done:
                is_changed = result.deregistered or bool(before.changed([result.entry]))
                changed += [name] if is_changed else []
                what = "is deprovisioned" if is_changed else _ALREADY
                said = f"{name} {what}: it is denied, and its hub holds it no more."
            else:
                problems[name] = result.hub_problem
                said = (
                    f"{name} is denied, but its hub has not confirmed that it is gone. {result.hub_problem}"
                )
            if not json:
                self.stdout.write(said)
        self.done = not problems
        previews = [what_denying_did(service, before, entries)] if before.shut_out(entries) else []
        left_open = keys_left_open(service, before, entries)
        if json:
            told = {**_as_note(left_open), "previews": _as_json(previews)}
            self.print_json(_document(service, "deprovision", ids, changed, not_confirmed=problems, **told))
        else:
            self.tell_lines(filter(None, [*map(did, previews), left_open]))
        if problems:
            raise HubUnavailable(
                f"Not done for {list_of(list(problems))}: deprovision again when the hub answers."
            )

    # --- Names --------------------------------------------------------------------------------------

    def _freeing(self, *, by_deleting: bool) -> Callable[..., None]:
        def free(service: ProvisioningService, **options: Any) -> None:
            self._free(service, by_deleting=by_deleting, **options)

        return free

    def _free(
        self,
        service: ProvisioningService,
        *,
        by_deleting: bool,
        names: list[str],
        reason: str,
        dry_run: bool,
        yes: bool,
        json: bool,
        **_: Any,
    ) -> None:
        """Looked at, agreed to, and done on the state that was looked at (R11, R12)."""
        needs_reason(reason, dry_run=dry_run)
        act = "delete" if by_deleting else "release"
        nobody_is_asked(json=json, yes=yes, dry_run=dry_run)
        given = names_given(names)
        for left in reversed(range(TRIES)):
            settle_if_possible(service)
            records = _found(service, given)
            # Read first: whatever changes while it is looked at makes the answer void.
            versions = {one.registration_id: name_version(one) for one in records}
            means = {one.registration_id: list(freeing_allows(one)) for one in records}
            if dry_run or not yes:
                self._tell_freeing(service, act, means, dry_run=dry_run, json=json)
            if dry_run:
                return
            if not yes and not self.agreed(f"{act.capitalize()}?"):
                raise Conflict("Nobody said yes, so nothing was changed.")
            try:
                free_names(
                    service, versions, by_deleting=by_deleting, actor=command_line_actor(), reason=reason
                )
            except PreviewOutdated:
                if not left:
                    raise
                if not yes:
                    self.stdout.write(
                        "Something was changed meanwhile, and nothing was done. This holds now:"
                    )
                continue
            self.done = True
            changed = [one.registration_id for one in records if by_deleting or holder_of(one) is not None]
            self._report_freed(service, act, list(versions), changed, json=json)
            return

    def _tell_freeing(
        self,
        service: ProvisioningService,
        act: str,
        means: dict[str, list[str]],
        *,
        dry_run: bool,
        json: bool,
    ) -> None:
        if json:
            self.print_json(_document(service, act, list(means), [], dry_run=True, means=means))
            return
        for name, sentences in means.items():
            self.stdout.write(f"{name}: {' '.join(sentences)}")
        if dry_run:
            self.stdout.write("Nothing was changed.")

    def _report_freed(
        self, service: ProvisioningService, act: str, ids: list[str], changed: list[str], *, json: bool
    ) -> None:
        if json:
            self.print_json(_document(service, act, ids, changed))
            return
        if changed:
            word = "Deleted the registration record of" if act == "delete" else "Released"
            self.stdout.write(f"{word} {list_of(changed)} of {service}.")
        if already := [one for one in ids if one not in changed]:
            self.stdout.write(f"No entry held {list_of(already)}; nothing was changed there.")


def _document(
    service: ProvisioningService,
    act: str,
    ids: list[str],
    changed: list[str],
    *,
    dry_run: bool = False,
    **more: Any,
) -> dict[str, Any]:
    return {
        "service": service.name,
        "act": act,
        "registrations": ids,
        "changed": changed,
        "dry_run": dry_run,
        **more,
    }


_ALREADY = "is deprovisioned already, and nothing was changed there"


def _as_json(previews: Sequence[Preview | None]) -> list[dict[str, Any] | None]:
    return [as_json(one) if one is not None else None for one in previews]


def _as_note(sentence: str) -> dict[str, Any]:
    return {"note": sentence} if sentence else {}


def _rehearsed(service: ProvisioningService, ids: list[str]) -> Preview | None:
    try:
        return preview_of_denying(service, ids, limits=NO_LIMITS)
    except CANNOT_BE_TOLD:  # R16: denying works all the same
        return None


def _records(service: ProvisioningService, names: list[str]) -> list[RegistrationRecord]:
    return _found(service, names_given(names))


def _found(service: ProvisioningService, names: list[str]) -> list[RegistrationRecord]:
    """All of them, in the order given. Raises NotFound, which names those that are not there."""
    keys = [registration_key(name) for name in names]
    found = {one.registration_key: one for one in records_of(service).filter(registration_key__in=keys)}
    if missing := [name for name, key in zip(names, keys, strict=True) if key not in found]:
        raise NotFound(
            f"There is no registration record of {list_of(missing)} in {service}. Nothing was changed. A device that "
            "never registered is shut out with manage.py disable individual ID --deny."
        )
    return [found[key] for key in keys]


def _way_in(service: ProvisioningService, record: RegistrationRecord) -> str:
    """What keeps the device out, and the commands that let it in: an entry decides, never a record."""
    out = kept_out(service, record)
    if out is None:
        return (
            f"Nothing keeps {record} out, as far as it is known here what it shows: manage.py explain "
            f"--registration-id {record} says what is decided about it."
        )
    if out.is_name_held:
        return (
            f"{record} fails: another entry would admit it, and its registration ID is held through {out.by}. "
            f"manage.py registrations release {record} lets that one have it."
        )
    if not out.is_disabled or out.by is None:
        return (
            f"No disabled entry keeps {record} out: {out.reason.in_words}. manage.py explain --registration-id "
            f"{record} says how that is decided."
        )
    until = f" until {as_text(out.until)}" if out.until is not None else ""
    way = f"{record} is kept out by {out.by}, which is disabled{until}."
    if out.by.kind is EntryKind.INDIVIDUAL:
        found = service.individualenrollments.without_secrets().filter(pk=out.by.pk)
        if holding_nothing(service, found):
            return (
                f"{way} It holds no credential, so that enabling it lets nobody in: manage.py enrollments delete "
                f"{out.by.name} takes it away, and groups decide again."
            )
        return (
            f"{way} manage.py enrollments enable {out.by.name} lets it in by what that entry holds; manage.py "
            f"enrollments delete {out.by.name} takes the entry away, and groups decide again."
        )
    return f"{way} manage.py groups enable {out.by.name} lets all of its devices in."
