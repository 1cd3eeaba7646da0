"""A chain of certificates as a path to look at: from the device upwards, with what is to be said of each (R6, R7, R9).

It decides nothing. Which certificates are connected, and which of them entries hold, is asked of the same search and
the same rows as a judgement asks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from enrollments.actions.certificates import StoredUnreadable, readable
from enrollments.actions.judging import group_ref, individual_ref
from enrollments.actions.judging.lookup import KeyLookup
from enrollments.actions.judging.world import World
from enrollments.actions.possession import PossessionState, possession_of
from enrollments.attestation.x509 import (
    ChainGraph,
    ParsedCertificate,
    PresentedChain,
    Problem,
    SearchExhausted,
    build_chain_graph,
    ca_problems,
    device_problems,
    leaf_problems,
)
from enrollments.models import EnrollmentGroup, HeldCertificate, HeldRole, ProvisioningService
from enrollments.models.enrollments import secrets_of
from enrollments.policy.decision import Decision
from enrollments.policy.facts import EntryRef, RegistrationFacts

WEAK = frozenset({"weak_key", "weak_signature", "costly_key"})


@dataclass(frozen=True, slots=True)
class DrawnCertificate:
    """One certificate on or beside the path.

    steps: signatures above the device; None where no signature connects it.
    sent: it came from the device. enrolled_in, helper_of: entries that hold this very certificate.
    same_key_as: entries that hold another certificate of its public key.
    barred_by: disabled entries that hold its public key, whatever the certificate (R6, R7).
    not_asked: the same, where they do not count: an enabled individual enrollment admits its device (R8).
    possession: of an enrolled CA, whether somebody has proven to have its key (R7); else None.
    problems: what keeps it from a valid path, dates aside, as ends of sentences (R9).
    """

    certificate: ParsedCertificate
    steps: int | None
    sent: bool
    validity: str
    enrolled_in: tuple[EntryRef, ...] = ()
    helper_of: tuple[EntryRef, ...] = ()
    same_key_as: tuple[EntryRef, ...] = ()
    barred_by: tuple[EntryRef, ...] = ()
    not_asked: tuple[EntryRef, ...] = ()
    problems: tuple[str, ...] = ()
    is_weak: bool = False
    possession: PossessionState | None = None

    @property
    def held(self) -> bool:
        """Whether the service has it from an upload, in whatever place."""
        return bool(self.enrolled_in or self.helper_of)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the trace of an attempt says: entries by their words, those that barred, and the deciding one."""

    barring: frozenset[str]
    entry: str = ""
    is_pinned: bool = False


@dataclass(frozen=True, slots=True)
class DrawnChain:
    """`path`: upwards, each signed by the next. `aside`: met as well, or sent and connected with nothing."""

    path: tuple[DrawnCertificate, ...]
    aside: tuple[DrawnCertificate, ...] = ()
    problem: str = ""


