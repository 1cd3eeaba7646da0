"""Rehearsing a change: what is decided about the devices that it touches, before it and after it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import chain, islice
from time import monotonic

from django.db.models import QuerySet

from enrollments.actions.attempts_certificates import Came, looked_at_from
from enrollments.actions.evidence import is_signed
from enrollments.actions.key_identifiers import secret_read_once
from enrollments.actions.preview.alike import Alike
from enrollments.actions.preview.besides import Besides
from enrollments.actions.preview.credentials import (
    device_at,
    enrolled_for,
    is_settled,
    keys_enrolled,
    place_of,
    together,
    with_derived,
)
from enrollments.actions.preview.effects import Device, Preview
from enrollments.actions.preview.holders import Holders
from enrollments.actions.preview.kinds import BARE, Kinds
from enrollments.actions.preview.limits import Limits, at_a_glance
from enrollments.actions.preview.looking import MOST_LOOKS, Look, Time, alone_name, look_at_class
from enrollments.actions.preview.loose import Loose
from enrollments.actions.preview.outcomes import Decider, Known
from enrollments.actions.preview.secrets import read_key_groups
from enrollments.actions.preview.touched import (
    MAX_NAMED,
    Entry,
    Row,
    classes_of,
    in_portions,
    joined,
    known_device,
    read_rows,
    records_touched,
    secrets_of_groups,
    still_there,
    touched_by,
    touched_classes,
    touched_key_groups,
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
from enrollments.actions.times_to_come import NO_TIMES, TimesToCome, times_to_come
from enrollments.collecting import without_collecting
from enrollments.models import ProvisioningService, RegistrationEvidence, RegistrationRecord
from enrollments.models.locks import rehearsal
from enrollments.models.switches import NO_TIME, AsOf
from enrollments.policy.facts import Mechanism


def preview_of(
    service: ProvisioningService,
    change: Callable[[], Iterable[Entry]],
    entries: Sequence[Entry] = (),
    *,
    at: datetime | None = None,
    instead_of: Callable[[], object] | None = None,
    limits: Limits | None = None,
    undoes: bool = False,
) -> Preview:
    """What `change` would do to the devices that are known. Raises whatever `change` raises.

    change: makes the change by its action, and returns the entries that it added, if any. It is run in a transaction
    that is taken back, and run again where there is much to look at. entries: those that it changes or deletes. The
    preview holds for the epoch that it names.
    at: what is decided at that time to come, with all that is scheduled until then, instead of now.
    instead_of: what the change is compared with, made and taken back likewise, if not with leaving all as it is.
    limits: as much as can be told at a glance, unless it is said.
    undoes: the change takes back what was done a moment ago, and told is what that did: from what is so after the
    change to what is so before it.
    """
    with secret_read_once(), without_collecting():
        rehearsed = _Rehearsed(service, change, entries, Time.of(at), instead_of, limits or at_a_glance())
        return rehearsed.preview(undoes=undoes)


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
        # Before anything is read that the epoch is about; what is due by now is no part of the change.
        self._standing = standing_now(service)
        self._change, self._instead_of = change, instead_of
        self._before, self._after, self._loose = World(), World(), Loose.of(service, limits, time.at)
        self._touched = touched_by(entries)
        self._unexamined: set[str] = set()
        self._times = NO_TIMES

    def preview(self, *, undoes: bool) -> Preview:
        standing = self._standing
        as_of = self._time.as_of(standing)
        touched = self._touched
        named = classes_of(
            self._service, self._limits, touched.group_pks, at=self._time.at, bars=touched.spkis
        )
        classes = map(look_at_class, named)
        # Looked at in any case: what a change adds is not known before it is made.
        first = list(islice(classes, MOST_LOOKS))
        instead = self._read_both(first)
        self._look(classes)
        kinds = self._sorted(self._loose, self._of_unshared_classes())
        self._before.individuals = self._individuals(as_of)
        moved = self._moved(kinds)
        about = self._touched_besides(moved)
        records, recorded = self._records(moved, about)
        for some in records:
            theirs = read_individuals_of(self._service, some, as_of)
            self._before.individuals = {**theirs, **self._before.individuals}
            bars = read_leaf_bars(self._service, some, as_of)
            self._before.leaf_bars = {**self._before.leaf_bars, **bars}
        besides = self._loose.known(about)
        for keys in in_portions(besides.places.keys() - recorded):
            rows = self._service.individualenrollments.filter(registration_key__in=keys)
            self._before.individuals = {**read_many_individuals(rows, as_of), **self._before.individuals}
        self._before.leaf_bars |= bars_of_keys(self._service, self._loose.keys.keys(), as_of)
        changed = self._before.changed(self._touched.keys, self._after)
        if instead is not None:
            self._before = self._before.changed(
                self._touched.keys, replace(self._before, individuals=instead)
            )
        known = chain.from_iterable(map(read_rows, records))
        worlds = (changed, self._before) if undoes else (self._before, changed)
        deciding = _Deciding(self._service, worlds, kinds, self._unexamined)
        deciding.besides, deciding.about = besides, sorted(about | self._touched.keys)
        deciding.enrolled = self._loose.enrolled
        deciding.brought = self._loose.taken if undoes else self._loose.brought
        deciding.look_besides = partial(self._look_besides, as_of, kinds, worlds)
        out_until = next(iter(self._times.letting_in), None)
        since = looked_at_from(self._service, self._limits.attempts)
        devices = tuple(deciding.devices(known))
        return Preview(standing.epoch, devices, deciding.beyond, out_until, since, self._times)

    # --- Reading and looking, in both ---------------------------------------------------------------

    def _read_both(self, looks: Sequence[Look]) -> dict[str, Individual] | None:
        """Returns the individuals as they are instead of before, if that is another state than that of now."""
        with _made(self._instead_of):
            self._before = self._world(looks)
            self._loose.read(self._service, self._touched, is_after=False)
            instead = self._individuals(self._as_of()) if self._instead_of else None
            self._times = self._times_to_come()
        with self._changed():
            self._after = self._world(looks)
            self._after.gone = self._touched.group_pks - touched_by(still_there(self._entries)).group_pks
            self._after.individuals = self._individuals(self._as_of())
            self._loose.read(self._service, self._touched, is_after=True)
            # What the change adds has dates and a switch of its own.
            self._times = self._times.joined(self._times_to_come())
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

    def _times_to_come(self) -> TimesToCome:
        if self._time.to_come in NO_TIME:
            return NO_TIMES
        standing, touched = ProvisioningService.what_decisions_read(self._service.pk), self._touched
        return times_to_come(
            self._service, standing, touched.keys, touched.group_pks, after=self._time.to_come
        )

    def _as_of(self) -> AsOf:
        return self._time.as_of(ProvisioningService.what_decisions_read(self._service.pk))

    def _individuals(self, as_of: AsOf) -> dict[str, Individual]:
        rows = self._service.individualenrollments.filter(registration_key__in=self._touched.keys)
        return read_individuals(rows, as_of)

    # --- Devices of no class, and those that share with nobody ------------------------------------------

    def _sorted(self, loose: Loose, besides: Iterable[str]) -> Kinds:
        """Which kinds there are, and what lies above them and above those that are alone. besides: who is alone too."""
        kinds = loose.sorted(self._time, self._limits.deadline())
        self._before.above[BARE] = self._after.above[BARE] = NOTHING_ABOVE
        kinds.keep_largest(self._limits.classes)
        self._unexamined |= kinds.unexamined
        looks = [one for kind, one in kinds.looks.items() if kind not in self._before.above]
        self._look(looks)
        for kind in kinds.looks:
            if not all(world.above[kind].is_shared for world in (self._before, self._after)):
                kinds.split(kind)
        alone = list(dict.fromkeys([*kinds.alone, *besides]))  # each once: there is a limit
        self._unexamined.update(alone[self._limits.singly :] if self._limits.singly is not None else ())
        chosen = alone[: self._limits.singly]
        self._look(loose.alone(self._service, chosen), self._limits.deadline())
        kinds.evidence |= {key: alone_name(key) for key in chosen if key not in self._unexamined}
        return kinds

    def _look_besides(
        self, as_of: AsOf, kinds: Kinds, worlds: tuple[World, World], pins: Mapping[str, Collection[str]]
    ) -> Besides:
        """Above certificates that entries hold for devices, which the change is not about. pins: which of each."""
        found: dict[str, Came] = {}
        for keys in in_portions(pins):
            for key, thumbprint, came in enrolled_for(self._service, keys):
                if thumbprint in pins[key]:
                    found[place_of(key, thumbprint)] = came
        loose = Loose(found)
        loose.find_signers(self._service, RegistrationEvidence.objects.none())
        sorted_ = self._sorted(loose, ())
        kinds.evidence |= sorted_.evidence
        kinds.problems |= sorted_.problems
        known = loose.known(pins)
        for some in in_portions(loose.keys):
            bars = bars_of_keys(self._service, some, as_of)
            for world in worlds:
                # Whatever the change bars or ceases to bar was looked at before.
                world.leaf_bars = {**bars, **world.leaf_bars}
        return known

    def _of_unshared_classes(self) -> Iterator[str]:
        """Of whom something will be told."""
        worlds = self._before, self._after
        unshared = {name for world in worlds for name, above in world.above.items() if not above.is_shared}
        if not unshared:
            return
        records = self._service.registrations.filter(evidence_class__in=unshared).order_by("-updated_at")
        touched = records.filter(whom_it_touches(self._touched, *worlds))
        yield from touched.values_list("registration_key", flat=True).iterator()
        # And those who are told about for another credential of theirs.
        for some in in_portions(
            {*self._touched.keys, *map(device_at, self._loose.strangers), *self._loose.signed}
        ):
            others = records.filter(registration_key__in=some)
            yield from others.values_list("registration_key", flat=True)

    def _records(
        self, moved: set[str], about: set[str]
    ) -> "tuple[list[QuerySet[RegistrationRecord]], set[str]]":
        """Of whom the change is about; and the registration keys of some of them, where many would be named twice."""
        worlds = self._before, self._after
        records = records_touched(self._service, self._touched, *worlds, self._time.at)
        keys = about.union(moved.difference(self._loose.strangers)) - self._touched.keys
        recorded: set[str] = set()
        if len(keys) > MAX_NAMED:
            recorded = self._loose.of_classes(touched_classes(self._touched, *worlds))
        judged = with_dates_judged(self._service.registrations.all(), self._time.at)
        named = (judged.filter(registration_key__in=some) for some in in_portions(keys - recorded))
        return [*records, *named], recorded

    def _touched_besides(self, moved: set[str]) -> set[str]:
        """Registration keys of devices that are touched by what no record has of them."""
        key_groups = touched_key_groups(self._touched, self._before, self._after)
        return self._loose.touched(self._touched, moved, key_groups)

    def _moved(self, kinds: Kinds) -> set[str]:
        """Devices above which something changes, among those that have no class; and whoever was not looked at."""
        moved = touched_classes(self._touched, self._before, self._after)
        return {key for key, kind in kinds.evidence.items() if kind in moved} | self._unexamined


class _Deciding:
    """Decides about devices, each once. `beyond`: how many there are of whom nothing is said.

    about: registration keys of devices that are told about, be there a record or not. besides: what devices are known
    by besides their records. enrolled: the places of what is known by entries alone. brought: of what only the change
    enrolls.
    """

    def __init__(
        self,
        service: ProvisioningService,
        worlds: tuple[World, World],
        kinds: Kinds,
        unexamined: Collection[str],
    ) -> None:
        self._holders, self._worlds = Holders(service), worlds
        self._deciders = Decider(worlds[0]), Decider(worlds[1])
        self._kinds, self._unexamined = kinds, unexamined
        self._of_groups = secrets_of_groups(worlds)
        self._told: set[str] = set()
        self.besides = Besides()
        self.about: Collection[str] = ()
        self.enrolled: Collection[str] = ()
        self.brought: Collection[str] = ()
        self.look_besides: Callable[[Mapping[str, Collection[str]]], Besides]
        self.beyond = 0

    def devices(self, rows: Iterable[Row]) -> Iterator[Device]:
        """rows: the records of devices."""
        about: Iterable[tuple[str, Row | None]] = chain(
            ((row[0], row) for row in rows), ((key, None) for key in self.about)
        )
        alike = self._alike()
        late: dict[str, tuple[Known | None, Device | None]] = {}
        pins: dict[str, Collection[str]] = {}
        for key, row in about:
            if key in self._told:
                continue
            self._told.add(key)
            if row is not None and (likeness := alike.likeness(row)) is not None:
                if (device := alike.device(row, likeness)) is not None:
                    yield device
                else:
                    self.beyond += 1
                continue
            recorded = self._known(row) if row is not None else None
            decided = self._decided(recorded) if recorded is not None else None
            if decided is not None and self._is_settled(decided, key):
                yield decided
            elif unseen := self._unseen(key, recorded):
                late[key], pins[key] = (recorded, decided), unseen
            else:
                yield from self._told_of(key, recorded, decided)
        if late:
            self.besides.add(self.look_besides(pins))
        for key, (recorded, decided) in late.items():
            yield from self._told_of(key, recorded, decided)

    def _known(self, row: Row) -> Known:
        return known_device(row, self._of_groups, self._worlds)

    def _alike(self) -> Alike:
        individuals = [world.individuals for world in self._worlds]
        apart: set[str] = set().union(self._kinds.evidence, self._unexamined, *individuals)
        return Alike(self._worlds, apart, self._kinds, self._unexamined, self.besides, self._by_all)

    def _by_all(self, row: Row) -> Device | None:
        """By all that is known of a device without an individual enrollment."""
        recorded = self._known(row)
        decided = self._decided(recorded)
        if decided is not None and self._is_settled(decided, row[0]):
            return decided
        return self._device(row[0], recorded, decided)

    def _is_settled(self, decided: Device, key: str) -> bool:
        is_last = all(one.is_former or one.place in self.enrolled for one in self.besides.of(key))
        return self._is_all(key) or is_settled(decided, key, self._worlds, is_last=is_last)

    def _is_all(self, key: str) -> bool:
        """Whether the device is known by its record alone, as most are."""
        return key not in self.besides.places and not any(key in world.individuals for world in self._worlds)

    def _unseen(self, key: str, recorded: Known | None) -> frozenset[str]:
        """What else an entry pins that the change is not about."""
        own = self._worlds[0].individuals.get(key)
        if own is None:
            return frozenset()
        seen = (recorded, *self.besides.of(key))
        return own.pins.difference(one.leaf_thumbprint for one in seen if one is not None)

    def _told_of(self, key: str, recorded: Known | None, decided: Device | None) -> Iterator[Device]:
        device = self._device(key, recorded, decided)
        if device is None:
            self.beyond += 1
        else:
            yield device

    def _device(self, key: str, recorded: Known | None, decided: Device | None) -> Device | None:
        """What all that is known of it makes of it. None: it was not examined."""
        before, after = (world.individuals.get(key) for world in self._worlds)
        others = self.besides.of(key)
        if recorded is not None:
            others = [replace(one, holder=recorded.holder) for one in others]
        if before is not None or after is not None:
            groups = [group for world in self._worlds for group in world.key_groups.values()]
            others = [with_derived(one, groups) for one in others]
        held, brought = keys_enrolled(key, before, after)
        brought += [one for one in others if one.place in self.brought]
        shown = [one for one in others if one.place not in self.enrolled]
        since = [one for one in shown if not one.is_former]
        former = [one for one in shown if one.is_former]
        last = [] if recorded is None else [decided]
        held += [one for one in others if one.place in self.enrolled and one.place not in self.brought]
        known = [*map(self._decided, since), *last, *map(self._decided, former)]
        if not known and not held and not brought:
            own = before or after
            return Device(own.ref.name if own is not None else key, None, None)
        name = next(one for one in (recorded, *others, *held, *brought) if one is not None).registration_id
        return together(name, known, list(map(self._decided, held)), list(map(self._decided, brought)))

    def _decided(self, one: Known) -> Device | None:
        placed = self._placed(one)
        if placed is None:
            return None
        if not placed.is_judgeable:
            return Device(placed.registration_id, None, None)
        outcomes = (decider.outcome(placed) for decider in self._deciders)
        return self._holders.device(placed, self._worlds, outcomes)

    def _placed(self, one: Known) -> Known | None:
        """With the name under which what lies above it was looked at; None where nothing was."""
        key = one.looked_at_as
        if one.mechanism is not Mechanism.X509:
            return one
        if key in self._unexamined:
            return None
        if (kind := self._kinds.evidence.get(key)) is not None:
            return replace(one, evidence=kind, problem=self._kinds.problems.get(key))
        return one if not is_signed(one.evidence) or one.evidence in self._worlds[0].above else None


@contextmanager
def _made(change: Callable[[], object] | None) -> Iterator[None]:
    """Inside, that is done; or nothing, and then nothing is locked."""
    if change is None:
        yield
        return
    with rehearsal():
        change()
        yield
