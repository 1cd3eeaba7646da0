"""What a list of changes makes of individual enrollments, as values: nothing of it is carried out to be known.

An individual enrollment decides about the device of its registration ID, and, disabled, bars its keys (R5, R6). So what
it says after a change follows from the change and from what it says now.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol

from enrollments.actions.attempts_certificates import Came
from enrollments.actions.attempts_keys import Signed
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.import_changes import Change
from enrollments.actions.key_identifiers import endorsement_identifier, key_identifier
from enrollments.actions.preview.below_keys import devices_with
from enrollments.actions.preview.secrets import MADE, NO_SECRETS, Secrets, secrets_in_place
from enrollments.actions.preview.to_come import ALL_TIMES
from enrollments.actions.preview.world import Individual, read_many_individuals
from enrollments.attestation.x509 import own_key_id
from enrollments.models import AttestationMechanism, HeldCertificate, HeldRole, ProvisioningService
from enrollments.models.fields import fingerprint
from enrollments.models.switches import AsOf
from enrollments.policy.facts import EntryKind, EntryRef, Mechanism
from enrollments.policy.names import registration_key

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from enrollments.models import IndividualEnrollment

# What is added has a number that is higher than any, since of two that bar a key the older one is named.
_FIRST_NEW = 10**15
# Of the times at which certificates of a list begin, as many as are looked at one by one at the most, and one more: so
# it is known that there are others.
MOST_BEGINNING = ALL_TIMES + 1


class Portions(Protocol):
    """A list that can be gone through again: in portions, each planned on what stands now."""

    def __call__(self, only: Collection[str] | None = None) -> Iterable[Sequence[Change]]:
        """only: registration keys of the devices whose lines are wanted, and no others."""


@dataclass(frozen=True, slots=True)
class Planned:
    """An individual enrollment to be. `mechanism`: None where only its switch turns, and all else stays.

    certificates: thumbprint and public key of each. secrets: in their order; None for one that it holds and keeps.
    """

    ref: EntryRef
    is_new: bool
    enabled: bool
    mechanism: Mechanism | None = None
    certificates: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secrets | None, ...] = field(default=(), repr=False)

    @property
    def keeps_some(self) -> bool:
        """Whether it keeps one of its keys and not the other."""
        return None in self.secrets and any(self.secrets)

    def after(self, before: Individual | None, held: Sequence[Secrets] = ()) -> Individual:
        """held: each of the secrets that it holds now by itself, for one that keeps some of them."""
        if self.mechanism is None:
            assert before is not None  # a switch of something that is there
            return replace(before, enabled=self.enabled)
        pins = frozenset(thumbprint for thumbprint, _ in self.certificates)
        spkis = frozenset(spki for _, spki in self.certificates)
        if before is not None and self.secrets and not any(self.secrets):
            changed = replace(before, ref=self.ref, enabled=self.enabled, mechanism=self.mechanism)
            return replace(changed, pins=pins, spkis=spkis)
        kept = held or (NO_SECRETS,) * len(self.secrets)
        secrets = [stays if one is None else one for one, stays in zip(self.secrets, kept, strict=True)]
        return Individual(self.ref, self.enabled, self.mechanism, pins, spkis, NO_SECRETS.union(*secrets))


class Barring(NamedTuple):
    """A certificate by which an individual enrollment bars a key, before the change or after it."""

    registration_key: str
    subject_sha256: str
    subject_key_id: str
    spki_sha256: str


@dataclass(slots=True)
class Plan:
    """A list in short: all that decides about devices. By registration key, and `groups` as they are.

    came: by place (place_of), what devices are known by of attempts, see shown_at_attempts.
    signed: by registration key, the same of keys, see keys_at_attempts.
    sharing: devices that are not in the list, and for which a key is enrolled that is barred before or after it.
    switched, bars: numbers of the entries that are there, and the keys that the list bars. spkis: keys that are barred
    before or after it. issuers: names and key identifiers of what issued the certificates in the list.
    beginning: when certificates of the list become valid, after the time that is asked about; the first ones, in order.
    """

    individuals: dict[str, Planned] = field(default_factory=dict)
    groups: list[Change] = field(default_factory=list)
    came: Mapping[str, Came] = field(default_factory=dict)
    signed: Mapping[str, Sequence[Signed]] = field(default_factory=dict)
    sharing: frozenset[str] = frozenset()
    numbers: set[int] = field(default_factory=set)
    bars: dict[str, list[EntryRef]] = field(default_factory=dict)
    spkis: set[str] = field(default_factory=set)
    barring: list[Barring] = field(default_factory=list)
    issuers: set[tuple[str, str]] = field(default_factory=set)
    beginning: tuple[datetime, ...] = ()

    def bars_after(
        self, before: Mapping[str, Mapping[int, EntryRef]], spkis: Collection[str]
    ) -> dict[str, dict[int, EntryRef]]:
        """R6: which entries bar these keys then, by which do now."""
        after = {}
        for spki in spkis:
            refs = {pk: ref for pk, ref in before.get(spki, {}).items() if pk not in self.numbers}
            refs |= {ref.pk: ref for ref in self.bars.get(spki, ())}
            if refs:
                after[spki] = refs
        return after

    def tells_of(self, key: str) -> bool:
        """Of a device that never came: whether it is known by its entry, or by one that bars its key from the start.

        Of who is new and admitted nothing becomes of anybody who is known.
        """
        one = self.individuals.get(key)
        return one is None or not one.is_new or (not one.enabled and bool(one.certificates))


def read_plan(
    service: ProvisioningService,
    portions: Portions,
    as_of: AsOf,
    came: Mapping[str, Came],
    signed: Mapping[str, Sequence[Signed]],
) -> Plan:
    """Goes through the list once, and keeps of each line no more than what decides.

    as_of: also the time for which it is asked whether what the list makes is enabled.
    """
    plan = Plan(came=came, signed=signed)
    for changes in portions():
        individuals = {registration_key(one.name): one for one in changes if not one.is_group}
        plan.groups += [one for one in changes if one.is_group]
        if later := _beginning(changes, as_of.at).difference(plan.beginning):
            plan.beginning = tuple(sorted({*plan.beginning, *later})[:MOST_BEGINNING])
        if individuals:
            _add(service, plan, individuals, as_of)
    plan.sharing = devices_with(service, plan.spkis) - plan.individuals.keys()
    return plan


def _beginning(changes: Iterable[Change], after: datetime) -> set[datetime]:
    """When those certificates become valid that these give to entries, helpers included."""
    specs = [
        one.spec
        for one in changes
        if one.spec is not None and one.spec.mechanism == AttestationMechanism.X509
    ]
    of_slots = (one for spec in specs for one in spec.certificates.values())
    helpers = (one for spec in specs if isinstance(spec, GroupSpec) for one in spec.helpers)
    return {one.not_before for one in chain(of_slots, helpers) if one.not_before > after}


def _add(service: ProvisioningService, plan: Plan, changes: Mapping[str, Change], as_of: AsOf) -> None:
    rows = service.individualenrollments.filter(registration_key__in=list(changes))
    before = read_many_individuals(rows, as_of)
    ending = _ending(rows) if as_of.any_due else {}
    holding: dict[int, str] = {}
    for key, change in changes.items():
        own = before.get(key)
        ref = own.ref if own else EntryRef(EntryKind.INDIVIDUAL, _FIRST_NEW + change.line, change.name)
        planned = planned_of(change, own, ref, as_of, ending.get(key))
        plan.individuals[key] = planned
        if own is not None:
            plan.numbers.add(ref.pk)
            if own.spkis and not own.enabled:
                plan.spkis |= own.spkis
                holding[ref.pk] = key
        if planned.mechanism is None and own is not None:
            if own.spkis and not planned.enabled:
                holding[ref.pk] = key
                _bar(plan, ref, own.spkis)
            continue
        assert isinstance(change.spec, IndividualSpec)  # whatever has a mechanism has one
        certificates = change.spec.certificates.values() if planned.certificates else ()
        for one in certificates:
            if not one.is_self_issued:
                plan.issuers.add((one.issuer_sha256, one.authority_key_id or ""))
            if not planned.enabled:
                plan.barring.append(Barring(key, one.subject_sha256, own_key_id(one), one.spki_sha256))
        if not planned.enabled:
            _bar(plan, ref, {spki for _, spki in planned.certificates})
    held = HeldCertificate.objects.filter(individual__in=list(holding), role=HeldRole.DEVICE)
    for pk, *certificate in held.values_list("individual", "subject_sha256", "subject_key_id", "spki_sha256"):
        plan.barring.append(Barring(holding[pk or 0], *certificate))


def _bar(plan: Plan, ref: EntryRef, spkis: Collection[str]) -> None:
    plan.spkis.update(spkis)
    for spki in spkis:
        plan.bars.setdefault(spki, []).append(ref)


def _ending(rows: "QuerySet[IndividualEnrollment]") -> dict[str, datetime]:
    """By registration key, until when those are enabled that are to be disabled at a time."""
    found = rows.filter(enabled=True).values_list("registration_key", "switches_at")
    return {key: at for key, at in found if at is not None}


def planned_of(
    change: Change, before: Individual | None, ref: EntryRef, as_of: AsOf, ends: datetime | None = None
) -> Planned:
    """ends: until when the entry is enabled that is there; a line that enables it leaves it so (see EntrySpec)."""
    spec = change.spec
    if not isinstance(spec, IndividualSpec):
        return Planned(ref, is_new=False, enabled=False)
    certificates: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secrets | None, ...] = ()
    if spec.mechanism == AttestationMechanism.X509:
        certificates = tuple((one.thumbprint_sha256, one.spki_sha256) for one in spec.certificates.values())
    elif spec.mechanism == AttestationMechanism.TPM:
        secrets = (_of_tpm(spec.endorsement_key),)
    else:
        holds_keys = before is not None and before.mechanism is Mechanism.SYMMETRIC_KEY
        made = None if holds_keys else MADE
        secrets = tuple(_of_key(key) or made for key in (spec.primary_key, spec.secondary_key))
    if spec.enabled and spec.switches_at is None and not spec.for_good:
        spec = replace(spec, switches_at=ends)
    enabled = as_of.enabled(spec)
    return Planned(ref, before is None, enabled, Mechanism(spec.mechanism), certificates, secrets)


def _of_tpm(key: bytes) -> Secrets | None:
    return frozenset({endorsement_identifier(key), fingerprint(key.hex())}) if key else None


def _of_key(key: str) -> Secrets | None:
    return frozenset(filter(None, (key_identifier(key), fingerprint(key)))) if key else None


def read_after(
    service: ProvisioningService, planned: Mapping[str, Planned], before: Mapping[str, Individual]
) -> dict[str, Individual]:
    """These individual enrollments as they are then. Reads keys of those alone that keep one and replace the other."""
    mixed = [key for key, one in planned.items() if one.keeps_some]
    held: dict[str, tuple[Secrets, ...]] = {}
    for row in service.individualenrollments.filter(registration_key__in=mixed) if mixed else ():
        held[row.registration_key] = secrets_in_place(row)
    return {key: one.after(before.get(key), held.get(key, ())) for key, one in planned.items()}
