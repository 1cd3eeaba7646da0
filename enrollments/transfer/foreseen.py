"""What a checked import would do to the devices that are known.

Of a list most lines add devices that nobody knows, and change nothing for those that are. They are left out before they
are planned, so that they cost no more than being read.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from enrollments.actions.attempts_certificates import Came, shown_at_attempts
from enrollments.actions.attempts_keys import Signed, keys_at_attempts
from enrollments.actions.import_changes import Change
from enrollments.actions.preview import Coming, Preview, ToCome, coming_by
from enrollments.actions.preview.limits import Limits, at_a_glance
from enrollments.actions.preview.lists import preview_of_list
from enrollments.actions.preview.progress import Step
from enrollments.actions.preview.to_come import MAX_TIMES
from enrollments.collecting import collect_what_is_new
from enrollments.models import ImportRun, ProvisioningService
from enrollments.models.switches import NO_TIME, Switch
from enrollments.policy.names import registration_key
from enrollments.transfer.lines import Record
from enrollments.transfer.planning import from_text, plan

# Of a longer list one time to come is looked at by itself, and all together: each costs as much as the whole.
FEW_LINES = 5_000


@dataclass(frozen=True, slots=True)
class Foreseen:
    """`now`: what holds once it is carried out.

    turning: how many entries, of those that can matter to known devices, are to turn by themselves at a time that the
    list gives. later: what holds once all of them have, if there are any; certificates are judged by their dates now.
    comings, later_comings: who is out by the one and by the other, and comes in when other entries turn by themselves.
    """

    now: Preview
    turning: int = 0
    later: Preview | None = None
    comings: tuple[Coming, ...] = ()
    later_comings: tuple[Coming, ...] = ()


@dataclass(frozen=True, slots=True)
class HowFar:
    """`of`: where it is known. is_later: whether that is about `Foreseen.later`; is_to_come: about its comings."""

    step: Step
    done: int
    of: int | None = None
    is_later: bool = False
    is_to_come: bool = False


Tell = Callable[[HowFar], None]


def foresee(run: ImportRun, limits: Limits | None = None, *, tell: Tell = lambda _: None) -> Foreseen:
    """Of an import that was checked, or of the rest of one that was paused. Raises SecretUnreadable.

    limits: as much as can be told at a glance, unless it is said. What `tell` raises ends it.
    """
    limits = limits or at_a_glance()
    came = shown_at_attempts(run.service, limits.attempts)
    signed = keys_at_attempts(run.service, limits.attempts)
    looking = _Looking(run, limits, came, signed, tell)
    now = looking.to_come(is_later=False)
    if not looking.turning:
        return Foreseen(now.now, comings=now.comings)
    later = looking.to_come(is_later=True)
    number = len(looking.turning)
    return Foreseen(looking.until_turned(now.now), number, later.now, now.comings, later.comings)


@dataclass(slots=True)
class _Looking:
    """At one list, now and at times to come. `turning`: by the numbers of their lines, the entries that are to turn.

    came: with the dates of certificates as they count now; of which devices that is does not depend on the time.
    """

    run: ImportRun
    limits: Limits
    came: Mapping[str, Sequence[Came]]
    signed: Mapping[str, Sequence[Signed]]
    tell: Tell
    turning: dict[int, Switch] = field(default_factory=dict)

    def to_come(self, *, is_later: bool) -> ToCome:
        look = partial(self._preview, is_later=is_later)
        most = MAX_TIMES if self.run.lines <= FEW_LINES else 1
        return coming_by(self.run.service, look(None), look, most)

    def until_turned(self, now: Preview) -> Preview:
        """Who is out may stay so no longer than until one of the list's entries is let in."""
        times = [one.switches_at for one in self.turning.values() if not one.enabled]
        return replace(now, out_until=min(filter(None, (*times, now.out_until)), default=None))

    def _preview(self, at: datetime | None, *, is_later: bool) -> Preview:
        def tell(far: HowFar) -> None:
            self.tell(replace(far, is_later=is_later, is_to_come=at is not None))

        return preview_of_list(
            self.run.service,
            partial(self._portions, tell, is_later),
            self.limits,
            self._came_by(at),
            self.signed,
            lambda step, done: tell(HowFar(step, done)),
            at=at,
        )

    def _came_by(self, at: datetime | None) -> Mapping[str, Sequence[Came]]:
        """As the dates of certificates count at that time."""
        is_of_now = at is None or at in NO_TIME
        return self.came if is_of_now else shown_at_attempts(self.run.service, self.limits.attempts, at=at)

    def _portions(
        self, tell: Tell, is_later: bool, only: Collection[str] | None = None
    ) -> Iterator[Sequence[Change]]:
        for changes in _changes(self.run, {*self.came, *self.signed}, tell, only):
            for one in changes:
                if one.spec is not None and one.spec.switches_at is not None:
                    self.turning[one.line] = one.spec
            yield list(map(_turned, changes)) if is_later else changes


def _turned(change: Change) -> Change:
    """As if the line said what has become of the entry once its time has come."""
    if change.spec is None or change.spec.switches_at is None:
        return change
    spec = change.spec
    turned = replace(spec, enabled=not spec.enabled, for_good=True, switches_at=None, schedule_reason=None)
    return replace(change, spec=turned)


def _changes(
    run: ImportRun,
    came: Collection[str],
    tell: Tell,
    only: Collection[str] | None = None,
) -> Iterator[Sequence[Change]]:
    """What carrying it out would do, portion by portion; what would be refused then is not among it.

    only: see Portions.
    """
    done = 0
    for records in _portions(run):
        tell(HowFar(Step.READING, done, run.lines - run.bad_lines - run.lines_done))
        if lines := _that_matter(run.service, records, came) if only is None else _about(records, only):
            changes = plan(run.service_id, lines, thoroughly=False, compares=False).changes
            # Entries and what was read with them refer to each other: a portion's are of no use to the next.
            collect_what_is_new()
            yield changes
        done += len(records)


def _portions(run: ImportRun) -> Iterator[list[Record]]:
    """What is not done yet."""
    chunks = run.content.filter(number__gte=run.position).order_by("number").values_list("content", flat=True)
    return (from_text(text) for text in chunks.iterator(chunk_size=5))


def _that_matter(service: ProvisioningService, records: list[Record], came: Collection[str]) -> list[Record]:
    """Those about groups, about devices that are known, and those that bar keys under a new name (R6).

    Known by a record, by an entry, or by an attempt (`came`).
    """
    keys = {registration_key(one.name) for one in records if not one.is_group}
    known = {
        *keys.intersection(came),
        *service.registrations.filter(registration_key__in=keys).values_list("registration_key", flat=True),
        *service.individualenrollments.filter(registration_key__in=keys).values_list(
            "registration_key", flat=True
        ),
        *(registration_key(one.name) for one in records if not one.is_group and _may_bar(one)),
    }
    return [one for one in records if one.is_group or registration_key(one.name) in known]


def _about(records: list[Record], devices: Collection[str]) -> list[Record]:
    return [one for one in records if not one.is_group and registration_key(one.name) in devices]


def _may_bar(record: Record) -> bool:
    """By the words of the line: of what adds an entry with certificates that is disabled, or will be."""
    is_disabled = "disabled" in str(record.message.get("provisioningStatus")).lower()
    return (is_disabled or record.switches_at is not None) and "x509" in str(
        record.message.get("attestation")
    ).lower()
