"""Random forests of CAs, groups and individuals: the decision equals a slow, obvious second formulation of R5 to R8.

The second formulation knows who signed what because the test minted it; it checks no signature and asks no index.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random

import pytest
from cryptography.x509 import BasicConstraints
from django.db.models import Case, Value, When
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enrollments.actions.explaining import Question, explain
from enrollments.actions.judging import judge
from enrollments.actions.registrations import Outcome
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import Slot
from enrollments.policy.decision import Verdict
from enrollments.policy.reasons import Reason
from tests.certificates import EXPIRED, Minted, mint, new_key
from tests.devices import (
    demand_proof,
    enroll_ca,
    enroll_device,
    enroll_keys,
    new_service,
    prove,
    register,
)

pytestmark = pytest.mark.django_db

FORESTS = 24
MOST_CAS, MOST_LEVELS, MOST_LEAVES = 8, 4, 12
DEVICES = ("dev-a", "dev-b")
# Minted once; which certificate has which is the forest's to choose.
KEYS = tuple(new_key() for _ in range(MOST_CAS + MOST_LEAVES))


class Forest:
    """CAs in levels, and devices below them. The same number makes the same forest, but for serial numbers.

    Each CA is a key with a name, on a level; its first certificate comes from a level above, or from itself. Then
    some are cross-signed by any other CA, some issued again: to the same name or to another one, expired, or for
    short paths only. Two CAs may have one name and different keys, as after a CA has changed its key.
    """

    def __init__(self, number: int) -> None:
        self.chance = Random(number)
        self.cas: dict[str, Minted] = {}
        self.levels: dict[str, int] = {}
        self.cross_signed: set[str] = set()
        self._plant()
        self._interbreed()
        self.leaves: dict[str, Minted] = {}
        self._grow_leaves()
        names: dict[int, set[str]] = {}
        for ca in self.cas.values():
            names.setdefault(id(ca.key), set()).add(name_of(ca))
        # What an individual may hold. Certificates of devices are looked up by name and key, and not by the key
        # identifier that they claim, so a CA that has gone under several names is left to the groups.
        self.pinnable = self.leaves | {
            label: ca for label, ca in self.cas.items() if len(names[id(ca.key)]) == 1
        }

    def _plant(self) -> None:
        count = self.chance.randint(2, MOST_CAS)
        for number in range(count):
            deepest = max(self.levels.values(), default=-1)
            level = min(self.chance.choice((0, 1, 1, 2, 2, 3, 3)), deepest + 1, MOST_LEVELS - 1)
            above = [ca for label, ca in self.cas.items() if self.levels[label] == level - 1]
            name = f"ca-{self.chance.choice((number, number, number, self.chance.randrange(count)))}"
            ca = self._issue(name, KEYS[number], self.chance.choice(above) if above else None)
            self._add(f"ca {number}", ca, level)

    def _interbreed(self) -> None:
        for number in range(self.chance.randint(2, MOST_CAS + 2)):
            label = self.chance.choice(list(self.cas))
            ca, issuer = self.cas[label], self._issuer_for(label)
            match self.chance.choice(("cross-signed",) * 5 + ("issued again", "renamed", "self-signed")):
                case "cross-signed" if issuer.key is not ca.key:
                    self._add(
                        f"{label} x{number}", self._issue(name_of(ca), ca.key, issuer), self.levels[label]
                    )
                    self.cross_signed.add(f"{label} x{number}")
                case "renamed" if issuer.key is not ca.key:
                    renamed = self._issue(f"{name_of(ca)}-bis", ca.key, issuer)
                    self._add(f"{label} n{number}", renamed, self.levels[label])
                case "self-signed":
                    self._add(
                        f"{label} s{number}", self._issue(name_of(ca), ca.key, None), self.levels[label]
                    )
                case _:
                    again = self._issue(name_of(ca), ca.key, ca.issuer)
                    self._add(f"{label} r{number}", again, self.levels[label])

    def _issuer_for(self, label: str) -> Minted:
        """Mostly of a level above, which makes a mesh; else of any, which makes loops too."""
        above = [ca for other, ca in self.cas.items() if self.levels[other] < self.levels[label]]
        return self.chance.choice(above if above and self.chance.random() < 0.8 else list(self.cas.values()))

    def _issue(self, name: str, key: object, issuer: Minted | None) -> Minted:
        dates = EXPIRED if self.chance.random() < 0.08 else {}
        path_length = self.chance.choice((None,) * 8 + (0, 1))
        return mint(name, key=key, issuer=issuer, ca=True, path_length=path_length, **dates)

    def _add(self, label: str, ca: Minted, level: int) -> None:
        self.cas[label], self.levels[label] = ca, level

    def _grow_leaves(self) -> None:
        for number in range(self.chance.randint(6, MOST_LEAVES)):
            # Few keys for many leaves: two devices with one key, and one whose key is also a CA's.
            key = KEYS[self.chance.choice((MOST_CAS + number, MOST_CAS + number, MOST_CAS, 0))]
            deep = [ca for label, ca in self.cas.items() for _ in range(1 + 2 * self.levels[label])]
            issuer = self.chance.choice([None, *deep])
            dates = EXPIRED if self.chance.random() < 0.1 else {}
            leaf = mint(self.chance.choice(DEVICES), key=key, issuer=issuer, **dates)
            self.leaves[f"leaf {number}"] = leaf


@functools.cache
def forest(number: int) -> Forest:
    return Forest(number)


def name_of(one: Minted) -> str:
    """The common name, which the test itself has given."""
    return one.certificate.subject.rfc4514_string().removeprefix("CN=")


def issuer_name_of(one: Minted) -> str:
    return one.certificate.issuer.rfc4514_string().removeprefix("CN=")


def same_ca(one: Minted, other: Minted) -> bool:
    return name_of(one) == name_of(other) and same_key(one, other)


def same_key(one: Minted, other: Minted) -> bool:
    return one.key is other.key


def signed(ca: Minted, child: Minted) -> bool:
    return (child.issuer or child).key is ca.key


def is_valid_now(one: Minted) -> bool:
    return one.certificate.not_valid_before_utc <= timezone.now() <= one.certificate.not_valid_after_utc


@dataclass(frozen=True)
class Group:
    """Labels of CAs: one or two that are enrolled, and helpers."""

    enrolled: tuple[str, ...]
    helpers: tuple[str, ...]
    enabled: bool


@dataclass(frozen=True)
class Individual:
    """`pinned`: labels of one or two certificates of one name; none where it holds keys and has the name given."""

    name: str
    pinned: tuple[str, ...]
    enabled: bool


@dataclass(frozen=True)
class World:
    """What is enrolled, in the order of enrolling, and what a device sends, its leaf first.

    proofs: labels of CAs of whose key possession is proven. demanded: whether the service demands that of groups.
    """

    forest: int
    groups: tuple[Group, ...]
    individuals: tuple[Individual, ...]
    sent: tuple[str, ...]
    proofs: tuple[str, ...] = ()
    demanded: bool = False


def world_of(seed: int) -> World:
    """By plain chance: what hypothesis draws piece by piece is nearly always nearly nothing."""
    chance = Random(seed)
    number = chance.randrange(FORESTS)
    grown = forest(number)
    leaf = chance.choice([*list(grown.leaves) * 6, *grown.cas])
    chain = above(grown, leaf)
    # Mostly of what the leaf was issued through, so that there is something to decide.
    likely = [*chain * 2, *chain[-1:] * 4, *reachable(grown, leaf) * 2, *grown.cas]
    sent = chance.choice((chain, chain, chain[:1], [], []))
    groups = settled_groups(grown, some_groups(chance, grown, chain, likely))
    return World(
        number,
        groups,
        settled_individuals(grown, some_individuals(chance, grown, (leaf, *chain))),
        (leaf, *dict.fromkeys([*sent, *some(chance, likely, (0, 0, 1, 3))])),
        # Mostly of what is enrolled, or of another certificate of its name and key.
        some(chance, [*[label for one in groups for label in one.enrolled] * 3, *likely], (0, 1, 1, 2)),
        demanded=chance.random() < 0.3,
    )


def some_groups(chance: Random, grown: Forest, chain: list[str], likely: list[str]) -> list[Group]:
    if (found := rivals(grown, chain)) and chance.random() < 0.4:
        siblings, issuers = found
        return [Group((issuer,), siblings, enabled=True) for issuer in some(chance, issuers, (3,))]
    return [
        Group(
            enrolled=some(chance, likely, (1, 1, 2)),
            helpers=chance.choice((tuple(chain), some(chance, likely, (0, 1, 2)))),
            # A disabled group settles most worlds; what enabled ones do is seen where there are few of those.
            enabled=chance.random() < 0.8,
        )
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 4)))
    ]


def some_individuals(chance: Random, grown: Forest, path: tuple[str, ...]) -> list[Individual]:
    """Mostly about the leaf, and about keys on its path that somebody else holds too."""
    everything = grown.cas | grown.leaves
    keys = {id(everything[label].key) for label in path}
    kin = [label for label, one in grown.pinnable.items() if id(one.key) in keys]
    likely = [*grown.pinnable, *kin * 4, *[label for label in path[:1] * 9 if label in grown.pinnable]]
    individuals = [
        Individual(chance.choice(DEVICES), some(chance, likely, (0, 1, 2)), enabled=chance.random() < 0.5)
        for _ in range(chance.choice((0, 0, 0, 1, 2)))
    ]
    if kin and chance.random() < 0.3:
        second = chance.choice(kin)
        name = name_of(grown.pinnable[second])
        namesakes = [label for label, one in grown.pinnable.items() if name_of(one) == name]
        pinned = (chance.choice(namesakes), second)
        individuals.insert(0, Individual(name, pinned, enabled=chance.random() < 0.4))
    return individuals


worlds = st.integers(0, 2**64 - 1).map(world_of)


def some(chance: Random, labels: list[str], numbers: tuple[int, ...]) -> tuple[str, ...]:
    """That many of them, the same one at most once."""
    return tuple(dict.fromkeys(chance.choice(labels) for _ in range(chance.choice(numbers))))


def above(grown: Forest, leaf: str) -> list[str]:
    """The labels of the certificates through which this one was issued."""
    everything = grown.cas | grown.leaves
    labels = {id(one): label for label, one in everything.items()}
    found, one = [], everything[leaf].issuer
    while one is not None:
        found.append(labels[id(one)])
        one = one.issuer
    return found


def reachable(grown: Forest, leaf: str) -> list[str]:
    """The labels of all CAs of whose key and name something is signed on the way up, cross-signed or not."""
    found, ends = [], [(grown.cas | grown.leaves)[leaf]]
    while ends:
        child = ends.pop()
        for label, ca in grown.cas.items():
            if label not in found and issuer_name_of(child) == name_of(ca) and signed(ca, child):
                found.append(label)
                ends.append(ca)
    return found


def rivals(grown: Forest, chain: list[str]) -> tuple[tuple[str, ...], list[str]] | None:
    """All certificates of a CA on the chain that several others have signed, and those others."""
    for label in chain:
        siblings = tuple(other for other, ca in grown.cas.items() if same_ca(ca, grown.cas[label]))
        parents = {
            (name_of(issuer), id(issuer.key)): other
            for sibling in siblings
            for other, issuer in grown.cas.items()
            if other not in siblings
            and issuer_name_of(grown.cas[sibling]) == name_of(issuer)
            and signed(issuer, grown.cas[sibling])
        }
        if len(parents) > 1:
            return siblings, list(parents.values())
    return None


def settled_groups(grown: Forest, groups: list[Group]) -> tuple[Group, ...]:
    """One name and key belongs to one group (R7): the later group that has it too is left out."""
    kept: list[Group] = []
    for group in groups:
        taken = [grown.cas[label] for other in kept for label in other.enrolled]
        if not any(same_ca(grown.cas[label], other) for label in group.enrolled for other in taken):
            kept.append(group)
    return tuple(kept)


def settled_individuals(grown: Forest, individuals: list[Individual]) -> tuple[Individual, ...]:
    """The first certificate gives the name, the second has the same one, and each name is there once (R2)."""
    kept: dict[str, Individual] = {}
    for one in individuals:
        name = name_of(grown.pinnable[one.pinned[0]]) if one.pinned else one.name
        pinned = tuple(label for label in dict.fromkeys(one.pinned) if name_of(grown.pinnable[label]) == name)
        kept.setdefault(name, Individual(name, pinned, one.enabled))
    return tuple(kept.values())


class SecondFormulation:
    def __init__(self, world: World) -> None:
        grown = forest(world.forest)
        everything = grown.cas | grown.leaves
        self.groups = [([grown.cas[label] for label in one.enrolled], one.enabled) for one in world.groups]
        self.individuals = {
            one.name: ([everything[label] for label in one.pinned], one.enabled) for one in world.individuals
        }
        self.proofs = [grown.cas[label] for label in world.proofs]
        self.demanded = world.demanded
        self.leaf, *sent = [everything[label] for label in world.sent]
        self.leaf_is_ca = world.sent[0] in grown.cas
        self.barred = [
            certificate
            for pinned, enabled in self.individuals.values()
            if not enabled
            for certificate in pinned
        ]
        held = [ca for enrolled, _ in self.groups for ca in enrolled]
        helpers = [grown.cas[label] for one in world.groups for label in one.helpers]
        self.at_hand = list(
            {id(one): one for one in (self.leaf, *sent, *held, *helpers, *self.barred)}.values()
        )
        self.cas = [one for one in self.at_hand if any(one is ca for ca in grown.cas.values())]

    def reached(self) -> list[Minted]:
        """R7: follow every signature, whatever dates and names."""
        reached = [self.leaf]
        while True:
            more = [
                one
                for one in self.at_hand
                if not any(one is seen for seen in reached)
                and any(same_key(one, seen) or signed(one, seen) for seen in reached)
            ]
            if not more:
                return reached
            reached += more

    def paths(self, tail: tuple[Minted, ...], ca: Minted) -> Iterator[int]:
        """Lengths of all valid paths to an enrolled CA, which stands in for whatever was sent of it."""
        top = tail[-1]
        if self.may_stand_above(ca, tail):
            yield len(tail)
        for one in self.cas:
            if self.may_stand_above(one, tail) and not any(same_ca(one, seen) for seen in (*tail, ca)):
                assert one is not top
                yield from self.paths((*tail, one), ca)

    @staticmethod
    def may_stand_above(ca: Minted, tail: tuple[Minted, ...]) -> bool:
        length = ca.certificate.extensions.get_extension_for_class(BasicConstraints).value.path_length
        return (
            issuer_name_of(tail[-1]) == name_of(ca)
            and signed(ca, tail[-1])
            and is_valid_now(ca)
            and (length is None or len(tail) - 1 <= length)
        )

    def may_admit(self, ca: Minted) -> bool:
        """Whether a group admits by this one of its CAs, as far as proofs of possession go."""
        return not self.demanded or any(same_ca(ca, proven) for proven in self.proofs)

    def lengths(self, *, admitting: bool = False) -> list[int | None]:
        """Of the shortest valid path to each group; `admitting`: by a CA that it may admit by."""
        return [
            None
            if self.leaf_is_ca
            else min(
                (
                    length
                    for ca in enrolled
                    if not admitting or self.may_admit(ca)
                    for length in self.paths((self.leaf,), ca)
                ),
                default=None,
            )
            for enrolled, _ in self.groups
        ]

    def verdict(self) -> Verdict:
        name = name_of(self.leaf)
        if not is_valid_now(self.leaf):
            return Verdict.UNAUTHORIZED
        pinned, own_enabled = self.individuals.get(name, ([], None))
        is_pinned = any(one is self.leaf for one in pinned)
        lengths = self.lengths()
        proven = is_pinned or any(length is not None for length in lengths)
        return self.decided(is_pinned, own_enabled) if proven else Verdict.UNAUTHORIZED

    def decided(self, is_pinned: bool, own_enabled: bool | None) -> Verdict:
        reached = self.reached()
        if any(same_key(one, seen) for one in self.barred for seen in reached):
            return Verdict.DISABLED
        if own_enabled is False:
            return Verdict.DISABLED
        if own_enabled is True:
            return Verdict.ADMIT if is_pinned else Verdict.UNAUTHORIZED
        for enrolled, enabled in self.groups:
            if not enabled and any(same_key(ca, seen) for ca in enrolled for seen in reached):
                return Verdict.DISABLED
        admits = any(length is not None for length in self.lengths(admitting=True))
        return Verdict.ADMIT if admits else Verdict.UNAUTHORIZED

    def admitting_group(self) -> int:
        """Fewest steps, then the group created first."""
        lengths = self.lengths(admitting=True)
        return min((length, index) for index, length in enumerate(lengths) if length is not None)[1]


_numbers = itertools.count()


def enroll(world: World, *, by_itself: bool):
    """The world in the database.

    by_itself: all switches are stored the other way round, and have been due since; the decision must not depend on
    whether somebody has turned them yet.
    """
    service = new_service(f"world-{next(_numbers)}")  # services know nothing of each other (R1)
    grown = forest(world.forest)
    slots = (Slot.PRIMARY, Slot.SECONDARY)
    for index, group in enumerate(world.groups):
        enrolled = [grown.cas[label] for label in group.enrolled]
        enroll_ca(
            service,
            enrolled[0],
            f"g-{index}",
            enabled=group.enabled,
            certificates={slot: ca.parsed for slot, ca in zip(slots, enrolled, strict=False)},
            helpers=tuple(grown.cas[label].parsed for label in group.helpers),
        )
    for one in world.individuals:
        if one.pinned:
            pinned = [grown.pinnable[label] for label in one.pinned]
            certificates = {slot: leaf.parsed for slot, leaf in zip(slots, pinned, strict=False)}
            enroll_device(service, pinned[0], enabled=one.enabled, certificates=certificates)
        else:
            enroll_keys(service, one.name, enabled=one.enabled)
    for index, label in enumerate(world.proofs):
        prove(service, grown.cas[label], f"ca-{index}")
    demand_proof(service, world.demanded)
    if by_itself:
        due = {"switches_at": timezone.now() - timedelta(seconds=1), "scheduled_by": "alice"}
        for entries in (service.enrollmentgroups, service.individualenrollments):
            entries.update(enabled=Case(When(enabled=True, then=Value(False)), default=Value(True)), **due)
    return service


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(world=worlds, by_itself=st.booleans())
def test_decision_equals_the_second_formulation(world, by_itself):
    service = enroll(world, by_itself=by_itself)
    expected = SecondFormulation(world)
    everything = forest(world.forest).cas | forest(world.forest).leaves
    credential = PresentedCredential(tuple(everything[label].der for label in world.sent))

    decision = judge(service, name_of(expected.leaf), credential, at=timezone.now()).decision

    assert decision.reason is not Reason.SEARCH_EXHAUSTED
    assert decision.verdict is expected.verdict(), decision.trace
    if decision.admitted and decision.entry.kind == "group":
        assert decision.entry.name == f"g-{expected.admitting_group()}"


# What each verdict sounds like to the device.
HEARD = {
    Verdict.ADMIT: Outcome.ASSIGNED,
    Verdict.DISABLED: Outcome.DISABLED,
    Verdict.UNAUTHORIZED: Outcome.UNAUTHORIZED,
}


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(world=worlds, by_itself=st.booleans())
def test_explanation_equals_the_live_answer_before_and_after(world, by_itself):
    service = enroll(world, by_itself=by_itself)
    everything = forest(world.forest).cas | forest(world.forest).leaves
    certificates = [everything[label] for label in world.sent]
    name = certificates[0].parsed.common_names[0]
    foretold = explain(service, Question(certificates=tuple(one.parsed for one in certificates)))

    answer = register(service, PresentedCredential(tuple(one.der for one in certificates)), name)

    told = explain(service, Question(tracking_id=answer.tracking_id))
    heard = Outcome.FAILED if foretold.fails else HEARD[foretold.verdict]
    assert answer.outcome is heard, foretold.steps
    assert told.verdict is foretold.verdict
    assert [step.said for step in told.steps][: len(foretold.steps)] == [step.said for step in foretold.steps]
    assert sum(step.decides for step in foretold.steps) == 1
    drawn = [*foretold.chain.path, *foretold.chain.aside]
    assert foretold.chain.path[0].certificate == certificates[0].parsed
    assert {one.certificate.thumbprint_sha256 for one in drawn if one.sent} == {
        one.parsed.thumbprint_sha256 for one in certificates
    }


def test_the_forests_are_what_the_property_is_worth():
    """It says little about forests and worlds that are all alike."""
    forests = [forest(number) for number in range(FORESTS)]
    verdicts: Counter[Verdict] = Counter()
    traits: Counter[str] = Counter()

    @settings(max_examples=1000, deadline=None, derandomize=True, database=None)
    @given(world=worlds)
    def look_at(world):
        grown, expected = forest(world.forest), SecondFormulation(world)
        verdict = expected.verdict()
        verdicts[verdict] += 1
        by_group = verdict is Verdict.ADMIT and name_of(expected.leaf) not in expected.individuals
        sent = [grown.cas[label] for label in world.sent if label in grown.cas]
        traits["admitted through several CAs"] += by_group and min(filter(None, expected.lengths())) > 2
        traits["admitted through what is held"] += (
            by_group and not sent and min(filter(None, expected.lengths())) > 1
        )
        traits["two groups as near"] += by_group and len(nearest(expected)) > 1
        traits["barred by a secondary certificate alone"] += is_barred_by_secondary(world)
        undemanded = SecondFormulation(replace(world, demanded=False))
        traits["kept out for want of proof"] += verdict is not undemanded.verdict()
        traits["admitted by another group for want of proof"] += (
            by_group and expected.admitting_group() != undemanded.admitting_group()
        )
        traits["admitted by a proof that is demanded"] += by_group and world.demanded
        traits["cross-signed on the chain"] += not grown.cross_signed.isdisjoint(world.sent)
        traits["two certificates in an entry"] += any(
            len(one) == 2
            for one in (*(g.enrolled for g in world.groups), *(i.pinned for i in world.individuals))
        )

    look_at()

    assert {len({id(ca.key) for ca in one.cas.values()}) for one in forests} >= set(range(2, MOST_CAS + 1))
    assert {max(one.levels.values()) for one in forests} >= {0, MOST_LEVELS - 1}
    assert sum(bool(one.cross_signed) for one in forests) > FORESTS // 3
    assert min(verdicts[verdict] for verdict in Verdict) >= 100, verdicts
    assert len(traits) == 9 and min(traits.values()) >= 5, traits


def nearest(expected: SecondFormulation) -> list[int]:
    lengths = list(filter(None, expected.lengths()))
    return [length for length in lengths if length == min(lengths)]


def is_barred_by_secondary(world: World) -> bool:
    """Whether the world would have another verdict if individuals held their first certificate only."""
    individuals = tuple(Individual(one.name, one.pinned[:1], one.enabled) for one in world.individuals)
    without = SecondFormulation(World(world.forest, world.groups, individuals, world.sent))
    return SecondFormulation(world).verdict() is Verdict.DISABLED is not without.verdict()
