"""What lies above devices before a list of changes and after it: the lines that can matter are rehearsed.

Above one device lie few of them. So those devices are looked at together that need the same lines, and each rehearsal
is short: on SQLite others who write wait for it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic

from django.db.models import Exists, OuterRef

from enrollments.actions.import_changes import Change, carry_out_changes
from enrollments.actions.preview.acts import NOBODY
from enrollments.actions.preview.kinds import BARE
from enrollments.actions.preview.leaves import Leaves
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.looking import MOST_LOOKS, Look, Time, look_at_class
from enrollments.actions.preview.near import LinesAbove, existing_groups
from enrollments.actions.preview.planned import Plan
from enrollments.actions.preview.progress import Step, Tell, tell_nobody
from enrollments.actions.preview.secrets import read_key_groups
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
# Of so many at a time it is said how far that is.
LEAVES_TOLD = 500


@dataclass(slots=True)
class Looked:
    """Both worlds, without individual enrollments. `touched`: by the lines about groups.

    evidence: by registration key, under which name that is kept what lies above a device, where its record does not
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


def look_at_all(
    service: ProvisioningService,
    plan: Plan,
    lines: LinesAbove,
    time: Time,
    limits: Limits,
    tell: Tell = tell_nobody,
) -> Looked:
    standing = ProvisioningService.what_decisions_read(service.pk)
    before = World(
        key_groups=read_key_groups(service, time.as_of(standing)),
        key_groups_admit=standing.groups_with_keys_admit,
        followed=read_followed(service),
    )
    touched = touched_by(existing_groups(service, lines.changes))
    after = replace(before, above={}, followed=dict(before.followed))
    looked = Looked(before, after, touched, may_bar=lines.may_bar)
    looking = _Looking(service, plan, lines, time, limits, looked, tell)
    if lines.of_keys:
        with looking.carried_out(lines.of_keys):
            looked.after.key_groups = read_key_groups(service, time.as_of(standing))
    looking.at(map(look_at_class, classes_of(service, limits, touched.group_pks, at=time.at)))
    looking.at_devices()
    return looked


class _Looking:
    def __init__(
        self,
        service: ProvisioningService,
        plan: Plan,
        lines: LinesAbove,
        time: Time,
        limits: Limits,
        looked: Looked,
        tell: Tell,
    ) -> None:
        self._service, self._plan, self._lines = service, plan, lines
        self._time, self._limits, self._looked = time, limits, looked
        self._tell, self._looks = tell, 0

    @contextmanager
    def carried_out(self, changes: Sequence[Change]) -> Iterator[None]:
        """Inside, that is done; and what it touched is noted."""
        looked = self._looked
        with rehearsal():
            carry_out_changes(self._service, changes, actor=NOBODY)
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
        before, after = self._looked.before.above, self._looked.after.above
        for changes, some in self._batches(looks):
            # Outside of rehearsals, in which whatever is written is taken back.
            self._tell(Step.LOOKING, self._looks)
            self._looks += len(some)
            seen = []
            for one in some:
                if monotonic() > deadline:
                    self._looked.unexamined.add(one.registration_key)
                else:
                    before[one.evidence] = one.above(self._service, self._time)
                    seen.append(one)
            if not changes:
                after.update({one.evidence: before[one.evidence] for one in seen})
            elif seen:
                with self.carried_out(changes):
                    for one in seen:
                        after[one.evidence] = one.above(self._service, self._time)

    def _batches(self, looks: Iterable[Look]) -> Iterator[tuple[list[Change], list[Look]]]:
        """Looks, with the lines that are carried out for them."""
        together: set[int] = set()
        some: list[Look] = []
        for one in looks:
            needed = self._lines.above(self._service, one.credential)
            if not needed:
                yield [], [one]
            elif len(needed) > MOST_LINES and self._limits.classes is not None:
                self._looked.too_deep.add(one.evidence)
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
        looked = self._looked
        worlds = looked.before.above, looked.after.above
        leaves = Leaves(self._service, self._plan, self._lines)
        kinds = leaves.sorted(self._time, self._limits, self._leaf_passed)
        looked.evidence, looked.problems, looked.unexamined = kinds.evidence, kinds.problems, kinds.unexamined
        for above in worlds:
            above[BARE] = NOTHING_ABOVE
        self.at(kinds.looks.values())
        for kind in kinds.looks:
            if kind in looked.too_deep:
                looked.unexamined.update(kinds.members[kind])
            elif not all(above[kind].is_shared for above in worlds):
                kinds.split(kind)
        alone = [*kinds.alone, *(key for key in self._of_unshared_classes() if key not in kinds.alone)]
        chosen = alone[: self._limits.singly]
        looked.unexamined.update(alone[len(chosen) :])
        deadline = self._limits.deadline()
        for some in in_portions(chosen, MOST_LOOKS):
            looks = list(leaves.alone(some))
            self.at(looks, deadline)
            for one in looks:
                if one.evidence in looked.before.above:
                    looked.evidence[one.registration_key] = one.evidence
                else:
                    looked.unexamined.add(one.registration_key)

    def _of_unshared_classes(self) -> Iterator[str]:
        """Those for whom something can change."""
        worlds = self._looked.before, self._looked.after
        unshared = {name for world in worlds for name, above in world.above.items() if not above.is_shared}
        if not unshared:
            return
        moved = touched_classes(self._looked.touched, *worlds)
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
            if evidence in moved or changes or (spki in self._plan.spkis and not is_pinned):
                yield key