def draw_chain(
    service: ProvisioningService,
    certificates: Sequence[ParsedCertificate],
    facts: RegistrationFacts | None,
    decision: Decision | None,
    *,
    at: datetime,
    entries_at: datetime | None = None,
    kept: Kept | None = None,
) -> DrawnChain:
    """Draw what a device sends, the leaf first. Of the paths there are, the one that the decision rests on.

    Without facts the first certificate is the CA of a group, and the others are its helpers. entries_at: see judge.
    kept: of what a device had sent at `at`, in the place of facts. Dates and who barred are told as of then. What
    entries hold is told of those that were there then and still are, and of possession nothing is.
    """
    leaf, *others = certificates
    of_device = facts is not None or kept is not None
    world = World.at(service, entries_at)
    problem = ""
    try:
        graph = build_chain_graph(
            PresentedChain(leaf, tuple(others)), KeyLookup(world, leaf), same_key_included=True
        )
    except (SearchExhausted, StoredUnreadable) as cut_short:
        # Nothing was followed to its end, so nothing but what was sent is certain.
        graph, problem = None, cut_short.message
    found = dict(graph.certificates) if graph else {leaf.thumbprint_sha256: leaf}
    # That helpers of a group are below it, and not above, is as it should be.
    loose = others if of_device else []
    unconnected = {one.thumbprint_sha256: one for one in loose if one.thumbprint_sha256 not in found}
    admitted = decision is not None and decision.admitted
    every = [*found.values(), *unconnected.values()]
    places = _Places(world, every, at, bars_count=not admitted, kept=kept)
    pinned = facts is not None and facts.individual is not None and facts.individual.own_credential_proven
    pinned = pinned or (kept is not None and kept.is_pinned)
    path = _Path(graph, places).drawn(facts, decision) if graph else [leaf.thumbprint_sha256]
    sent = {one.thumbprint_sha256 for one in certificates} if of_device else set()

    def draw(one: ParsedCertificate, steps: int | None) -> DrawnCertificate:
        is_leaf = one is leaf and of_device
        rules = (device_problems if pinned else leaf_problems) if is_leaf else ca_problems
        return places.drawn(one, steps, one.thumbprint_sha256 in sent, tuple(rules(one)), at)

    def steps_of(thumbprint: str) -> int | None:
        return graph.steps[thumbprint] if graph else 0

    aside = sorted(
        (thumbprint for thumbprint in found if thumbprint not in path), key=lambda one: steps_of(one) or 0
    )
    return DrawnChain(
        tuple(draw(found[thumbprint], steps_of(thumbprint)) for thumbprint in path),
        (
            *(draw(found[thumbprint], steps_of(thumbprint)) for thumbprint in aside),
            *(draw(one, None) for one in unconnected.values()),
        ),
        problem,
    )


def draw_group(
    service: ProvisioningService,
    group: EnrollmentGroup,
    *,
    at: datetime,
    entries_at: datetime | None = None,
) -> tuple[list[DrawnChain], list[str]]:
    """The CA certificates of a group, and what stands above each. Every device below the group comes by them.

    And the thumbprints of those certificates of it that cannot be read, of which nothing is drawn.
    """
    held = list(group.certificates.select_related("certificate").order_by("pk"))
    read = [(one.role, readable(one.certificate.pem)) for one in held]
    unread = [
        one.certificate.thumbprint_sha256 for one, (_, found) in zip(held, read, strict=True) if found is None
    ]
    anchors, helpers = (
        [one for role, one in read if role == wanted and one is not None]
        for wanted in (HeldRole.ANCHOR, HeldRole.HELPER)
    )
    chains = [
        draw_chain(service, [one, *helpers], None, None, at=at, entries_at=entries_at) for one in anchors
    ]
    return chains, unread


def validity_at(certificate: ParsedCertificate, at: datetime) -> str:
    if at < certificate.not_before:
        return "not yet valid"
    return "expired" if at > certificate.not_after else "valid"


class _Places:
    """What of these certificates, and of their keys, the service holds."""

    def __init__(
        self,
        world: World,
        certificates: Iterable[ParsedCertificate],
        at: datetime,
        *,
        bars_count: bool,
        kept: Kept | None,
    ) -> None:
        self._as_of = world.as_of
        self._bars_count = bars_count
        self.kept = kept
        keys = {one.spki_sha256 for one in certificates}
        held = (
            world.held()
            .filter(spki_sha256__in=keys)
            .select_related("individual", "group", "certificate")
            .defer(*secrets_of("individual", "group"))
            .order_by("pk")
        )
        self._by_key: dict[str, list[HeldCertificate]] = {}
        for one in held:
            if kept is None or _was_there(one, at):
                self._by_key.setdefault(one.spki_sha256, []).append(one)
        anchors = {(one.subject_sha256, one.spki_sha256) for one in held if one.role == HeldRole.ANCHOR}
        self._possession = possession_of(world.service, anchors, at) if kept is None else {}

    def thumbprints_of(self, entry: str) -> set[str]:
        """The certificates that an entry holds as its own."""
        return {
            one.certificate.thumbprint_sha256
            for held in self._by_key.values()
            for one in held
            if one.role != HeldRole.HELPER and str(_ref(one)) == entry
        }

    def drawn(
        self,
        certificate: ParsedCertificate,
        steps: int | None,
        sent: bool,
        problems: Sequence[Problem],
        at: datetime,
    ) -> DrawnCertificate:
        held = self._by_key.get(certificate.spki_sha256, [])
        own = [one for one in held if one.certificate.thumbprint_sha256 == certificate.thumbprint_sha256]
        holders = [one for one in held if one.role != HeldRole.HELPER]
        disabled = _refs(one for one in holders if self._is_disabled(one))
        return DrawnCertificate(
            certificate,
            steps,
            sent,
            validity_at(certificate, at),
            enrolled_in=_refs(one for one in own if one.role != HeldRole.HELPER),
            helper_of=_refs(one for one in own if one.role == HeldRole.HELPER),
            same_key_as=_refs(one for one in holders if one not in own),
            barred_by=disabled if self._bars_count else (),
            not_asked=() if self._bars_count else disabled,
            problems=tuple(problem.message for problem in problems),
            is_weak=any(problem.code in WEAK for problem in problems),
            possession=self._possession.get((certificate.subject_sha256, certificate.spki_sha256)),
        )

    def _is_disabled(self, held: HeldCertificate) -> bool:
        if self.kept is not None:
            return str(_ref(held)) in self.kept.barring
        entry = held.group or held.individual
        return entry is not None and not self._as_of.enabled(entry)


