"""What lies above devices before a list of changes and after it: the lines that can matter are rehearsed.

Above one device lie few of them. So those devices are looked at together that need the same lines, and each rehearsal
is short: on SQLite others who write wait for it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ssl import PEM_cert_to_DER_cert
from time import monotonic

from django.db.models import Q

from enrollments.actions.evidence import UNSIGNED
from enrollments.actions.imports import Change, carry_out_changes
from enrollments.actions.preview import singles
from enrollments.actions.preview.acts import NOBODY
from enrollments.actions.preview.near import LinesAbove, existing_groups
from enrollments.actions.preview.planned import Plan
from enrollments.actions.preview.secrets import read_key_groups
from enrollments.actions.preview.singles import Time
from enrollments.actions.preview.touched import (
    Touched,
    classes_of,
    in_portions,
    joined,
    touched_by,
    touched_classes,
)
from enrollments.actions.preview.world import Above, World, chain_of, look_above_shown
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import ParsedCertificate, parse_der
from enrollments.models import HeldCertificate, HeldRole, ProvisioningService
from enrollments.models.locks import rehearsal

# Lines that are rehearsed in one transaction, and what is looked at in it: half a second of work, about groups that are
# changed, and a fifth of that where they are switched.
MOST_LINES = 50
MOST_LOOKS = 100


@dataclass(slots=True)
class Looked:
    """Both worlds, without individual enrollments. `touched`: by the lines about groups.

    alone: by registration key, devices that share with nobody what lies above them, with what that is called in both
    worlds. shown: their leaf, of those that have no record. unexamined: who was too many. too_deep: classes of evidence
    above which more lines lie than are rehearsed at once. may_bar: see LinesAbove.
    """

    before: World
    after: World
    touched: Touched
    alone: dict[str, str] = field(default_factory=dict)
    shown: dict[str, ParsedCertificate] = field(default_factory=dict)
    unexamined: set[str] = field(default_factory=set)
    too_deep: set[str] = field(default_factory=set)
    may_bar: bool = False


@dataclass(frozen=True, slots=True)
class _Look:
    """Something to be looked at: a class of evidence by one of its devices, or a device that is alone."""

    evidence: str
    registration_key: str
    registration_id: str
    credential: PresentedCredential
    is_alone: bool = False

    def above(self, service: ProvisioningService, time: Time) -> Above:
        least = 0 if self.is_alone else 1
        return look_above_shown(service, self.registration_id, self.credential, time.at, least_steps=least)


def look_at_all(service: ProvisioningService, plan: Plan, lines: LinesAbove, time: Time) -> Looked:
    classes = [
        _Look(one.evidence_class, one.registration_key, one.registration_id, chain_of(one))
        for one in classes_of(service)
    ]
    standing = ProvisioningService.what_decisions_read(service.pk)
    before = World(
        above={one.evidence: one.above(service, time) for one in classes},
        key_groups=read_key_groups(service, time.as_of(standing)),
        key_groups_admit=standing.groups_with_keys_admit,
    )
    touched = touched_by(existing_groups(service, lines.changes))
    looked = Looked(before, replace(before, above={}), touched, may_bar=lines.may_bar)
    if lines.of_keys:
        with _carried_out(service, lines.of_keys, looked):
            looked.after.key_groups = read_key_groups(service, time.as_of(standing))
    _look_again(service, lines, classes, looked, time)
    for evidence in looked.too_deep:
        del before.above[evidence]
    alone = _alone(service, plan, lines, looked)
    deadline = monotonic() + singles.SECONDS_SINGLY
    for one in alone:
        if monotonic() > deadline:
            looked.unexamined.add(one.registration_key)
        else:
            before.above[one.evidence] = one.above(service, time)
            looked.alone[one.registration_key] = one.evidence
    _look_again(service, lines, [one for one in alone if one.evidence in before.above], looked, time)
    return looked


def _look_again(
    service: ProvisioningService, lines: LinesAbove, looks: Iterable[_Look], looked: Looked, time: Time
) -> None:
    """After the list: at all above which some of its lines can lie; above the others it is as it was."""
    for changes, some in _batches(service, lines, looks, looked):
        with _carried_out(service, changes, looked):
            for one in some:
                looked.after.above[one.evidence] = one.above(service, time)


def _batches(
    service: ProvisioningService, lines: LinesAbove, looks: Iterable[_Look], looked: Looked
) -> Iterator[tuple[list[Change], list[_Look]]]:
    together: set[int] = set()
    some: list[_Look] = []
    for one in looks:
        needed = lines.above(service, one.credential)
        if not needed:
            looked.after.above[one.evidence] = looked.before.above[one.evidence]
        elif len(needed) > MOST_LINES:
            looked.too_deep.add(one.evidence)
            if one.is_alone:
                looked.unexamined.add(one.registration_key)
        else:
            if len(together | needed) > MOST_LINES or len(some) == MOST_LOOKS:
                yield lines.chosen(together), some
                together, some = set(), []
            together |= needed
            some.append(one)
    if some:
        yield lines.chosen(together), some


@contextmanager
def _carried_out(service: ProvisioningService, changes: Sequence[Change], looked: Looked) -> Iterator[None]:
    """Inside, that is done; and what it touched is noted."""
    with rehearsal():
        carry_out_changes(service, changes, actor=NOBODY)
        looked.touched = joined(looked.touched, touched_by(existing_groups(service, changes)))
        yield


# --- Who is looked at alone -----------------------------------------------------------------------------


def _alone(service: ProvisioningService, plan: Plan, lines: LinesAbove, looked: Looked) -> list[_Look]:
    """As many as are looked at; the others are noted as not examined."""
    worlds = looked.before, looked.after
    unshared = {name for world in worlds for name, above in world.above.items() if not above.is_shared}
    moved = touched_classes(looked.touched, *worlds)
    chosen: list[int] = []
    records = service.registrations.order_by("-updated_at", "-pk")
    unsigned = _with_known_issuer(service, lines)
    for some in [Q(evidence_class__in=unshared), *(Q(pk__in=pks) for pks in in_portions(unsigned))]:
        rows = records.filter(some).values_list("pk", "registration_key", "evidence_class", "leaf_spki")
        for pk, key, evidence, spki in rows.iterator(chunk_size=5000):
            planned = plan.individuals.get(key)
            if evidence in unshared:
                counts = evidence in moved or (planned is not None and planned.is_new)
            else:
                counts = bool(lines.changes) or planned is not None or spki in plan.spkis
            if counts and len(chosen) < singles.MAX_SINGLY:
                chosen.append(pk)
            elif counts:
                looked.unexamined.add(key)
    registered = [
        _look_at_one(one.registration_key, one.registration_id, chain_of(one))
        for one in service.registrations.filter(pk__in=chosen).order_by("-updated_at", "-pk")
    ]
    return [*registered, *_strangers(service, plan, lines, looked)]


def _look_at_one(key: str, name: str, credential: PresentedCredential) -> _Look:
    return _Look(f"alone {key}", key, name, credential, is_alone=True)


def _with_known_issuer(service: ProvisioningService, lines: LinesAbove) -> set[int]:
    """Records of devices under whose leaf no signature was verified, where one may be now or after the list."""
    unsigned = Q(evidence_class__startswith=UNSIGNED, evidence__position=0)
    records = service.registrations.filter(unsigned)
    held = HeldCertificate.objects.filter(service=service)
    held = held.filter(~Q(role=HeldRole.DEVICE) | Q(individual__enabled=False))
    known_issuer = Q(evidence__certificate__issuer_sha256__in=held.values("subject_sha256")) | Q(
        evidence__certificate__authority_key_id__in=held.exclude(subject_key_id="").values("subject_key_id")
    )
    found = set(records.filter(known_issuer).values_list("pk", flat=True))
    for some in in_portions(lines.by_subject):
        found |= set(
            records.filter(evidence__certificate__issuer_sha256__in=some).values_list("pk", flat=True)
        )
    for some in in_portions(lines.by_key_id):
        named = records.filter(evidence__certificate__authority_key_id__in=some)
        found |= set(named.values_list("pk", flat=True))
    return found


def _strangers(
    service: ProvisioningService, plan: Plan, lines: LinesAbove, looked: Looked
) -> Iterator[_Look]:
    """Devices without a record that more than their entry decides about, with the certificate that they may have."""
    left = singles.MAX_SINGLY
    for some in in_portions(plan.known_by_entry()):
        some = [key for key in some if lines.may_bar or plan.individuals[key].is_new or key in plan.shown]
        shown = enrolled_leaves(service, some[: max(left, 0)])
        for key in some:
            leaf = shown.get(key) or (parse_der(plan.shown[key]) if left > 0 and key in plan.shown else None)
            if left > 0 and leaf is not None:
                looked.shown[key] = leaf
                name = plan.individuals[key].ref.name
                yield _look_at_one(key, name, PresentedCredential(certificates=(leaf.der,)))
            else:
                looked.unexamined.add(key)
            left -= 1


def enrolled_leaves(service: ProvisioningService, keys: Sequence[str]) -> dict[str, ParsedCertificate]:
    """By registration key, the certificate that is enrolled for a device: of two the primary one."""
    held = HeldCertificate.objects.filter(
        service=service, role=HeldRole.DEVICE, individual__registration_key__in=keys
    )
    # The primary one comes last, and is written over the other.
    rows = held.order_by("individual", "-slot").values_list(
        "individual__registration_key", "certificate__pem"
    )
    return {key or "": parse_der(PEM_cert_to_DER_cert(pem)) for key, pem in dict(rows).items()}
