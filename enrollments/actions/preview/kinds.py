"""Devices of no class of evidence: of whom no signature under their leaf was verified yet, or who never came at all.

Whether a signature verifies hangs on what is enrolled now, or is then. It is checked here, once for each device. Those
whose leaves were signed by one key, say the same of their issuer, and can stand on paths or cannot, are of one kind:
they share what lies above them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic

from django.db.models import Q, QuerySet

from enrollments.actions.attempts_certificates import Came, problem_of
from enrollments.actions.evidence import UNSIGNED
from enrollments.actions.preview.looking import Look
from enrollments.actions.preview.signing import Twins, of_keys, possible_signers
from enrollments.actions.preview.touched import in_portions
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import (
    LeafRefused,
    ParsedCertificate,
    can_end_a_path,
    check_leaf,
    is_signed_by,
)
from enrollments.models import HeldCertificate, HeldRole, ProvisioningService, RegistrationEvidence
from enrollments.policy.reasons import Reason

# The name of the kind above which nothing lies.
BARE = "bare"
# With more keys of one name the search for paths may end at one of its bounds: such a device is looked at alone.
MAX_SIGNERS = 16


class Signers:
    """Certificates whose keys may have signed leaves, by their names and key identifiers."""

    def __init__(self, certificates: Iterable[ParsedCertificate]) -> None:
        self._by_subject: dict[str, dict[str, ParsedCertificate]] = {}
        self._by_key_id: dict[str, dict[str, ParsedCertificate]] = {}
        for one in certificates:
            self._by_subject.setdefault(one.subject_sha256, {})[one.spki_sha256] = one
            if one.subject_key_id:
                self._by_key_id.setdefault(one.subject_key_id, {})[one.spki_sha256] = one

    def of(self, leaf: ParsedCertificate) -> list[ParsedCertificate]:
        """As the search for paths would find them, one for each key; the leaf's own is not among them."""
        found = {
            **self._by_key_id.get(leaf.authority_key_id or "", {}),
            **self._by_subject.get(leaf.issuer_sha256, {}),
        }
        found.pop(leaf.spki_sha256, None)
        return list(found.values())


@dataclass(slots=True)
class Kinds:
    """Sorts devices by their leaves. By registration key:

    evidence: the kind of each, which is the name under which what lies above it is kept. problems: what is wrong with
    their leaves at that time. alone: who is looked at alone. unexamined: for whom there was no time.
    looks: for each kind a device by which to look at it. members: who is of it.
    twins: above whom lies what lies above no other of its kind (see twins_of). apart: by their names, kinds of those
    whose twins stand below the same issuers, and of which kind they would be without.
    """

    signers: Signers
    at: datetime
    deadline: float
    twins: Twins = field(default_factory=dict)
    evidence: dict[str, str] = field(default_factory=dict)
    problems: dict[str, Reason] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)
    unexamined: set[str] = field(default_factory=set)
    looks: dict[str, Look] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)
    apart: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, name: str, chain: Sequence[ParsedCertificate]) -> None:
        """chain: all that this device shows, its leaf first."""
        add_at_each_time([self], key, name, chain)

    def add_classed(self, place: str, came: Came) -> None:
        """A device whose class of evidence is known: that is its kind."""
        assert came.classed is not None
        if problem := problem_of(came.classed):
            self.problems[place] = problem
        self.put(place, came.registration_id, came.read_chain, f"class {came.classed.evidence}")

    def put(self, key: str, name: str, read: Callable[[], Sequence[ParsedCertificate]], kind: str) -> None:
        if kind != BARE and key in self.twins:
            name_apart = " ".join([kind, "twin", *sorted(self.twins[key])])
            self.apart[name_apart] = kind
            kind = name_apart
        self.evidence[key] = kind
        if kind == BARE:
            return
        self.members.setdefault(kind, []).append(key)
        if key in self.problems:
            return
        if kind not in self.looks:
            shown = PresentedCredential(certificates=tuple(one.der for one in read()))
            self.looks[kind] = Look(kind, key, name, shown)

    def keep_largest(self, most: int | None) -> None:
        """Of kinds with several devices each costs a search for paths, twice: as many as there is time for."""
        if most is None or len(self.looks) <= most:
            return
        for kind in sorted(self.looks, key=lambda kind: -len(self.members[kind]))[most:]:
            self.unexamined.update(self.members.pop(kind))
            del self.looks[kind]

    def split(self, kind: str) -> None:
        """Its devices do not share what lies above them after all."""
        for key in self.members.pop(kind):
            del self.evidence[key]
            self.alone.add(key)


