"""The leaves of devices of no class of evidence to whom a list of changes could matter."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from django.db.models import Q

from enrollments.actions.attempts_certificates import Came
from enrollments.actions.certificates import parsed, parsed_once
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.preview.credentials import device_at
from enrollments.actions.preview.kinds import (
    Kinds,
    Signers,
    by_a_known_name,
    join_twins,
    keys_of_cas,
    signers_named,
    unsigned_evidence,
    with_key_of_a_ca,
)
from enrollments.actions.preview.looking import Look, Time, look_alone, registered_alone
from enrollments.actions.preview.loose import leaf_names
from enrollments.actions.preview.near import LinesAbove, certificates_of
from enrollments.actions.preview.planned import Plan
from enrollments.actions.preview.signing import LeafNames, joined_twins, twins_of
from enrollments.actions.preview.touched import in_portions
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import ParsedCertificate, parse_der
from enrollments.models import HeldCertificate, HeldRole, ProvisioningService, RegistrationEvidence
from enrollments.policy.names import registration_key

# Registered devices, by registration key.
_COLUMNS = (
    "pk",
    "registration__registration_key",
    "registration__leaf_spki",
    "registration__leaf_thumbprint",
    "certificate__issuer_sha256",
    "certificate__authority_key_id",
)
_LEAF = ("registration__registration_key", "registration__registration_id", "certificate__pem")


class Leaves:
    """Of records, where that is said, and of strangers: by place (place_of), what no record has."""

    def __init__(
        self,
        service: ProvisioningService,
        plan: Plan,
        lines: LinesAbove,
        strangers: Mapping[str, Came],
        *,
        of_records: bool,
    ) -> None:
        self._service, self._plan, self._lines = service, plan, lines
        self._strangers, self._of_records = strangers, of_records

    def sorted(self, time: Time, deadline: float, passed: Callable[[], None]) -> Kinds:
        """By who has signed them, of all that is held, and all that the list brings. passed: called for each leaf."""
        own, evidence, issuers, names = self._with_keys_of_cas(), set(), set(), []
        for pk, key, spki, thumbprint, issuer, key_id in self._unsigned():
            if key not in own and self._may_matter(key, spki):
                evidence.add(pk)
                issuers.add((issuer, key_id))
                names.append(LeafNames(key, issuer, key_id, spki, thumbprint))
        for place, came in self._strangers.items():
            leaf = leaf_names(place, came)
            issuers.add((leaf.issuer, leaf.authority_key_id))
            names.append(leaf)
        barred = {one.place: frozenset(["barred"]) for one in names if one.spki in self._lines.bars}
        twins = joined_twins(twins_of(self._service, names), barred)
        held = signers_named(self._service, {one for one, _ in issuers}, {one for _, one in issuers})
        kinds = Kinds(Signers([*map(parsed, held), *self._brought()]), time.at, deadline, twins)
        for some in in_portions(evidence):
            rows = RegistrationEvidence.objects.filter(pk__in=some).values_list(*_LEAF)
            for key, name, pem in rows.iterator(chunk_size=1000):
                passed()
                kinds.add(key, name, [parsed_once(pem)])
        for place, came in self._strangers.items():
            passed()
            if not came.is_whole:
                kinds.unexamined.add(place)
            elif place in own:
                continue
            elif came.classed is not None:
                kinds.add_classed(place, came)
            else:
                kinds.add(place, came.registration_id, list(map(parsed_once, came.pems)))
        join_twins([kinds])
        kinds.alone |= own
        return kinds

    def alone(self, places: Sequence[str]) -> Iterator[Look]:
        """Of these."""
        strangers = [place for place in places if place in self._strangers]
        yield from registered_alone(self._service, set(places).difference(strangers))
        for place in strangers:
            came = self._strangers[place]
            credential = PresentedCredential(certificates=tuple(one.der for one in came.read_chain()))
            yield look_alone(place, came.registration_id, credential)

    def _may_matter(self, key: str, spki: str) -> bool:
        """Whether anything above it changes, or else its own entry, or what bars a key of its."""
        return bool(self._lines.changes) or self._is_told_of(key) or spki in self._plan.spkis

    def _is_told_of(self, key: str) -> bool:
        return key in self._plan.individuals or key in self._plan.sharing

    def _with_keys_of_cas(self) -> set[str]:
        """Places of those whose leaf has the key of a CA, held or brought: nobody shares with such a device."""
        leaves = [(place, came.spki) for place, came in self._strangers.items()]
        brought = self._lines.ca_keys
        own = {place for place, spki in leaves if spki in brought}
        if not self._of_records:
            of_cas = keys_of_cas(self._service, {spki for _, spki in leaves})
            return own | {place for place, spki in leaves if spki in of_cas}
        own |= with_key_of_a_ca(self._service, leaves)
        for some in in_portions(brought):
            records = self._service.registrations.filter(leaf_spki__in=some)
            own |= set(records.values_list("registration_key", flat=True))
        return own if self._lines.changes else {one for one in own if self._is_told_of(device_at(one))}

    def _unsigned(self) -> Iterator[tuple[int, str, str, str, str, str]]:
        """Of those who may be signed by what is held, or will be."""
        if not self._of_records:
            return
        rows = unsigned_evidence(self._service)
        wanted = [by_a_known_name(self._service)]
        wanted += [Q(certificate__issuer_sha256__in=one) for one in in_portions(self._lines.by_subject)]
        wanted += [Q(certificate__authority_key_id__in=one) for one in in_portions(self._lines.by_key_id)]
        for some in wanted:
            yield from rows.filter(some).values_list(*_COLUMNS).iterator(chunk_size=5000)

    def _brought(self) -> Iterator[ParsedCertificate]:
        """All certificates of the lines that can lie above devices; of an entry that they turn, what it holds."""
        turned = set()
        for change in self._lines.changes:
            yield from certificates_of(change)
            if isinstance(change.spec, IndividualSpec):
                yield from (parse_der(one.der) for one in change.spec.certificates.values())
            elif not change.is_group:
                turned.add(registration_key(change.name))
        held = HeldCertificate.objects.filter(service=self._service, role=HeldRole.DEVICE)
        for some in in_portions(turned):
            rows = held.filter(individual__registration_key__in=some)
            yield from map(parsed, rows.values_list("certificate__pem", flat=True))
