"""Devices of no class of evidence to whom a change could matter, with what may have signed their leaves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from django.db.models import Q

from enrollments.actions.attempts import Came, devices_that_came
from enrollments.actions.certificates import parsed, parsed_once
from enrollments.actions.preview.kinds import (
    Kinds,
    Signers,
    by_a_known_name,
    shown_by_entries,
    signers_named,
    unsigned_evidence,
    with_key_of_a_ca,
)
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.looking import Look, Time, look_alone, registered_alone
from enrollments.actions.preview.touched import Touched, in_portions
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import ProvisioningService, RegistrationEvidence


@dataclass(slots=True)
class Loose:
    """As it is in one state of things, or in several.

    leaves: of records, by the primary key of the evidence. own: registration keys of devices that have the key of a CA.
    strangers: by registration key, name and certificates of devices without a record: what they have shown at an
    attempt or, of those that the change is about, else what is enrolled.
    signers: certificates whose keys may have signed any of these, as PEM.
    """

    strangers: dict[str, Came]
    leaves: set[int] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    signers: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, service: ProvisioningService, limits: Limits) -> "Loose":
        return cls(devices_that_came(service, limits.attempts))

    def read(self, service: ProvisioningService, touched: Touched) -> None:
        """What there is at present; a certificate that was enrolled before is kept to the device."""
        rows = unsigned_evidence(service).filter(
            Q(registration__registration_key__in=touched.keys)
            | Q(registration__leaf_spki__in=touched.spkis)
            | by_a_known_name(service)
        )
        found = list(rows.values_list("pk", "certificate__issuer_sha256", "certificate__authority_key_id"))
        self.leaves.update(pk for pk, _, _ in found)
        registered = service.registrations.filter(registration_key__in=touched.keys)
        known = {*registered.values_list("registration_key", flat=True), *self.strangers}
        self.strangers |= shown_by_entries(service, touched.keys - known)
        leaves = {key: parsed(one.pems[0]) for key, one in self.strangers.items()}
        self.own |= with_key_of_a_ca(service, ((key, one.spki_sha256) for key, one in leaves.items()))
        issuers = {(issuer, key_id) for _, issuer, key_id in found}
        issuers |= {(one.issuer_sha256, one.authority_key_id or "") for one in leaves.values()}
        subjects, key_ids = {one for one, _ in issuers}, {one for _, one in issuers}
        self.signers.update(signers_named(service, subjects, key_ids))

    def sorted(self, time: Time, deadline: float) -> Kinds:
        kinds = Kinds(Signers(map(parsed, self.signers)), time.at, deadline)
        columns = ("registration__registration_key", "registration__registration_id", "certificate__pem")
        for some in in_portions(self.leaves):
            rows = RegistrationEvidence.objects.filter(pk__in=some).values_list(*columns)
            for key, name, pem in rows.iterator(chunk_size=1000):
                self._add(kinds, key, name, (pem,))
        for key, came in self.strangers.items():
            self._add(kinds, key, *came)
        kinds.alone |= self.own
        return kinds

    def _add(self, kinds: Kinds, key: str, name: str, pems: Sequence[str]) -> None:
        if key not in self.own:
            kinds.add(key, name, list(map(parsed_once, pems)))

    def alone(self, service: ProvisioningService, keys: Iterable[str]) -> Iterable[Look]:
        """Of these devices."""
        keys = set(keys)
        yield from registered_alone(service, keys - self.strangers.keys())
        for key in keys & self.strangers.keys():
            name, pems = self.strangers[key]
            shown = PresentedCredential(certificates=tuple(parsed(pem).der for pem in pems))
            yield look_alone(key, name, shown)
