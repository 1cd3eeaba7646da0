"""What lies above devices before a list of changes and after it: the lines that can matter are rehearsed.

Above one device lie few of them. So those devices are looked at together that need the same lines, and each rehearsal
is short: on SQLite others who write wait for it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic

from django.db.models import Exists, OuterRef

from enrollments.actions.attempts_certificates import Came
from enrollments.actions.import_changes import Change, carry_out_changes
from enrollments.actions.preview.acts import NOBODY
from enrollments.actions.preview.below_keys import devices_below
from enrollments.actions.preview.credentials import device_at, enrolled_for, place_of
from enrollments.actions.preview.kinds import BARE, Kinds
from enrollments.actions.preview.leaves import Leaves
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.looking import MOST_LOOKS, Look, Time, alone_name, look_at_class
from enrollments.actions.preview.near import LinesAbove, existing_groups
from enrollments.actions.preview.planned import Plan
from enrollments.actions.preview.progress import Step, Tell
from enrollments.actions.preview.secrets import read_key_groups
from enrollments.actions.preview.sent_along import Then, gone_of, held_by
from enrollments.actions.preview.touched import (
    Touched,
    classes_of,
    in_portions,
    joined,
    touched_by,
    touched_classes,
)
from enrollments.actions.preview.world import NOTHING_ABOVE, World, read_followed
from enrollments.models import HeldCertificate, HeldRole, ProvisioningService
from enrollments.models.locks import rehearsal
from enrollments.policy.names import registration_key
from enrollments.policy.reasons import Reason

# Lines that are rehearsed in one transaction: half a second of work, about groups that are changed, and a fifth of that
# where they are switched.
MOST_LINES = 50
# Devices whose certificates are read at a time.
PORTION = 1000
# Of so many at a time it is said how far that is.
LEAVES_TOLD = 500


@dataclass(slots=True)
class Looked:
    """Both worlds, without individual enrollments. `touched`: by the lines about groups.

    evidence: by place (place_of), under which name that is kept what lies above a device, where its record does not
    say. problems: what is wrong with its leaf. unexamined: who was too many. too_deep: what was not looked at, because
    more lines lie above it than are rehearsed at once. may_bar: see LinesAbove.
    """

    before: World
    after: World
    touched: Touched
    evidence: dict[str, str] = field(default_factory=dict)
    problems: dict[str, Reason] = field(default_factory=dict)
    unexamined: set[str] = field(default_factory=set)
    too_deep: set[str] = field(default_factory=set)
    may_bar: bool = False

    def has(self, place: str) -> bool:
        """Whether it was looked at, or given up."""
        return place in self.evidence or place in self.unexamined


def look_at_all(
    service: ProvisioningService,
    plan: Plan,
    lines: LinesAbove,
    time: Time,
    limits: Limits,
    tell: Tell,
    then: Then,
) -> "Looking":
    """At classes, at what devices showed that no record has, and at what is enrolled where it may be barred."""
    standing = ProvisioningService.what_decisions_read(service.pk)
    before = World(
        key_groups=read_key_groups(service, time.as_of(standing)),
        key_groups_admit=standing.groups_with_keys_admit,
        followed=read_followed(service),
    )
    touched = touched_by(existing_groups(service, lines.changes))
    after = replace(before, above={}, followed=dict(before.followed))
    looked = Looked(before, after, touched, may_bar=lines.may_bar)
    looking = Looking(service, plan, lines, time, limits, looked, tell, then)
    if lines.of_keys:
        with looking.carried_out(lines.of_keys):
            looked.after.key_groups = read_key_groups(service, time.as_of(standing))
    classes = classes_of(service, limits, touched.group_pks, at=time.at, bars=lines.bars)
    looking.at(map(look_at_class, classes))
    looking.at_devices()
    return looking


class Looking:
    def __init__(
        self,
        service: ProvisioningService,
        plan: Plan,
        lines: LinesAbove,
        time: Time,
        limits: Limits,
        looked: Looked,
        tell: Tell,
        then: Then,
    ) -> None:
        self._service, self._plan, self._lines = service, plan, lines
        self.time, self._limits, self.looked = time, limits, looked
        self._tell, self._then, self._looks = tell, then, 0
        self._singly, self._seconds = limits.singly, limits.seconds

    @contextmanager
    def carried_out(self, changes: Sequence[Change]) -> Iterator[None]:
        """Inside, that is done; and what it touched is noted."""
        looked = self.looked
        with rehearsal():
            held = held_by(existing_groups(self._service, changes))
            carry_out_changes(self._service, changes, actor=NOBODY)
            self._then(gone_of(self._service, held))
            looked.touched = joined(looked.touched, touched_by(existing_groups(self._service, changes)))
            followed = read_followed(self._service)
            for key in (registration_key(change.name) for change in changes if change.is_group):
                if key in followed:
                    looked.after.followed[key] = followed[key]
                else:
                    looked.after.followed.pop(key, None)
            yield

    def at(self, looks: Iterable[Look], deadline: float = float("inf")) -> None:
        """Before the list and after it: at all above which some of its lines can lie; above the others it is as it was.

        What there is no time for is noted as not examined.
        """
        before, after = self.looked.before.above, self.looked.after.above
        for changes, some in self._batches(looks):
            # Outside of rehearsals, in which whatever is written is taken back.
            self._tell(Step.LOOKING, self._looks)
            self._looks += len(some)
            seen = []
            for one in some:
                if monotonic() > deadline:
                    self.looked.unexamined.add(one.registration_key)
                else:
                    before[one.evidence] = one.above(self._service, self.time)
                    seen.append(one)
            if not changes:
                after.update({one.evidence: before[one.evidence] for one in seen})
            elif seen:
                with self.carried_out(changes):
                    for one in seen:
                        after[one.evidence] = one.above(self._service, self.time)

    def _batches(self, looks: Iterable[Look]) -> Iterator[tuple[list[Change], list[Look]]]:
        """Looks, with the lines that are carried out for them."""
        together: set[int] = set()
        some: list[Look] = []
        for one in looks:
            needed = self._lines.above(self._service, one.credential)
            if not needed:
                yield [], [one]
            elif len(needed) > MOST_LINES and self._limits.classes is not None:
                self.looked.too_deep.add(one.evidence)
            else:
                if some and (len(together | needed) > MOST_LINES or len(some) == MOST_LOOKS):
                    yield self._lines.chosen(together), some
                    together, some = set(), []
                together |= needed
                some.append(one)
        if some:
            yield self._lines.chosen(together), some

    # --- Devices of no class, and those that share with nobody --------------------------------------

    def _leaf_passed(self) -> None:
        self._looks += 1
        if self._looks % LEAVES_TOLD == 0:
            self._tell(Step.LOOKING, self._looks)

    def at_devices(self) -> None:
        """Above the kinds that they are of, and above those that are alone."""
        leaves = self._leaves(self._plan.came, of_records=True)
        for above in (self.looked.before.above, self.looked.after.above):
            above[BARE] = NOTHING_ABOVE
        kinds = leaves.sorted(self.time, self._limits.deadline(), self._leaf_passed)
        self._at_kinds(kinds)
        below = devices_below(self._service, self._lines.bars, self._lines.listed)
        came = {*map(device_at, self._plan.came), *self._plan.signed}
        besides = self._of_unshared_classes(below | came)
        self._at_alone(leaves, list(dict.fromkeys([*kinds.alone, *besides])), self._limits.deadline())
        for some in in_portions(below, PORTION):
            self.at_enrolled(self._enrolled(some))

    def at_enrolled(self, shown: Mapping[str, Came]) -> None:
        """The same above what entries hold for some devices, or get for them: by place, as it was shown.

        All that is looked at in this way has together as much time as those had.
        """
        begun = monotonic()
        deadline = float("inf") if self._seconds is None else begun + self._seconds
        leaves = self._leaves(shown, of_records=False)
        kinds = leaves.sorted(self.time, deadline, self._leaf_passed)
        self._at_kinds(kinds)
        self._at_alone(leaves, list(kinds.alone), deadline)
        if self._seconds is not None:
            self._seconds = max(0.0, self._seconds - (monotonic() - begun))

    def _enrolled(self, keys: Sequence[str]) -> dict[str, Came]:
        """What is enrolled for these devices, without what is known of them already."""
        records = self._service.registrations.filter(registration_key__in=keys)
        shown = dict(records.values_list("registration_key", "leaf_thumbprint"))
        found = {
            place_of(key, thumbprint): came
            for key, thumbprint, came in enrolled_for(self._service, keys)
            if shown.get(key) != thumbprint
        }
        return {place: came for place, came in found.items() if place not in self._plan.came}

    def forget(self, places: Iterable[str]) -> None:
        """Who was decided about is not asked for again; what is shared is kept."""
        looked = self.looked
        for place in places:
            looked.problems.pop(place, None)
            looked.unexamined.discard(place)
            if looked.evidence.pop(place, "") == (alone := alone_name(place)):
                del looked.before.above[alone], looked.after.above[alone]

    def _leaves(self, strangers: Mapping[str, Came], *, of_records: bool) -> Leaves:
        return Leaves(self._service, self._plan, self._lines, strangers, of_records=of_records)

    def _at_kinds(self, kinds: Kinds) -> None:
        """Each once. Who turns out to share with nobody is among those that are alone then."""
        looked = self.looked
        worlds = looked.before.above, looked.after.above
        kinds.keep_largest(self._limits.classes)
        looked.unexamined |= kinds.unexamined
        looked.problems |= kinds.problems
        new = (
            one for kind, one in kinds.looks.items() if kind not in worlds[0] and kind not in looked.too_deep
        )
        self.at(list(new))
        for kind in kinds.looks:
            if kind in looked.too_deep:
                looked.unexamined.update(kinds.members[kind])
            elif not all(above[kind].is_shared for above in worlds):
                kinds.split(kind)
        looked.evidence |= kinds.evidence

    def _at_alone(self, leaves: Leaves, alone: Sequence[str], deadline: float) -> None:
        """As many as there may be, and no more than there is time for."""
        looked = self.looked
        chosen = alone[: self._singly]
        looked.unexamined.update(alone[len(chosen) :])
        if self._singly is not None:
            self._singly -= len(chosen)
        for some in in_portions(chosen, MOST_LOOKS):
            looks = list(leaves.alone(some))
            self.at(looks, deadline)
            for one in looks:
                if one.evidence in looked.before.above:
                    looked.evidence[one.registration_key] = one.evidence
                else:
                    looked.unexamined.add(one.registration_key)

    def _of_unshared_classes(self, besides: Collection[str]) -> Iterator[str]:
        """Those for whom something can change. besides: who is told about for another credential, perhaps."""
        worlds = self.looked.before, self.looked.after
        unshared = {name for world in worlds for name, above in world.above.items() if not above.is_shared}
        if not unshared:
            return
        moved = touched_classes(self.looked.touched, *worlds)
        records = self._service.registrations.filter(evidence_class__in=unshared)
        own = HeldCertificate.objects.filter(
            role=HeldRole.DEVICE,
            individual__service=self._service,
            individual__registration_key=OuterRef("registration_key"),
            certificate__thumbprint_sha256=OuterRef("leaf_thumbprint"),
        )
        rows = records.annotate(is_pinned=Exists(own)).order_by("-updated_at", "-pk")
        columns = ("registration_key", "evidence_class", "leaf_thumbprint", "leaf_spki", "is_pinned")
        for key, evidence, leaf, spki, is_pinned in rows.values_list(*columns).iterator(chunk_size=5000):
            planned = self._plan.individuals.get(key)
            # Of a device whose own certificate stays pinned, its entry decides whatever stands above (R5).
            stays = (
                is_pinned
                and planned is not None
                and (planned.mechanism is None or leaf in dict(planned.certificates))
            )
            changes = planned is not None and not stays
            is_barred = spki in self._plan.spkis and not is_pinned
            if evidence in moved or changes or is_barred or key in self._plan.sharing or key in besides:
                yield key
