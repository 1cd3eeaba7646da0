"""Random forests of CAs, groups and individuals: the decision equals a slow, obvious second formulation of R5 to R8.

The second formulation knows who signed what because the test minted it; it checks no signature and asks no index.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enrollments.actions.judging import judge
from enrollments.attestation.credential import PresentedCredential
from enrollments.policy.decision import Verdict
from tests.certificates import EXPIRED, Minted, mint, root
from tests.devices import enroll_ca, enroll_device, enroll_keys, new_service

pytestmark = pytest.mark.django_db


class Forest:
    """Two roots, intermediates below either or both, renamed, re-issued, expired; leaves below them."""

    def __init__(self) -> None:
        r1, r2, old = root("R1"), root("R2"), root("Old", **EXPIRED)
        i1 = r1.intermediate("I1")
        i2 = r1.intermediate("I2")
        self.cas = {
            "r1": r1,
            "r2": r2,
            "old": old,
            "i1": i1,
            "i1 by r2": i1.cross_signed_by(r2),
            "i1 by old": i1.cross_signed_by(old),
            "i1 renamed": mint("I1 bis", key=i1.key, issuer=r1, ca=True),
            "i2": i2,
            "i2 expired": mint("I2", key=i2.key, issuer=r1, ca=True, **EXPIRED),
            "j": i1.intermediate("J"),
        }
        self.leaves: dict[str, Minted] = {}
        for name, ca in self.cas.items():
            self.leaves[f"a below {name}"] = ca.leaf("dev-a")
        twin = self.leaves["a below i1"]
        self.leaves["b with a's key"] = i2.leaf("dev-b", key=twin.key)
        self.leaves["a self-signed"] = mint("dev-a")
        self.leaves["a expired"] = i1.leaf("dev-a", **EXPIRED)

    def all(self) -> dict[str, Minted]:
        return self.cas | self.leaves


@pytest.fixture(scope="module")
def forest() -> Forest:
    return Forest()


@dataclass
class World:
    """What is enrolled: CA name to enabled (one entry for each subject and key), and individual entries."""

    groups: dict[str, bool] = field(default_factory=dict)
    individuals: list[tuple[str, str | None, bool]] = field(default_factory=list)
    sent: tuple[str, ...] = ()


CA_NAMES = tuple(Forest().cas)
LEAF_NAMES = tuple(Forest().leaves)

worlds = st.builds(
    World,
    groups=st.dictionaries(st.sampled_from(CA_NAMES), st.booleans(), max_size=5),
    individuals=st.lists(
        st.tuples(
            st.sampled_from(("dev-a", "dev-b")),
            st.one_of(st.none(), st.sampled_from(LEAF_NAMES)),
            st.booleans(),
        ),
        max_size=2,
        unique_by=lambda one: one[0],
    ),
    sent=st.tuples(
        st.sampled_from(LEAF_NAMES), st.lists(st.sampled_from(CA_NAMES), max_size=6, unique=True)
    ).map(lambda both: (both[0], *both[1])),
)


def same_ca(one: Minted, other: Minted) -> bool:
    return one.parsed.subject == other.parsed.subject and same_key(one, other)


def same_key(one: Minted, other: Minted) -> bool:
    return one.key.public_key() == other.key.public_key()


def signed(ca: Minted, child: Minted) -> bool:
    return (child.issuer or child).key.public_key() == ca.key.public_key()


def is_valid_now(one: Minted) -> bool:
    return one.parsed.not_before <= timezone.now() <= one.parsed.not_after


class SecondFormulation:
    def __init__(self, forest: Forest, world: World) -> None:
        everything = forest.all()
        self.groups = [(forest.cas[name], enabled) for name, enabled in world.groups.items()]
        self.individuals = {
            registration_id: (everything[leaf] if leaf else None, enabled)
            for registration_id, leaf, enabled in world.individuals
        }
        self.leaf, *sent = [everything[name] for name in world.sent]
        self.at_hand = [self.leaf, *sent, *(ca for ca, _ in self.groups)]
        self.at_hand += [leaf for leaf, enabled in self.individuals.values() if leaf and not enabled]

    def reached(self) -> list[Minted]:
        """R7: follow every signature, whatever dates and names."""
        reached = [self.leaf]
        while True:
            more = [
                one
                for one in self.at_hand
                if one not in reached and any(same_key(one, seen) or signed(one, seen) for seen in reached)
            ]
            if not more:
                return reached
            reached += more

    def paths(self, tail: tuple[Minted, ...], ca: Minted) -> Iterator[int]:
        """Lengths of all valid paths to an enrolled CA, which stands in for whatever was sent of it."""
        top = tail[-1]
        if top.parsed.issuer == ca.parsed.subject and signed(ca, top) and is_valid_now(ca):
            yield len(tail)
        for one in self.at_hand:
            fits = top.parsed.issuer == one.parsed.subject and signed(one, top)
            if not fits or not is_valid_now(one) or not one.parsed.is_ca:
                continue
            if any(same_ca(one, seen) for seen in (*tail, ca)):
                continue
            yield from self.paths((*tail, one), ca)

    def verdict(self) -> Verdict:
        name = self.leaf.parsed.common_names[0]
        if not is_valid_now(self.leaf):
            return Verdict.UNAUTHORIZED
        own, own_enabled = self.individuals.get(name, (None, None))
        pinned = own is not None and own.der == self.leaf.der
        lengths = {
            index: min(self.paths((self.leaf,), ca), default=None)
            for index, (ca, _) in enumerate(self.groups)
        }
        proven = pinned or any(length is not None for length in lengths.values())
        return self.decided(pinned, own_enabled, lengths) if proven else Verdict.UNAUTHORIZED

    def decided(self, pinned: bool, own_enabled: bool | None, lengths: dict[int, int | None]) -> Verdict:
        reached = self.reached()
        for leaf, enabled in self.individuals.values():
            if leaf is not None and not enabled and any(same_key(leaf, one) for one in reached):
                return Verdict.DISABLED
        if own_enabled is False:
            return Verdict.DISABLED
        if own_enabled is True:
            return Verdict.ADMIT if pinned else Verdict.UNAUTHORIZED
        for ca, enabled in self.groups:
            if not enabled and any(same_key(ca, one) for one in reached):
                return Verdict.DISABLED
        return Verdict.ADMIT

    def admitting_group(self) -> Minted:
        lengths = [
            (min(self.paths((self.leaf,), ca), default=None), index)
            for index, (ca, _) in enumerate(self.groups)
        ]
        return self.groups[min((length, index) for length, index in lengths if length is not None)[1]][0]


_numbers = itertools.count()


def enroll(forest: Forest, world: World, *, by_itself: bool):
    """The world in the database. Groups of one subject and key would be one group, so the later is left out.

    by_itself: everything is enrolled the other way round, with switches that have been due since; the decision must
    not depend on whether somebody has turned them yet.
    """
    service = new_service(f"world-{next(_numbers)}")  # services know nothing of each other (R1)
    kept: dict[str, bool] = {}
    for name, enabled in world.groups.items():
        if not any(same_ca(forest.cas[name], forest.cas[other]) for other in kept):
            kept[name] = enabled
            enroll_ca(service, forest.cas[name], f"g-{len(kept)}", enabled=enabled != by_itself)
    world.groups = kept
    individuals = []
    for registration_id, leaf, enabled in world.individuals:
        if leaf is None:
            enroll_keys(service, registration_id, enabled=enabled != by_itself)
        elif forest.leaves[leaf].parsed.common_names[0] == registration_id:
            enroll_device(service, forest.leaves[leaf], enabled=enabled != by_itself)
        else:
            continue
        individuals.append((registration_id, leaf, enabled))
    world.individuals = individuals
    if by_itself:
        due = {"switches_at": timezone.now() - timedelta(seconds=1), "scheduled_by": "alice"}
        service.enrollmentgroups.update(**due)
        service.individualenrollments.update(**due)
    return service


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(world=worlds, by_itself=st.booleans())
def test_decision_equals_the_second_formulation(forest, world, by_itself):
    service = enroll(forest, world, by_itself=by_itself)
    expected = SecondFormulation(forest, world)
    credential = PresentedCredential(tuple(forest.all()[name].der for name in world.sent))
    name = expected.leaf.parsed.common_names[0]

    decision = judge(service, name, credential, at=timezone.now()).decision

    assert decision.verdict is expected.verdict(), decision.trace
    if decision.admitted and decision.entry.kind == "group":
        held = service.enrollmentgroups.get(pk=decision.entry.pk).certificates.get(slot="primary")
        assert held.certificate.thumbprint_sha256 == expected.admitting_group().parsed.thumbprint_sha256


def test_the_forest_reaches_every_verdict(forest):
    """The property above is only worth something if its worlds are not all alike."""
    verdicts = {
        SecondFormulation(forest, world).verdict()
        for world in (
            World({"r1": True}, [], ("a below i1", "i1")),
            World({"r1": True, "i1": False}, [], ("a below i1",)),
            World({"r2": True}, [], ("a below i1", "i1")),
        )
    }

    assert verdicts == set(Verdict)
