"""The leaves of devices of no class of evidence to whom a list of changes could matter."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from django.db.models import Q

from enrollments.actions.certificates import parsed, parsed_once
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.preview.credentials import device_at, enrolled_for
from enrollments.actions.preview.kinds import (
    Kinds,
    Signers,
    by_a_known_name,
    keys_of_cas,
    signers_named,
    unsigned_evidence,
    with_key_of_a_ca,
)
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.looking import Look, Time, look_alone, registered_alone
from enrollments.actions.preview.near import LinesAbove, certificates_of
from enrollments.actions.preview.planned import Plan, Planned
from enrollments.actions.preview.touched import in_portions
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import ParsedCertificate, parse_der
from enrollments.models import HeldCertificate, HeldRole, ProvisioningService, RegistrationEvidence

# Certificates that are parsed at a time.
PORTION = 1000
# Registered devices, by registration key.
_COLUMNS = (
    "pk",
    "registration__registration_key",
    "registration__leaf_spki",
    "certificate__issuer_sha256",
    "certificate__authority_key_id",
)
_LEAF = ("registration__registration_key", "registration__registration_id", "certificate__pem")


class Leaves:
    def __init__(self, service: ProvisioningService, plan: Plan, lines: LinesAbove) -> None:
        self._service, self._plan, self._lines = service, plan, lines
        self._strangers = dict.fromkeys(plan.known_by_entry())

    def sorted(self, time: Time, limits: Limits, passed: Callable[[], None]) -> Kinds:
        """By who has signed them, of all that is held, and all that the list brings. passed: called for each leaf."""
        own, evidence, issuers = self._with_keys_of_cas(), set(), set(self._plan.issuers)
        for pk, key, spki, issuer, key_id in self._unsigned():
            if key not in own and self._may_matter(key, spki):
                evidence.add(pk)
                issuers.add((issuer, key_id))
        strangers = [key for key in self._strangers if self._may_need(self._plan.individuals[key])]
        issuers.update(self._issuers_of_enrolled(strangers))
        issuers.update(
            (leaf.issuer_sha256, leaf.authority_key_id or "") for _, (leaf, *_) in self._came(self._plan.came)
        )
        held = signers_named(self._service, {one for one, _ in issuers}, {one for _, one in issuers})
        kinds = Kinds(Signers([*map(parsed, held), *self._brought()]), time.at, limits.deadline())
        for some in in_portions(evidence):
            rows = RegistrationEvidence.objects.filter(pk__in=some).values_list(*_LEAF)
            for key, name, pem in rows.iterator(chunk_size=1000):
                passed()
                kinds.add(key, name, [parsed_once(pem)])
        brought, enrolled = {one.spki for one in self._lines.listed}, self._shown_by(strangers)
        while portion := list(islice(enrolled, PORTION)):
            of_cas = brought | keys_of_cas(self._service, {leaf.spki_sha256 for _, leaf in portion if leaf})
            for key, leaf in portion:
                passed()
                if leaf is None:
                    kinds.unexamined.add(key)
                elif leaf.spki_sha256 in of_cas:
                    own.add(key)
                else:
                    kinds.add(key, self._plan.individuals[key].ref.name, [leaf])
        for key, shown in self._came(self._plan.came):
            passed()
            if key not in own:
                kinds.add(key, self._plan.came[key].registration_id, shown)
        kinds.alone |= own
        return kinds

    def alone(self, keys: Sequence[str]) -> Iterator[Look]:
        """Of these devices."""
        came = [key for key in keys if key in self._plan.came]
        enrolled = [key for key in keys if key in self._strangers]
        yield from registered_alone(self._service, set(keys).difference(came, enrolled))
        for key, chain in self._came(came):
            credential = PresentedCredential(certificates=tuple(one.der for one in chain))
            yield look_alone(key, self._plan.came[key].registration_id, credential)
        for key, enrolled_leaf in self._shown_by(enrolled):
            if enrolled_leaf is not None:
                shown = PresentedCredential(certificates=(enrolled_leaf.der,))
                yield look_alone(key, self._plan.individuals[key].ref.name, shown)

    def _came(self, keys: Iterable[str]) -> Iterator[tuple[str, list[ParsedCertificate]]]:
        return ((key, list(map(parsed_once, self._plan.came[key].pems))) for key in keys)

    def _may_matter(self, key: str, spki: str) -> bool:
        """Whether anything above it changes, or else its own entry, or what bars its key."""
        return bool(self._lines.changes) or key in self._plan.individuals or spki in self._plan.spkis

    def _may_need(self, entry: Planned) -> bool:
        """Whether what lies above its device may decide: not where nothing changes but a switch."""
        return self._lines.may_bar or entry.is_new or entry.mechanism is not None

    def _with_keys_of_cas(self) -> set[str]:
        own = with_key_of_a_ca(
            self._service, ((key, leaf.spki_sha256) for key, (leaf, *_) in self._came(self._plan.came))
        )
        for some in in_portions({one.spki for one in self._lines.listed}):
            records = self._service.registrations.filter(leaf_spki__in=some)
            own |= set(records.values_list("registration_key", flat=True))
        brought = {one.spki for one in self._lines.listed}
        own |= {key for key, (leaf, *_) in self._came(self._plan.came) if leaf.spki_sha256 in brought}
        return (
            own if self._lines.changes else {one for one in own if device_at(one) in self._plan.individuals}
        )

    def _unsigned(self) -> Iterator[tuple[int, str, str, str, str]]:
        """Of those who may be signed by what is held, or will be."""
        rows = unsigned_evidence(self._service)
        wanted = [by_a_known_name(self._service)]
        wanted += [Q(certificate__issuer_sha256__in=one) for one in in_portions(self._lines.by_subject)]
        wanted += [Q(certificate__authority_key_id__in=one) for one in in_portions(self._lines.by_key_id)]
        for some in wanted:
            yield from rows.filter(some).values_list(*_COLUMNS).iterator(chunk_size=5000)

    def _issuers_of_enrolled(self, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
        for some in in_portions(keys):
            held = HeldCertificate.objects.filter(
                service=self._service, role=HeldRole.DEVICE, individual__registration_key__in=some
            )
            names = held.values_list("certificate__issuer_sha256", "certificate__authority_key_id").order_by()
            yield from ((issuer, key_id or "") for issuer, key_id in names.distinct())

    def _brought(self) -> Iterator[ParsedCertificate]:
        """All certificates of the lines that can lie above devices."""
        for change in self._lines.changes:
            yield from certificates_of(change)
            if isinstance(change.spec, IndividualSpec):
                yield from (parse_der(one.der) for one in change.spec.certificates.values())

    def _shown_by(self, strangers: Sequence[str]) -> Iterator[tuple[str, ParsedCertificate | None]]:
        """What is enrolled for each of them, or else what the list gives it; None where that was not kept."""
        for some in in_portions(strangers, PORTION):
            enrolled = enrolled_leaves(self._service, some)
            for key in some:
                given = self._plan.shown.get(key)
                yield key, enrolled.get(key) or (parse_der(given) if given is not None else None)


def enrolled_leaves(service: ProvisioningService, keys: Iterable[str]) -> dict[str, ParsedCertificate]:
    """By registration key, the certificate that is enrolled for a device."""
    found: dict[str, ParsedCertificate] = {}
    for key, _, came in enrolled_for(service, list(keys)):
        found.setdefault(key, parsed_once(came.pems[0]))
    return found
