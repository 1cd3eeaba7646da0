"""`manage.py enrollments` and `manage.py groups`: the entries of a service, one or several at once."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from enrollments.actions.deleting import delete_and_deny
from enrollments.actions.preview import (
    NO_LIMITS,
    Act,
    Device,
    Entry,
    Preview,
    carry_out,
    names_left_open,
    preview_of_act,
    ref_of,
    what_disabling_did,
)
from enrollments.actions.preview.table import in_order, values
from enrollments.actions.preview.words import as_json, did, in_line, in_lines
from enrollments.actions.schedule import settle_if_possible
from enrollments.errors import Conflict, PreviewOutdated, SecretUnreadable
from enrollments.management import entry_lists
from enrollments.management.command import called_wrongly, command_line_actor, whole_number
from enrollments.management.dialogue import (
    TRIES,
    PeopleCommand,
    add_act_options,
    add_json,
    add_names,
    names_given,
    needs_reason,
)
from enrollments.management.entry_kinds import EntryKindWords
from enrollments.management.previewing import below, below_as_json, below_in_lines, left_open_as_json
from enrollments.management.progress import Progress
from enrollments.management.showing import show_entry
from enrollments.management.tables import Column, as_json_lines, as_table, facts
from enrollments.models import (
    ProvisioningService,
)

_OF_DEVICES = (
    Column("REGISTRATION ID", 40),
    Column("EFFECT", 14),
    Column("NOW", 34),
    Column("AFTERWARDS", 34),
)
_DONE = {Act.DISABLE: "Disabled", Act.ENABLE: "Enabled", Act.DELETE: "Deleted"}
_KEY_UNREADABLE = (
    "What this does to the devices that are known cannot be worked out, because DPS_ENCRYPTION_KEY is not the key that "
    "the stored secrets were written with. Shutting out works all the same."
)


@dataclass(frozen=True, slots=True)
class Look:
    """What an act would do: in lines for people; for programs `told`, beside the preview.

    preview: None where it cannot be worked out, which only shutting out lives with.
    """

    preview: Preview | None
    lines: list[str]
    told: dict[str, Any]


class EntriesCommand(PeopleCommand):
    kind: ClassVar[EntryKindWords]

    def add_verbs(self) -> None:
        several = self.kind.several
        listed = self.add_verb("list", self.list_entries, f"List {several} in the order of their IDs.")
        entry_lists.add_options(listed, self.kind)
        shown = self.add_verb("show", self.show, f"Show {several} with everything but their secrets.")
        add_names(shown, self.kind.id_of)
        add_json(shown, "Print a JSON object a line.")
        for act, help in (
            (Act.DISABLE, f"Shut the devices of {several} out, at once."),
            (Act.ENABLE, f"Let the devices of {several} in again."),
            (Act.DELETE, f"Delete {several}. Their devices may come back through other entries (R7)."),
        ):
            parser = self.add_verb(act.value, self._carrying_out(act), f"{help} All of them or none.")
            add_names(parser, self.kind.id_of)
            add_act_options(parser, asks=act.may_widen)
            parser.add_argument(
                "--list", dest="listed", action="store_true", help="In a dry run: every device by its name."
            )
            if act.may_widen:
                parser.add_argument(
                    "--epoch",
                    type=whole_number(0, 2**63 - 1),
                    metavar="N",
                    help="Only on the state that a dry run looked at; it says which epoch that was.",
                )
            if act is Act.DELETE:
                parser.add_argument(
                    "--keep-out",
                    action="store_true",
                    help="Deny, one by one, the known devices that another entry would let in.",
                )

    # --- Looking ------------------------------------------------------------------------------------

    def list_entries(self, service: ProvisioningService, **options: Any) -> None:
        self.tell_list(
            entry_lists.lines(service, self.kind, **options),
            f"No {self.kind.several} of {service} are like that.",
        )

    def show(self, service: ProvisioningService, *, names: list[str], json: bool, **_: Any) -> None:
        self.done = True
        settle_if_possible(service)
        for place, entry in enumerate(self.kind.found(service, names_given(names))):
            shown = show_entry(service, entry)
            if json:
                self.tell_lines(as_json_lines([[shown.as_json()]]))
                continue
            if place:
                self.stdout.write("")
            self.tell_lines(facts(shown.in_words()))

    # --- Changing -----------------------------------------------------------------------------------

    def _carrying_out(self, act: Act) -> Callable[..., None]:
        def carry_out_act(service: ProvisioningService, **options: Any) -> None:
            needs_reason(options["reason"], dry_run=options["dry_run"])
            if act is Act.DISABLE:
                self._disable(service, **options)
            else:
                self._widen(service, act, **options)

        return carry_out_act

    def _disable(
        self,
        service: ProvisioningService,
        *,
        names: list[str],
        reason: str,
        dry_run: bool,
        listed: bool,
        json: bool,
        **_: Any,
    ) -> None:
        """Never held up, and told afterwards."""
        settle_if_possible(service)  # what was due before is no part of this
        entries = self.kind.found(service, names_given(names))
        if dry_run:
            look = self._look(service, Act.DISABLE, entries)
            self._say(service, Act.DISABLE, entries, look, listed=listed, json=json)
            return
        carry_out(service, Act.DISABLE, entries, actor=command_line_actor(), reason=reason)
        self.done = True
        changed = self._changed(service, entries)
        # One that was disabled until some time is disabled for good now, and shuts nobody out by that.
        turned = [one for one in changed if one.enabled]
        preview = what_disabling_did(service, turned) if turned else None
        if json:
            self._print_act(service, Act.DISABLE, entries, changed=changed, preview=preview)
            return
        if turned:
            self.stdout.write(f"Disabled {self.kind.named(turned)} of {service}: {_going_on(did(preview))}")
        if held := [one for one in changed if not one.enabled]:
            self.stdout.write(f"Disabled for good, and no longer for a time: {self.kind.named(held)}.")
        self._tell_already(Act.DISABLE, entries, changed)

    def _widen(
        self,
        service: ProvisioningService,
        act: Act,
        *,
        names: list[str],
        reason: str,
        dry_run: bool,
        listed: bool,
        yes: bool,
        epoch: int | None,
        json: bool,
        keep_out: bool = False,
        **_: Any,
    ) -> None:
        """Looked at, agreed to, and done on the state that was looked at."""
        if json and not (yes or dry_run):
            called_wrongly("With --json nobody is asked: say --yes, or --dry-run to look at it first.")
        given = names_given(names)
        for left in reversed(range(TRIES)):
            settle_if_possible(service)
            entries = self.kind.found(service, given)
            look = self._look(service, act, entries)
            assert look.preview is not None  # only shutting out goes on without one
            if dry_run:
                self._say(service, act, entries, look, listed=listed, json=json)
                return
            if epoch is not None and look.preview.epoch != epoch:
                raise PreviewOutdated(str(service))
            if not yes:
                self._tell(service, act, entries, look)
                if not self.agreed(f"{act.value.capitalize()}?"):
                    raise Conflict("Nobody said yes, so nothing was changed.")
            try:
                denied = self._do(service, act, entries, look.preview, reason, keep_out=keep_out)
            except PreviewOutdated:
                if epoch is not None or not left:
                    raise
                if not yes:
                    self.stdout.write(
                        "Something was changed meanwhile, and nothing was done. This holds now:"
                    )
                continue
            self.done = True
            self._report(service, act, entries, look, denied, json=json)
            return

    def _do(
        self,
        service: ProvisioningService,
        act: Act,
        entries: list[Entry],
        preview: Preview,
        reason: str,
        *,
        keep_out: bool,
    ) -> int | None:
        """How many devices were denied; None where that was not asked for."""
        actor = command_line_actor()
        if not keep_out:
            carry_out(service, act, entries, actor=actor, reason=reason, expected_epoch=preview.epoch)
            return None
        progress = Progress(sys.stderr)
        expected: int | None = preview.epoch
        denied = outdated = 0
        try:
            while True:
                try:
                    result = delete_and_deny(
                        service, entries, actor=actor, reason=reason, expected_epoch=expected
                    )
                except PreviewOutdated:
                    outdated += 1
                    if expected is not None or outdated == TRIES:
                        raise
                    continue
                denied += result.denied
                if not result.left:
                    return denied
                # The rest goes on with what was agreed to, whatever the denials made of the epoch.
                expected = None
                progress.tell(f"{denied:,} devices denied, {result.left:,} left")
        finally:
            progress.close()

    def _report(
        self,
        service: ProvisioningService,
        act: Act,
        entries: list[Entry],
        look: Look,
        denied: int | None,
        *,
        json: bool,
    ) -> None:
        changed = entries if act is Act.DELETE else self._changed(service, entries)
        if json:
            more: dict[str, Any] = {} if denied is None else {"denied": denied}
            self._print_act(service, act, entries, changed=changed, preview=look.preview, **more)
            return
        if changed:
            what = did(look.preview)
            if denied is not None:
                how = (
                    "is kept out, by an entry of its own"
                    if denied == 1
                    else "are kept out, each by its own entry"
                )
                what = f"{denied:,} {'device' if denied == 1 else 'devices'} {how}."
            self.stdout.write(f"{_DONE[act]} {self.kind.named(changed)} of {service}: {_going_on(what)}")
        self._tell_already(act, entries, changed)

    def _changed(self, service: ProvisioningService, entries: Sequence[Entry]) -> list[Entry]:
        """Each write gives an entry a new etag."""
        now = dict(
            self.kind.rows(service).filter(pk__in=[one.pk for one in entries]).values_list("pk", "etag")
        )
        return [one for one in entries if now.get(one.pk) != one.etag]

    def _tell_already(self, act: Act, entries: Sequence[Entry], changed: Sequence[Entry]) -> None:
        if already := [one for one in entries if one not in changed]:
            words = "was" if len(already) == 1 else "were"
            named = self.kind.named(already)
            self.stdout.write(
                f"{named[0].upper()}{named[1:]} {words} {_DONE[act].lower()} already; nothing was changed there."
            )

    def _look(self, service: ProvisioningService, act: Act, entries: list[Entry]) -> Look:
        try:
            # Whoever shuts out does not wait for what is told of it.
            limits = NO_LIMITS if act.may_widen else None
            preview: Preview | None = preview_of_act(service, act, entries, limits=limits)
        except SecretUnreadable:
            if act.may_widen:
                raise
            return Look(None, [_KEY_UNREADABLE], {})
        assert preview is not None
        others = below(service, act, entries)
        lines = [*in_lines(preview), *below_in_lines(act, others)]
        told: dict[str, Any] = {"below": [below_as_json(one) for one in others]}
        if act is Act.DELETE:
            left_open = names_left_open(service, preview, entries)
            told["left_open"] = left_open_as_json(left_open)
            lines += [*([in_line(left_open)] if left_open else []), *_of_deleting(entries)]
        return Look(preview, lines, told)

    def _tell(self, service: ProvisioningService, act: Act, entries: Sequence[Entry], look: Look) -> None:
        self.stdout.write(f"If you {act} {self.kind.named(entries)} of {service}:")
        self.tell_lines(f"- {line}" for line in look.lines)

    def _say(
        self,
        service: ProvisioningService,
        act: Act,
        entries: list[Entry],
        look: Look,
        *,
        listed: bool,
        json: bool,
    ) -> None:
        """The dry run."""
        devices = in_order(look.preview) if listed and look.preview is not None else []
        if json:
            more: dict[str, Any] = {"devices": list(map(_device, devices))} if listed else {}
            self._print_act(
                service,
                act,
                entries,
                changed=[],
                preview=look.preview,
                dry_run=True,
                **look.told,
                **more,
            )
            return
        self._tell(service, act, entries, look)
        self.tell_lines(
            as_table(_OF_DEVICES, [[list(map(str, _device(one).values())) for one in devices]])
            if devices
            else []
        )
        on = f" It was looked at on epoch {look.preview.epoch}." if act.may_widen and look.preview else ""
        self.stdout.write(f"Nothing was changed.{on}")

    def _print_act(
        self,
        service: ProvisioningService,
        act: Act,
        entries: Sequence[Entry],
        *,
        changed: Sequence[Entry],
        preview: Preview | None,
        dry_run: bool = False,
        **more: Any,
    ) -> None:
        self.print_json(
            {
                "service": service.name,
                "act": act.value,
                "entries": [str(one) for one in entries],
                "changed": [str(one) for one in changed],
                "dry_run": dry_run,
                "preview": as_json(preview) if preview is not None else None,
                **more,
            }
        )


def _device(one: Device) -> dict[str, str]:
    name, effect, now, now_by, then, then_by = values(one)
    return {
        "registration_id": name,
        "effect": effect,
        "now": f"{now} by {now_by}" if now_by else now,
        "afterwards": f"{then} by {then_by}" if then_by else then,
    }


def _of_deleting(entries: Sequence[Entry]) -> Iterator[str]:
    for one in [one for one in entries if not one.enabled][:5]:
        yield f"{ref_of(one)} is disabled: deleting it ends its bar, under this name and for its keys."
    yield "The registration IDs become free: another entry that admits their devices may take them over."


def _going_on(sentence: str) -> str:
    """Behind a colon."""
    return sentence if sentence[0].isdigit() else f"{sentence[0].lower()}{sentence[1:]}"