class _Path:
    """Which of the many ways upwards to draw."""

    def __init__(self, graph: ChainGraph, places: _Places) -> None:
        self._graph = graph
        self._places = places
        self._from_below = dict(self._walk())

    def drawn(self, facts: RegistrationFacts | None, decision: Decision | None) -> list[str]:
        """Thumbprints, from the leaf upwards, and on as far as signatures lead."""
        path = self._decisive(facts, decision)
        while above := [one for one in self._graph.issuers[path[-1]] if one not in path]:
            path.append(above[0])
        return path

    def _decisive(self, facts: RegistrationFacts | None, decision: Decision | None) -> list[str]:
        kept = self._places.kept
        if kept is not None:
            met = self._nearest(self._places.thumbprints_of(kept.entry))
            return self._up_to(met or self._highest())
        if facts is None:
            return [self._graph.leaf.thumbprint_sha256]
        entry = decision.entry if decision is not None else None
        valid = {group.ref: list(group.path_thumbprints) for group in facts.groups if group.path_thumbprints}
        if entry in valid:
            return valid[entry]
        if entry is not None and (met := self._nearest(self._places.thumbprints_of(str(entry)))):
            return self._up_to(met)
        if valid:
            return min(valid.values(), key=len)
        return self._up_to(self._highest())

    def _highest(self) -> str:
        return max(self._from_below, key=lambda one: self._graph.steps[one])

    def _nearest(self, thumbprints: set[str]) -> str:
        met = [one for one in self._from_below if one in thumbprints]
        return min(met, key=lambda one: self._graph.steps[one], default="")

    def _up_to(self, thumbprint: str) -> list[str]:
        path = [thumbprint]
        while below := self._from_below[path[-1]]:
            path.append(below)
        return path[::-1]

    def _walk(self) -> Iterator[tuple[str, str]]:
        """Each certificate that signatures lead to, with the one below it on a shortest way from the leaf."""
        leaf = self._graph.leaf.thumbprint_sha256
        seen, level = {leaf}, [leaf]
        yield leaf, ""
        while level:
            following: list[str] = []
            for below in level:
                for above in self._graph.issuers[below]:
                    if above not in seen:
                        seen.add(above)
                        following.append(above)
                        yield above, below
            level = following


def _was_there(held: HeldCertificate, at: datetime) -> bool:
    entry = held.group or held.individual
    return entry is not None and entry.created_at <= at


def _ref(held: HeldCertificate) -> EntryRef:
    if held.group is not None:
        return group_ref(held.group)
    assert held.individual is not None  # a database constraint: held_certificate_has_its_place
    return individual_ref(held.individual)


def _refs(held: Iterable[HeldCertificate]) -> tuple[EntryRef, ...]:
    return tuple(dict.fromkeys(map(_ref, held)))
