"""Which CAs can lie above known devices: by names, key identifiers and keys, as the search for paths asks (R7).

No signature is checked: what is found here is looked at afterwards, and what is not found can be on no path.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from django.db.models import F, Q, QuerySet

from enrollments.actions.attempts_certificates import Came
from enrollments.actions.certificates import parsed
from enrollments.actions.enrollment_groups import foresee_group
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.import_changes import Change
from enrollments.actions.outcomes import Outcome
from enrollments.actions.preview.issuers import HELD, Issuer
from enrollments.actions.preview.planned import Plan, Portions
from enrollments.actions.preview.signing import MAY_BAR, possible_signers
from enrollments.actions.preview.touched import in_portions
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import ParsedCertificate, is_signed_by, own_key_id, parse_der
from enrollments.errors import DpsError
from enrollments.models import (
    AttestationMechanism,
    Certificate,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    ProvisioningService,
    RegistrationEvidence,
)
from enrollments.policy.names import registration_key


@dataclass(slots=True)
class Near:
    """What is asked for on the way up from devices that are known. `fresh`: the same, not followed yet."""

    subjects: set[str] = field(default_factory=set)
    key_ids: set[str] = field(default_factory=set)
    spkis: set[str] = field(default_factory=set)
    fresh: list[tuple[str, str]] = field(default_factory=list)

    def meets(self, subject: str, key_id: str, spki: str) -> bool:
        return subject in self.subjects or spki in self.spkis or (key_id != "" and key_id in self.key_ids)

    def ask(self, issuer: str, authority_key_id: str) -> None:
        if issuer not in self.subjects or (authority_key_id and authority_key_id not in self.key_ids):
            self.subjects.add(issuer)
            if authority_key_id:
                self.key_ids.add(authority_key_id)
            self.fresh.append((issuer, authority_key_id))

    def is_barred(self, service: ProvisioningService) -> bool:
        """Whether an individual enrollment that is disabled, or about to be, holds something that is asked for."""
        held = HeldCertificate.objects.filter(service=service, role=HeldRole.DEVICE)
        held = held.filter(MAY_BAR)
        return any(
            held.filter(**{f"{column}__in": some}).exists()
            for column, asked in (
                ("subject_sha256", self.subjects),
                ("subject_key_id", self.key_ids),
                ("spki_sha256", self.spkis),
            )
            for some in in_portions(asked)
        )

    def follow(self, service: ProvisioningService, listed: Sequence[Issuer]) -> None:
        """Upwards, until nothing new is asked for: through what is held, and what the list brings."""
        keys = self.spkis
        while self.fresh or keys:
            asked, self.fresh = self.fresh, []
            for some in in_portions({name for name, _ in asked}):
                self._meet(service, Q(subject_sha256__in=some))
            for some in in_portions({key_id for _, key_id in asked if key_id}):
                self._meet(service, Q(subject_key_id__in=some))
            for some in in_portions(keys):
                self._meet(service, Q(spki_sha256__in=some))
            known = set(self.spkis)
            for one in listed:
                if self.meets(one.subject, one.key_id, one.spki):
                    self._met(one)
            keys = self.spkis - known

    def _meet(self, service: ProvisioningService, where: Q) -> None:
        held = HeldCertificate.objects.filter(where, service=service)
        found = [Issuer(*row) for row in held.values_list(*HELD).distinct()]
        known = {one.spki for one in found} - self.spkis
        for one in found:
            self._met(one)
        # With each certificate all others of its key.
        for some in in_portions(known):
            for row in HeldCertificate.objects.filter(service=service, spki_sha256__in=some).values_list(
                *HELD
            ):
                self._met(Issuer(*row))

    def _met(self, one: Issuer) -> None:
        self.spkis.add(one.spki)
        self.ask(one.issuer, one.authority_key_id)


def near_devices(service: ProvisioningService, plan: Plan) -> Near:
    """Above the leaves of records, and of certificates that individual enrollments hold or shall hold."""
    near = Near()
    evidence = RegistrationEvidence.objects.filter(registration__service=service).order_by()
    issued = ~Q(certificate__issuer_sha256=F("certificate__subject_sha256"))
    names = ("certificate__issuer_sha256", "certificate__authority_key_id")
    for issuer, key_id in evidence.filter(issued | Q(position__gt=0)).values_list(*names).distinct():
        near.ask(issuer, key_id)
    near.spkis |= set(evidence.filter(position__gt=0).values_list("certificate__spki_sha256", flat=True))
    held = HeldCertificate.objects.filter(service=service, role=HeldRole.DEVICE).order_by()
    for issuer, key_id in held.filter(issued).values_list(*names).distinct():
        near.ask(issuer, key_id)
    for issuer, key_id in plan.issuers:
        near.ask(issuer, key_id)
    chains = [
        [Issuer.of(one) for one in came.read_chain()] for came in _one_of_each_class(plan.came.values())
    ]
    for certificate in chain.from_iterable(chains):
        near.ask(certificate.issuer, certificate.authority_key_id)
    near.spkis.update(certificate.spki for shown in chains for certificate in shown[1:])
    listed = [Issuer.of(one) for change in plan.groups for one in certificates_of(change)]
    for issuer, key_id in _self_issued(service, plan, evidence.filter(~issued, position=0), listed):
        near.ask(issuer, key_id)
    # A CA may have the key of a leaf.
    for some in in_portions({one.spki for one in listed}):
        leaves = service.registrations.filter(leaf_spki__in=some)
        near.spkis |= set(leaves.values_list("leaf_spki", flat=True))
    near.spkis |= {came.spki for came in plan.came.values()} & {one.spki for one in listed}
    near.follow(service, listed)
    return near


def _one_of_each_class(came: Iterable[Came]) -> Iterator[Came]:
    """What lies above the others of a class is the same."""
    told = set()
    for one in came:
        if one.classed is None:
            yield one
        elif one.classed.evidence not in told:
            told.add(one.classed.evidence)
            yield one


_LEAF = ("certificate__subject_sha256", "certificate__spki_sha256", "certificate__authority_key_id")


def _self_issued(
    service: ProvisioningService,
    plan: Plan,
    leaves: "QuerySet[RegistrationEvidence]",
    listed: Sequence[Issuer],
) -> Iterator[tuple[str, str]]:
    """Of leaves that bear the name of their issuer, those that did not sign themselves: what they ask for.

    A search for paths ends with who signed itself. Looked at is only whether another key bears the same name.
    """
    own = {subject: (spki, key_id) for subject, spki, key_id in leaves.values_list(*_LEAF)}
    named = {key_id: subject for subject, (_, key_id) in own.items() if key_id}
    bears = [one[:3] for one in listed] + [one[1:] for one in plan.barring]
    held = possible_signers(service)
    for column, asked in (("subject_sha256", own), ("subject_key_id", named)):
        for some in in_portions(asked):
            bears += held.filter(**{f"{column}__in": some}).values_list(*HELD[:3])
    namesakes = set()
    for subject, key_id, spki in bears:
        for one in {subject, named.get(key_id, subject)} & own.keys():
            if own[one][0] != spki:
                namesakes.add(one)
    for some in in_portions(namesakes):
        rows = Certificate.objects.filter(subject_sha256__in=some, issuer_sha256=F("subject_sha256"))
        for leaf in map(parsed, rows.values_list("pem", flat=True)):
            spki, key_id = own[leaf.subject_sha256]
            if leaf.spki_sha256 == spki and not is_signed_by(leaf, leaf.public_key):
                yield leaf.subject_sha256, key_id


def certificates_of(change: Change) -> list[ParsedCertificate]:
    """Raises UnreadableCertificate for one that is held and cannot be looked at any more."""
    spec = change.spec
    if not isinstance(spec, GroupSpec) or spec.mechanism != AttestationMechanism.X509:
        return []
    every = [*spec.certificates.values(), *spec.helpers]
    return [one if isinstance(one, ParsedCertificate) else parse_der(one.der) for one in every]


@dataclass(slots=True)
class LinesAbove:
    """The lines that can lie above devices, in their order, by what their certificates are found by.

    of_keys: those of groups with symmetric keys, from which devices may derive theirs. listed: their certificates.
    ca_keys: public keys of the groups' among these. bars: keys that are barred before the list or after it, and that
    something known may lie below.
    may_bar: whether a disabled individual enrollment, now or after the list, may hold a key above that of a leaf (R6).
    """

    changes: list[Change] = field(default_factory=list)
    of_keys: list[Change] = field(default_factory=list)
    listed: list[Issuer] = field(default_factory=list)
    ca_keys: set[str] = field(default_factory=set)
    bars: set[str] = field(default_factory=set)
    may_bar: bool = False
    by_subject: dict[str, set[int]] = field(default_factory=dict)
    by_key_id: dict[str, set[int]] = field(default_factory=dict)
    by_spki: dict[str, set[int]] = field(default_factory=dict)

    def add(self, position: int, subject: str, key_id: str, spki: str) -> None:
        self.by_subject.setdefault(subject, set()).add(position)
        self.by_spki.setdefault(spki, set()).add(position)
        if key_id:
            self.by_key_id.setdefault(key_id, set()).add(position)

    def above(self, service: ProvisioningService, credential: PresentedCredential) -> set[int]:
        """Positions of the lines that can lie above who shows that, and of those that they wait for."""
        if not self.by_spki:
            return set()
        near = Near()
        for one in map(parse_der, credential.certificates):
            near.spkis.add(one.spki_sha256)
            near.ask(one.issuer_sha256, one.authority_key_id or "")
        near.follow(service, self.listed)
        found: set[int] = set()
        for asked, places in (
            (near.subjects, self.by_subject),
            (near.key_ids, self.by_key_id),
            (near.spkis, self.by_spki),
        ):
            found.update(*(places[one] for one in asked & places.keys()))
        return self._with_awaited(found)

    def chosen(self, positions: set[int]) -> list[Change]:
        return [self.changes[position] for position in sorted(positions)]

    def _with_awaited(self, found: set[int]) -> set[int]:
        names = {
            registration_key(one.name): number for number, one in enumerate(self.changes) if one.is_group
        }
        for position in sorted(found, reverse=True):
            awaited = registration_key(self.changes[position].awaited_predecessor)
            while awaited in names and names[awaited] not in found:
                found.add(names[awaited])
                awaited = registration_key(self.changes[names[awaited]].awaited_predecessor)
        return found


def lines_above(service: ProvisioningService, plan: Plan, portions: Portions) -> LinesAbove:
    """Of a list, what has to be carried out to be known, and no more of it."""
    lines = LinesAbove()
    near = near_devices(service, plan)
    groups = _that_change(service, _groups_that_matter(service, plan, near))
    keyed = _keyed(service, groups)
    lines.of_keys = [change for change in groups if registration_key(change.name) in keyed]
    keys = {one.registration_key for one in plan.barring if near.meets(*one[1:])}
    individuals = [change for changes in (portions(keys) if keys else ()) for change in changes]
    lines.changes = [*individuals, *groups]
    lines.may_bar = bool(keys) or near.is_barred(service)
    places = {(one.is_group, registration_key(one.name)): number for number, one in enumerate(lines.changes)}
    for one in plan.barring:
        if one.registration_key in keys:
            lines.add(places[False, one.registration_key], *one[1:])
            lines.bars.add(one.spki_sha256)
    lines.listed += _of_individuals(service, individuals)
    for name, *found_by in _held_by_groups(service, groups):
        lines.add(places[True, name], *found_by)
    for change in groups:
        for certificate in map(Issuer.of, certificates_of(change)):
            lines.add(places[True, registration_key(change.name)], *certificate[:3])
            lines.listed.append(certificate)
            lines.ca_keys.add(certificate.spki)
    return lines


def _of_individuals(service: ProvisioningService, changes: Sequence[Change]) -> Iterator[Issuer]:
    """What these lines bring; and what is held already, where only a switch turns: it may bar after the list alone."""
    for change in changes:
        if isinstance(change.spec, IndividualSpec):
            for one in change.spec.certificates.values():
                names = one.issuer_sha256, one.authority_key_id or ""
                yield Issuer(one.subject_sha256, own_key_id(one), one.spki_sha256, *names)
    held = HeldCertificate.objects.filter(service=service, role=HeldRole.DEVICE)
    for some in in_portions(registration_key(one.name) for one in changes):
        for row in held.filter(individual__registration_key__in=some).values_list(*HELD):
            yield Issuer(*row)


def _groups_that_matter(service: ProvisioningService, plan: Plan, near: Near) -> list[Change]:
    """The lines about groups that can matter to devices that are known, and those that add what they wait for."""
    wanted = {name for name, *found_by in _held_by_groups(service, plan.groups) if near.meets(*found_by)}
    for change in plan.groups:
        if any(near.meets(*Issuer.of(one)[:3]) for one in certificates_of(change)):
            wanted.add(registration_key(change.name))
    if plan.signed or _some_sign(service):
        wanted |= _keyed(service, plan.groups)
    for change in reversed(plan.groups):
        if change.awaited_predecessor and registration_key(change.name) in wanted:
            wanted.add(registration_key(change.awaited_predecessor))
    return [change for change in plan.groups if registration_key(change.name) in wanted]


def _held_by_groups(
    service: ProvisioningService, changes: Sequence[Change]
) -> Iterator[tuple[str, str, str, str]]:
    """Of the groups that these lines are about: each with what one of its certificates is found by."""
    for some in in_portions(registration_key(change.name) for change in changes):
        held = HeldCertificate.objects.filter(service=service, group__group_key__in=some)
        for name, *found_by in held.values_list("group__group_key", *HELD[:3]):
            yield name or "", *found_by


def _keyed(service: ProvisioningService, changes: Sequence[Change]) -> set[str]:
    """The groups among these that have symmetric keys, or shall have."""
    keyed = {
        registration_key(change.name)
        for change in changes
        if change.spec is not None and change.spec.mechanism == AttestationMechanism.SYMMETRIC_KEY
    }
    existing = existing_groups(service, changes)
    return keyed | {one.group_key for one in existing if one.mechanism == AttestationMechanism.SYMMETRIC_KEY}


def _some_sign(service: ProvisioningService) -> bool:
    """Whether a device is known that has a key, by its record or by its entry."""
    kinds = service.registrations.all(), service.individualenrollments.all()
    return any(kind.exclude(mechanism=AttestationMechanism.X509).exists() for kind in kinds)


def _that_change(service: ProvisioningService, groups: Sequence[Change]) -> list[Change]:
    """Without those that are as the list says already."""
    current = {one.group_key: one for one in existing_groups(service, groups)}
    awaited = {registration_key(change.awaited_predecessor) for change in groups}
    return [
        change
        for change in groups
        if registration_key(change.name) in awaited
        or not _is_so_already(service, change, current.get(registration_key(change.name)))
    ]


def _is_so_already(service: ProvisioningService, change: Change, current: EnrollmentGroup | None) -> bool:
    if current is None or change.awaited_predecessor:
        return False
    if not isinstance(change.spec, GroupSpec):
        return change.outcome is Outcome.UNCHANGED
    try:
        return foresee_group(service, change.spec, current) is Outcome.UNCHANGED
    except DpsError:
        # It may be right after a line before it: found out when they are carried out together.
        return False


def existing_groups(service: ProvisioningService, changes: Iterable[Change]) -> list[EnrollmentGroup]:
    keys = [registration_key(change.name) for change in changes if change.is_group]
    return list(service.enrollmentgroups.without_secrets().filter(group_key__in=keys).order_by("pk"))
