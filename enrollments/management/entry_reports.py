"""What commands about entries say: beforehand of a dry run, and afterwards of what was done."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from enrollments.actions.preview import Act, Entry, Preview, those_put_off, what_disabling_did
from enrollments.actions.preview.words import as_json, did
from enrollments.actions.schedule import as_text
from enrollments.management.device_lists import DeviceLists
from enrollments.management.dialogue import PeopleCommand
from enrollments.management.entry_kinds import EntryKindWords
from enrollments.management.timed import Times
from enrollments.models import ProvisioningService

_DONE = {Act.DISABLE: "Disabled", Act.ENABLE: "Enabled", Act.DELETE: "Deleted"}


@dataclass(frozen=True, slots=True)
class Look:
    """What an act would do: in lines for people; for programs `told`, beside the preview.

    preview: None where it cannot be worked out, which only shutting out lives with. parts: that, and what changes back
    at the end of it, by when they hold.
    """

    preview: Preview | None
    lines: list[str]
    told: dict[str, Any]
    is_timed: bool = False
    parts: dict[str, Preview] = field(default_factory=dict)


class EntryReports(PeopleCommand):
    kind: ClassVar[EntryKindWords]

    def report_disabled(
        self, service: ProvisioningService, entries: list[Entry], times: Times, *, json: bool
    ) -> None:
        changed = self.changed(service, entries)
        # One that was disabled until some time and is so for good now shuts nobody out by that.
        turned = [one for one in changed if one.enabled and times.at is None]
        preview = what_disabling_did(service, turned) if turned else None
        if json:
            more: dict[str, Any] = times.as_json()
            self._print_act(service, Act.DISABLE, entries, changed=changed, preview=preview, **more)
            return
        if times.at is not None and changed:
            self.stdout.write(
                f"{self._at_first(changed)} of {service} will be disabled at {as_text(times.at)}. Until then "
                f"{'it is' if len(changed) == 1 else 'they are'} enabled."
            )
            self._tell_put_off(those_put_off(Act.DISABLE, changed, **times.given), times)
        until = f" until {as_text(times.until)}" if times.until is not None else ""
        if turned:
            self.stdout.write(
                f"Disabled {self.kind.named(turned)} of {service}{until}: {_going_on(did(preview))}"
            )
        if held := [one for one in changed if not one.enabled]:
            for_good = "for good, and no longer for a time"
            self.stdout.write(f"Disabled{until or f' {for_good}'}: {self.kind.named(held)}.")
        self._tell_already(Act.DISABLE, entries, changed)

    def report(
        self,
        service: ProvisioningService,
        act: Act,
        entries: list[Entry],
        times: Times,
        look: Look,
        denied: int | None,
        *,
        json: bool,
    ) -> None:
        changed = entries if act is Act.DELETE else self.changed(service, entries)
        if json:
            more: dict[str, Any] = times.as_json() if denied is None else {"denied": denied}
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
            until = f" until {as_text(times.until)}" if times.until is not None else ""
            self.stdout.write(
                f"{_DONE[act]} {self.kind.named(changed)} of {service}{until}: {_going_on(what)}"
            )
            self._tell_put_off(those_put_off(act, changed, **times.given), times)
        self._tell_already(act, entries, changed)

    def _tell_put_off(self, put_off: Sequence[Entry], times: Times) -> None:
        """put_off: as they were."""
        if put_off and put_off[0].switches_at is not None:
            goes = "dropped" if times.for_good else "put off"
            self.stdout.write(
                f"What was scheduled for {as_text(put_off[0].switches_at)} is {goes}: {self.kind.named(put_off)}."
            )

    def changed(self, service: ProvisioningService, entries: Sequence[Entry]) -> list[Entry]:
        """Each write gives an entry a new etag."""
        now = dict(
            self.kind.rows(service).filter(pk__in=[one.pk for one in entries]).values_list("pk", "etag")
        )
        return [one for one in entries if now.get(one.pk) != one.etag]

    def _tell_already(self, act: Act, entries: Sequence[Entry], changed: Sequence[Entry]) -> None:
        unchanged = [one for one in entries if one not in changed]
        if waiting := [one for one in unchanged if act is Act.DISABLE and one.enabled]:
            self.stdout.write(
                f"{self._at_first(waiting)} will be disabled then already; nothing was changed there."
            )
        kept = [one for one in unchanged if act is Act.ENABLE and one.enabled and one.switches_at is not None]
        for one in kept:
            assert one.switches_at is not None
            self.stdout.write(
                f"{self._at_first([one])} was enabled already, and is to be disabled at {as_text(one.switches_at)} as "
                "before: --for-good drops that."
            )
        if already := [one for one in unchanged if one not in waiting and one not in kept]:
            words = "was" if len(already) == 1 else "were"
            self.stdout.write(
                f"{self._at_first(already)} {words} {_DONE[act].lower()} already; nothing was changed there."
            )

    def _at_first(self, entries: Sequence[Entry]) -> str:
        """At the beginning of a sentence."""
        named = self.kind.named(entries)
        return f"{named[0].upper()}{named[1:]}"

    def tell(self, service: ProvisioningService, act: Act, entries: Sequence[Entry], look: Look) -> None:
        self.stdout.write(f"If you {act} {self.kind.named(entries)} of {service}:")
        self.tell_lines(look.lines)

    def say(
        self,
        service: ProvisioningService,
        act: Act,
        entries: list[Entry],
        look: Look,
        *,
        lists: DeviceLists,
        json: bool,
    ) -> None:
        """The dry run."""
        lists.write(look.parts, f"{act.value} {self.kind.named(entries)}", service)
        if json:
            more: dict[str, Any] = lists.as_json(look.parts)
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
        self.tell(service, act, entries, look)
        self.tell_lines(lists.lines(look.parts))
        asks = act.may_widen or look.is_timed
        on = f" It was looked at on epoch {look.preview.epoch}." if asks and look.preview else ""
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


def _going_on(sentence: str) -> str:
    """Behind a colon."""
    return sentence if sentence[0].isdigit() else f"{sentence[0].lower()}{sentence[1:]}"
