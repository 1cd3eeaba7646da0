"""Rehearsing a change: what is decided about the devices that it touches, before it and after it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import chain, islice
from time import monotonic

from django.db.models import QuerySet

from enrollments.actions.certificates import parsed
from enrollments.actions.evidence import is_signed
from enrollments.actions.key_identifiers import secret_read_once
from enrollments.actions.preview.effects import Device, Preview
from enrollments.actions.preview.holders import Holders
from enrollments.actions.preview.kinds import BARE, Kinds
from enrollments.actions.preview.limits import Limits, at_a_glance
from enrollments.actions.preview.looking import MOST_LOOKS, Look, Time, look_at_class
from enrollments.actions.preview.loose import Loose
from enrollments.actions.preview.outcomes import Decider, Known
from enrollments.actions.preview.secrets import read_key_groups
from enrollments.actions.preview.touched import (
    Entry,
    classes_of,
    in_portions,
    joined,
    known_devices,
    records_touched,
    still_there,
    touched_by,
    touched_classes,
    whom_it_touches,
    with_dates_judged,
)
from enrollments.actions.preview.world import (
    NOTHING_ABOVE,
    Individual,
    World,
    bars_of_keys,
    read_followed,
    read_individuals,
    read_individuals_of,
    read_leaf_bars,
    read_many_individuals,
)
from enrollments.actions.schedule import standing_now
from enrollments.collecting import without_collecting
from enrollments.models import ProvisioningService, RegistrationRecord
from enrollments.models.locks import rehearsal
from enrollments.models.switches import AsOf
from enrollments.policy.facts import Mechanism


def preview_of(
    service: ProvisioningService,
    change: Callable[[], Iterable[Entry]],
    entries: Sequence[Entry] = (),
    *,
    at: datetime | None = None,
    instead_of: Callable[[], object] | None = None,
    limits: Limits | None = None,
) -> Preview:
    """What `change` would do to the devices that are known. Raises whatever `change` raises.

    change: makes the change by its action, and returns the entries that it added, if any. It is run in a transaction
    that is taken back, and run again where there is much to look at. entries: those that it changes or deletes. The
    preview holds for the epoch that it names.
    at: what is decided at that time to come, with all that is scheduled until then, instead of now.
    instead_of: what the change is compared with, made and taken back likewise, if not with leaving all as it is.
    limits: as much as can be told at a glance, unless it is said.
    """
    with secret_read_once(), without_collecting():
        rehearsed = _Rehearsed(service, change, entries, Time.of(at), instead_of, limits or at_a_glance())
        return rehearsed.preview()


class _Rehearsed:
    """Both states of things: `before` and `after` the change, which is made anew for each portion of looks."""

    def __init__(
        self,
        service: ProvisioningService,
        change: Callable[[], Iterable[Entry]],
        entries: Sequence[Entry],
        time: Time,
        instead_of: Callable[[], object] | None,
        limits: Limits,
    ) -> None:
        self._service, self._entries, self._time, self._limits = service, entries, time, limits
        self._change, self._instead_of = change, instead_of
        self._before, self._after, self._loose = World(), World(), Loose.of(service, limits)
        self._touched = touched_by(entries)
        self._unexamined: set[str] = set()

    def preview(self) -> Preview:
        standing = standing_now(self._service)  # what is due by now is no part of the change
        as_of = self._time.as_of(standing)
        named = classes_of(self._service, self._limits, self._touched.group_pks, at=self._time.at)
        classes = map(look_at_class, named)
        # Looked at in any case: what a change adds is not known before it is made.
        first = list(islice(classes, MOST_LOOKS))
        instead = self._read_both(first)
        self._look(classes)
        kinds = self._sorted()
        self._before.individuals = self._individuals(as_of)
        records = self._records(kinds)
        for some in records:
            others = read_individuals_of(self._service, some, as_of)
            self._before.individuals = {**others, **self._before.individuals}
            bars = read_leaf_bars(self._service, some, as_of)
            self._before.leaf_bars = {**self._before.leaf_bars, **bars}
        strangers = self._strangers(kinds)
        for portion in in_portions(strangers):
            keys, spkis = [one.registration_key for one in portion], [one.leaf_spki for one in portion]
            others = read_many_individuals(
                self._service.individualenrollments.filter(registration_key__in=keys), as_of
            )
            self._before.individuals = {**others, **self._before.individuals}
            self._before.leaf_bars |= bars_of_keys(self._service, spkis, as_of)
        changed = self._before.changed(self._touched.keys, self._after)
        if instead is not None:
            self._before = self._before.changed(
                self._touched.keys, replace(self._before, individuals=instead)
            )
        known = chain.from_iterable(known_devices(some, self._before, self._after) for some in records)
        deciding = _Deciding(self._service, self._before, changed, kinds, self._unexamined)
        return Preview(standing.epoch, tuple(deciding.devices(chain(strangers, known))), deciding.beyond)

    # --- Reading and looking, in both ---------------------------------------------------------------

    def _read_both(self, looks: Sequence[Look]) -> dict[str, Individual] | None:
        """Returns the individuals as they are instead of before, if that is another state than that of now."""
        with _made(self._instead_of):
            self._before = self._world(looks)
            self._loose.read(self._service, self._touched)
            instead = self._individuals(self._as_of()) if self._instead_of else None
        with self._changed():
            self._after = self._world(looks)
            self._after.gone = self._touched.group_pks - touched_by(still_there(self._entries)).group_pks
            self._after.individuals = self._individuals(self._as_of())
            self._loose.read(self._service, self._touched)
        return instead

    def _look(self, looks: Iterable[Look], deadline: float = float("inf")) -> None:
        """Above these as well, in portions; above some of them only, if there is no time."""
        every = iter(looks)
        while some := list(islice(every, MOST_LOOKS)):
            if monotonic() > deadline:
                self._unexamined.update(one.registration_key for one in some)
                continue
            seen = []
            with self._changed():
                for one in some:
                    if monotonic() > deadline:
                        self._unexamined.add(one.registration_key)
                    else:
                        self._after.above[one.evidence] = one.above(self._service, self._time)
                        seen.append(one)
            with _made(self._instead_of):
                for one in seen:
                    self._before.above[one.evidence] = one.above(self._service, self._time)

    @contextmanager
    def _changed(self) -> Iterator[None]:
        with rehearsal():
            added = list(self._change())
            # On PostgreSQL what is added has another number each time.
            self._touched = joined(self._touched, touched_by([*still_there(self._entries), *added]))
            yield

    def _world(self, looks: Iterable[Look]) -> World:
        standing = ProvisioningService.what_decisions_read(self._service.pk)
        return World(
            above={one.evidence: one.above(self._service, self._time) for one in looks},
            key_groups=read_key_groups(self._service, self._time.as_of(standing)),
            key_groups_admit=standing.groups_with_keys_admit,
            followed=read_followed(self._service),
        )

    def _as_of(self) -> AsOf:
        return self._time.as_of(ProvisioningService.what_decisions_read(self._service.pk))

    def _individuals(self, as_of: AsOf) -> dict[str, Individual]:
        rows = self._service.individualenrollments.filter(registration_key__in=self._touched.keys)
        return read_individuals(rows, as_of)

    # --- Devices of no class, and those that share with nobody ------------------------------------------

    def _sorted(self) -> Kinds:
        """Which kinds there are, and what lies above them and above those that are alone."""
        kinds = self._loose.sorted(self._time, self._limits.deadline())
        self._unexamined |= kinds.unexamined
        self._before.above[BARE] = self._after.above[BARE] = NOTHING_ABOVE
        self._look(kinds.looks.values())
        for kind in kinds.looks:
            if not all(world.above[kind].is_shared for world in (self._before, self._after)):
                kinds.split(kind)
        alone = [*kinds.alone, *(key for key in self._of_unshared_classes() if key not in kinds.alone)]
        self._unexamined.update(alone[self._limits.singly :] if self._limits.singly is not None else ())
        chosen = alone[: self._limits.singly]
        self._look(self._loose.alone(self._service, chosen), self._limits.deadline())
        kinds.evidence |= {key: f"alone {key}" for key in chosen if key not in self._unexamined}
        return kinds

    def _of_unshared_classes(self) -> Iterator[str]:
        """Of whom something will be told."""
        worlds = self._before, self._after
        unshared = {name for world in worlds for name, above in world.above.items() if not above.is_shared}
        records = self._service.registrations.filter(evidence_class__in=unshared)
        records = records.filter(whom_it_touches(self._touched, *worlds)).order_by("-updated_at")
        yield from records.values_list("registration_key", flat=True).iterator() if unshared else ()

    def _records(self, kinds: Kinds) -> "list[QuerySet[RegistrationRecord]]":
        worlds = self._before, self._after
        records = records_touched(self._service, self._touched, *worlds, self._time.at)
        keys = self._moved(kinds) - self._loose.strangers.keys()
        judged = with_dates_judged(self._service.registrations.all(), self._time.at)
        return [*records, *(judged.filter(registration_key__in=some) for some in in_portions(keys))]

    def _strangers(self, kinds: Kinds) -> list[Known]:
        moved, found = self._moved(kinds), []
        for key, (name, pems) in self._loose.strangers.items():
            leaf = parsed(pems[0])
            thumbprint, spki = leaf.thumbprint_sha256, leaf.spki_sha256
            is_touched = key in self._touched.keys or spki in self._touched.spkis
            if is_touched or key in moved:
                found.append(Known(key, name, Mechanism.X509, BARE, thumbprint, spki))
        return found

    def _moved(self, kinds: Kinds) -> set[str]:
        """Devices above which something changes, among those that have no class; and whoever was not looked at."""
        moved = touched_classes(self._touched, self._before, self._after)
        return {key for key, kind in kinds.evidence.items() if kind in moved} | self._unexamined


class _Deciding:
    """Decides about devices, each once. `beyond`: how many there are of whom nothing is said."""

    def __init__(
        self,
        service: ProvisioningService,
        before: World,
        after: World,
        kinds: Kinds,
        unexamined: Collection[str],
    ) -> None:
        self._holders = Holders(service)
        self._before, self._after, self._kinds, self._unexamined = before, after, kinds, unexamined
        self._told: set[str] = set()
        self.beyond = 0

    def devices(self, known: Iterable[Known]) -> Iterator[Device]:
        deciders = Decider(self._before), Decider(self._after)
        for one in chain(known, self._known_by_secrets()):
            if one.registration_key in self._told:
                continue
            self._told.add(one.registration_key)
            placed = self._placed(one)
            if placed is None:
                self.beyond += 1
            elif not placed.is_judgeable:
                yield Device(placed.registration_id, None, None)
            else:
                outcomes = (decider.outcome(placed) for decider in deciders)
                yield self._holders.device(placed, (self._before, self._after), outcomes)
        yield from self._known_by_name_alone()

    def _placed(self, one: Known) -> Known | None:
        """With the name under which what lies above it was looked at; None where nothing was."""
        key = one.registration_key
        if one.mechanism is not Mechanism.X509:
            return one
        if key in self._unexamined:
            return None
        if (kind := self._kinds.evidence.get(key)) is not None:
            return replace(one, evidence=kind, problem=self._kinds.problems.get(key))
        return one if not is_signed(one.evidence) or one.evidence in self._before.above else None

    def _individuals(self) -> dict[str, Individual]:
        return {**self._after.individuals, **self._before.individuals}

    def _known_by_secrets(self) -> Iterator[Known]:
        """The devices of individual enrollments that never registered, and hold the keys that are enrolled for them."""
        for key, one in self._individuals().items():
            if one.secrets and key not in self._told:
                yield Known(key, one.ref.name, one.mechanism, readings=(one.secrets,))

    def _known_by_name_alone(self) -> Iterator[Device]:
        """A deny entry may be of a device that never showed anything."""
        for key, one in self._individuals().items():
            if key not in self._told:
                yield Device(one.ref.name, None, None)


@contextmanager
def _made(change: Callable[[], object] | None) -> Iterator[None]:
    """Inside, that is done; or nothing, and then nothing is locked."""
    if change is None:
        yield
        return
    with rehearsal():
        change()
        yield
