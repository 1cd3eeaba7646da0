"""`manage.py enrollments` and `manage.py groups`: the entries of a service, one or several at once."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from enrollments.actions.deleting import delete_and_deny
from enrollments.actions.empty_entries import admits_nobody, holding_nothing
from enrollments.actions.preview import (
    CANNOT_BE_TOLD,
    NO_LIMITS,
    Act,
    Entry,
    Preview,
    bars_to_come,
    carry_out,
    names_left_open,
    ref_of,
)
from enrollments.actions.preview.words import bars_as_json, bars_in_lines, in_line
from enrollments.actions.schedule import settle_if_possible
from enrollments.errors import Conflict, PreviewOutdated, SecretUnreadable
from enrollments.management import entry_lists
from enrollments.management.command import command_line_actor
from enrollments.management.device_lists import DeviceLists, add_device_lists
from enrollments.management.dialogue import (
    TRIES,
    add_act_options,
    add_epoch,
    add_json,
    add_names,
    names_given,
    needs_reason,
    nobody_is_asked,
)
from enrollments.management.entry_reports import EntryReports, Look
from enrollments.management.previewing import below, below_as_json, below_in_lines, left_open_as_json
from enrollments.management.progress import Progress
from enrollments.management.showing import show_entry
from enrollments.management.tables import as_json_lines, facts
from enrollments.management.timed import MARK, Times, add_times, foresee
from enrollments.models import ProvisioningService

_NOT_TOLD = (
    "What this does to the devices that are known cannot be worked out, because {}. Shutting out works all the "
    "same."
)
_OTHER_KEY = "DPS_ENCRYPTION_KEY is not the key that the stored secrets were written with"


class EntriesCommand(EntryReports):
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
            # Disabling asks where it is for a time by which somebody may come in.
            add_act_options(parser, asks=True)
            if act is not Act.DELETE:
                add_times(parser, act)
            add_device_lists(parser)
            add_epoch(parser)
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
        def carry_out_act(
            service: ProvisioningService,
            *,
            until: datetime | None = None,
            at: datetime | None = None,
            for_good: bool = False,
            listed: bool = False,
            csv: Path | None = None,
            **options: Any,
        ) -> None:
            needs_reason(options["reason"], dry_run=options["dry_run"])
            options["lists"] = DeviceLists.asked(dry_run=options["dry_run"], listed=listed, csv=csv)
            times, names = Times(until, at, for_good), names_given(options.pop("names"))
            settle_if_possible(service)  # what was due before is no part of this
            epoch = ProvisioningService.epoch_of(service.pk)
            if not act.may_widen and not times.may_widen(self.kind.found(service, names)):
                # Unless somebody may come in by it, after what has been changed since.
                with suppress(PreviewOutdated):
                    self._disable(service, names, times, epoch, **options)
                    return
            self._widen(service, act, names, times, **options)

        return carry_out_act

    def _disable(
        self,
        service: ProvisioningService,
        names: list[str],
        times: Times,
        seen: int,
        *,
        reason: str,
        dry_run: bool,
        lists: DeviceLists,
        json: bool,
        **_: Any,
    ) -> None:
        """Never held up, and told afterwards."""
        entries = self.kind.found(service, names)
        if dry_run:
            look = self._look(service, Act.DISABLE, entries, times)
            self.say(service, Act.DISABLE, entries, look, lists=lists, json=json)
            return
        actor = command_line_actor()
        carry_out(
            service, Act.DISABLE, entries, actor=actor, reason=reason, expected_epoch=seen, **times.given
        )
        self.done = True
        self.report_disabled(service, entries, times, json=json)

    def _widen(
        self,
        service: ProvisioningService,
        act: Act,
        names: list[str],
        times: Times,
        *,
        reason: str,
        dry_run: bool,
        lists: DeviceLists,
        yes: bool,
        epoch: int | None,
        json: bool,
        keep_out: bool = False,
        **_: Any,
    ) -> None:
        """Looked at, agreed to, and done on the state that was looked at."""
        nobody_is_asked(json=json, yes=yes, dry_run=dry_run)
        for left in reversed(range(TRIES)):
            settle_if_possible(service)
            entries = self.kind.found(service, names)
            look = self._look(service, act, entries, times)
            assert look.preview is not None  # only shutting out goes on without one
            if dry_run:
                self.say(service, act, entries, look, lists=lists, json=json)
                return
            if epoch is not None and look.preview.epoch != epoch:
                raise PreviewOutdated(str(service))
            if not yes:
                self.tell(service, act, entries, look)
                if not self.agreed(f"{act.value.capitalize()}?"):
                    raise Conflict("Nobody said yes, so nothing was changed.")
            try:
                denied = self._do(service, act, entries, times, look.preview, reason, keep_out=keep_out)
            except PreviewOutdated:
                if epoch is not None or not left:
                    raise
                if not yes:
                    self.stdout.write(
                        "Something was changed meanwhile, and nothing was done. This holds now:"
                    )
                continue
            self.done = True
            if act is Act.DISABLE:
                self.report_disabled(service, entries, times, json=json)
            else:
                self.report(service, act, entries, times, look, denied, json=json)
            return

    def _do(
        self,
        service: ProvisioningService,
        act: Act,
        entries: list[Entry],
        times: Times,
        preview: Preview,
        reason: str,
        *,
        keep_out: bool,
    ) -> int | None:
        """How many devices were denied; None where that was not asked for."""
        actor = command_line_actor()
        if not keep_out:
            carry_out(
                service, act, entries, actor=actor, reason=reason, expected_epoch=preview.epoch, **times.given
            )
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

    def _look(self, service: ProvisioningService, act: Act, entries: list[Entry], times: Times) -> Look:
        try:
            # Whoever shuts out does not wait for what is told of it.
            asks = act.may_widen or times.may_widen(entries)
            foreseen = foresee(service, act, entries, times, NO_LIMITS if asks else None)
        except CANNOT_BE_TOLD as problem:
            if act.may_widen or times.may_widen(entries):
                raise
            why = _OTHER_KEY if isinstance(problem, SecretUnreadable) else f"of what is stored: {problem}"
            return Look(None, [f"{MARK}{_NOT_TOLD.format(why)}"], {})
        others = below(service, act, entries, at=times.at)
        more = below_in_lines(act, others)
        if act is Act.ENABLE and (empty := holding_nothing(service, entries)):
            more.append(admits_nobody(empty))
        # What is done now is told beside it.
        told = {name: value for name, value in foreseen.as_json().items() if name != "preview"}
        told["below"] = [below_as_json(one) for one in others]
        if act is Act.DELETE:
            left_open = names_left_open(service, foreseen.preview, entries)
            told["left_open"] = left_open_as_json(left_open)
            told |= bars_as_json(bars_to_come(entries))
            more += [*([in_line(left_open)] if left_open else []), *_of_deleting(entries)]
        lines = [*foreseen.in_lines(act, len(entries), MARK), *(f"{MARK}{line}" for line in more)]
        return Look(foreseen.preview, lines, told, is_timed=bool(times), parts=foreseen.parts)


def _of_deleting(entries: Sequence[Entry]) -> Iterator[str]:
    for one in [one for one in entries if not one.enabled][:5]:
        named = str(ref_of(one))
        yield f"{named[0].upper()}{named[1:]} is disabled: deleting it ends its bar, under this name and for its keys."
    yield from bars_in_lines(bars_to_come(entries))
    yield "The registration IDs become free: another entry that admits their devices may take them over."