def join_twins(times: Sequence[Kinds]) -> None:
    """Once all are sorted: where a device without a twin speaks for a kind, it does so for those with one too.

    What bars a twin bars their own key, so they need not be told of what lies above it. Where all of a kind have twins,
    one speaks for those whose twins stand below the same issuers, and for nobody who is of the kind without one.
    """
    for name, kind in times[0].apart.items():
        if all(kind in one.looks for one in times if name in one.looks):
            for one in times:
                one.looks.pop(name, None)
                joining = one.members.pop(name)
                one.members.setdefault(kind, []).extend(joining)
                one.evidence.update(dict.fromkeys(joining, kind))


def add_at_each_time(times: Sequence[Kinds], key: str, name: str, chain: Sequence[ParsedCertificate]) -> None:
    """Sort a device as of several times at once, with the same signers: of what kind it is does not hang on a time."""
    signers = times[0].signers
    if monotonic() > times[0].deadline:
        for one in times:
            one.unexamined.add(key)
        return
    leaf, *above = chain
    for one in times:
        if problem := leaf_problem(leaf, one.at):
            one.problems[key] = problem
    possible = [*signers.of(leaf), *Signers(above).of(leaf)]
    has_twin = any(one.spki_sha256 == leaf.spki_sha256 for one in above)
    if len(possible) > MAX_SIGNERS or has_twin:
        for one in times:
            one.alone.add(key)
        return
    kind = BARE
    if signer := _signer(leaf, possible):
        sent = sorted(one.thumbprint_sha256 for one in above)
        fitness = "fit" if can_end_a_path(leaf) else "unfit"
        kind = " ".join(["kind", fitness, leaf.issuer_sha256, leaf.authority_key_id or "-", signer, *sent])
    for one in times:
        one.put(key, name, lambda: chain, kind)


def _signer(leaf: ParsedCertificate, possible: Iterable[ParsedCertificate]) -> str:
    """The public key that made the signature of this leaf, if it is one of these; one signature has one key."""
    if leaf.is_self_issued and is_signed_by(leaf, leaf.public_key):
        return ""
    return next((one.spki_sha256 for one in possible if is_signed_by(leaf, one.public_key)), "")


def leaf_problem(leaf: ParsedCertificate, at: datetime) -> Reason | None:
    try:
        check_leaf(leaf, at)
    except LeafRefused:
        return Reason.LEAF_REFUSED
    return None


# --- What is enrolled, and who came -------------------------------------------------------------


def unsigned_evidence(service: ProvisioningService) -> "QuerySet[RegistrationEvidence]":
    """The leaves under which no signature was verified: whoever shows one has shown nothing else that was kept."""
    # Which classes that are, their index tells: no record of another has to be read.
    classes = service.registrations.filter(evidence_class__startswith=UNSIGNED).order_by()
    return RegistrationEvidence.objects.filter(
        registration__service=service,
        registration__evidence_class__in=classes.values("evidence_class").distinct(),
        position=0,
    ).order_by()


def by_a_known_name(service: ProvisioningService) -> Q:
    """Of evidence: that its issuer, by name or by key identifier, is one whose certificates are held."""
    held = possible_signers(service)
    return Q(certificate__issuer_sha256__in=held.values("subject_sha256")) | Q(
        certificate__authority_key_id__in=held.exclude(subject_key_id="").values("subject_key_id")
    )


def signers_named(
    service: ProvisioningService, subjects: Iterable[str], key_ids: Iterable[str]
) -> Iterator[str]:
    """As PEM."""
    held = possible_signers(service)
    for column, asked in (("subject_sha256", subjects), ("subject_key_id", key_ids)):
        for some in in_portions({one for one in asked if one}):
            yield from held.filter(**{f"{column}__in": some}).values_list("certificate__pem", flat=True)


def with_key_of_a_ca(service: ProvisioningService, strangers: Iterable[tuple[str, str]]) -> set[str]:
    """Registration keys of devices whose leaf has the key of a CA that is held: nobody shares with such a device.

    strangers: those without a record, and the public keys of their leaves.
    """
    held = HeldCertificate.objects.filter(service=service).exclude(role=HeldRole.DEVICE)
    records = service.registrations.exclude(leaf_spki="").filter(leaf_spki__in=held.values("spki_sha256"))
    found = set(records.values_list("registration_key", flat=True))
    every = list(strangers)
    keys = keys_of_cas(service, {spki for _, spki in every})
    found.update(key for key, spki in every if spki in keys)
    return found


def keys_of_cas(service: ProvisioningService, spkis: Collection[str]) -> set[str]:
    """Those of these public keys that CAs have whose certificates are held."""
    held = HeldCertificate.objects.filter(service=service).exclude(role=HeldRole.DEVICE)
    return {spki for (spki,) in of_keys(held, spkis)}
