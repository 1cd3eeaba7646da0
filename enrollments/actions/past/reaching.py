"""Which entries can matter to a device at all: so that nothing else has to be put back, or judged again for."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from django.db.models import Q

from enrollments.actions.certificates import parsed_once
from enrollments.actions.past.credentials import Credentials
from enrollments.actions.past.entries import PastEntry
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.models import Certificate, HeldRole, ProvisioningService
from enrollments.policy.facts import EntryKind
from enrollments.policy.names import registration_key

CHUNK = 500
_COLUMNS = (
    "thumbprint_sha256",
    "subject",
    "subject_sha256",
    "issuer_sha256",
    "spki_sha256",
    "subject_key_id",
    "authority_key_id",
    "not_before",
    "not_after",
)


@dataclass(frozen=True, slots=True)
class Link:
    """A certificate, by what tells which others may have signed it: names and key identifiers, and keys."""

    thumbprint: str
    subject: str
    name: str
    issuer: str
    key: str
    key_id: str
    issuer_key_id: str
    not_before: datetime
    not_after: datetime

    @classmethod
    def of(cls, one: ParsedCertificate | Certificate) -> "Link":
        return cls(
            one.thumbprint_sha256,
            one.subject,
            one.subject_sha256,
            one.issuer_sha256,
            one.spki_sha256,
            one.subject_key_id or "",
            one.authority_key_id or "",
            one.not_before,
            one.not_after,
        )


@dataclass(slots=True)
class Reach:
    """What a device can meet with anything that it has: certificates by their thumbprints; by keys whatever holds keys.

    Wider than what it does meet: by names and key identifiers, without looking at signatures.
    dates: when a certificate that it can meet begins or ends to be valid, in words.
    """

    key: str
    signs: bool
    thumbprints: frozenset[str] = frozenset()
    dates: dict[datetime, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, service: ProvisioningService, has: Credentials, key: str, states: Iterable[PastEntry]
    ) -> "Reach":
        if not has.has_chains:
            return cls(key, signs=True)
        met = _met_by(service, has, states)
        dates: dict[datetime, str] = {}
        for one in met:
            who = one.subject or one.thumbprint[:16]
            dates[one.not_before] = f"the certificate {who} became valid"
            dates[one.not_after + timedelta(microseconds=1)] = f"the certificate {who} expired"
        thumbprints = frozenset(one.thumbprint for one in met)
        return cls(key, signs=has.signs, thumbprints=thumbprints, dates=dates)

    def within(self, entry: PastEntry) -> PastEntry:
        """The entry with those of its certificates that the device can meet."""
        met = tuple(one for one in entry.certificates if one[1] in self.thumbprints)
        return replace(entry, certificates=met)

    def touches(self, entry: PastEntry) -> bool:
        if self.signs and entry.kind is EntryKind.GROUP and entry.has_keys():
            return True
        return self.is_met_by(entry)

    def is_met_by(self, entry: PastEntry) -> bool:
        """Whether the entry can matter to what the device shows. One that may have held anything can."""
        if entry.kind is EntryKind.INDIVIDUAL and registration_key(entry.name) == self.key:
            return True
        if any(thumbprint in self.thumbprints for _, thumbprint in entry.certificates):
            return True
        if entry.may_hold is None:
            return bool(self.thumbprints)
        return not self.thumbprints.isdisjoint(entry.may_hold)


def _met_by(service: ProvisioningService, has: Credentials, states: Iterable[PastEntry]) -> set[Link]:
    named = {thumbprint for entry in states for thumbprint in entry.named}
    chain = [Link.of(one) for shown in has.all for one in shown.chain]
    return _met(chain, enrolled(service, named))


def enrolled(service: ProvisioningService, named: Iterable[str]) -> set[Link]:
    """What may stand above a leaf: these, by thumbprint, and what is held now."""
    return {*_stored(named), *_held(service)}


def names_met(service: ProvisioningService, has: Credentials, states: Iterable[PastEntry]) -> set[str]:
    """Under which registration keys anything may ever have been enrolled that the device can meet (R3: by its name).

    Of all certificates that there are, since those that an entry held once are in no other place. No index has what is
    looked for, so all of them are gone through, twice or three times.
    """
    met = _met_by(service, has, states)
    known: set[tuple[frozenset[str], ...]] = set()
    while (asked := _asked_by(met)) not in known:
        known.add(asked)
        subjects, keys, key_ids = asked
        found = Certificate.objects.filter(
            Q(subject_sha256__in=subjects) | Q(spki_sha256__in=keys) | Q(subject_key_id__in=key_ids)
        )
        met |= {Link(*row) for row in found.values_list(*_COLUMNS)}
    thumbprints = [one.thumbprint for one in met]
    names: set[str] = set()
    for start in range(0, len(thumbprints), CHUNK):
        some = Certificate.objects.filter(thumbprint_sha256__in=thumbprints[start : start + CHUNK])
        for pem in some.values_list("pem", flat=True):
            names.update(map(registration_key, parsed_once(pem).common_names))
    return names


def _asked_by(met: Iterable[Link]) -> tuple[frozenset[str], ...]:
    """Names, keys and key identifiers of whatever may have signed one of these, or has its key."""
    met = list(met)
    return (
        frozenset(one.issuer for one in met),
        frozenset(one.key for one in met),
        frozenset(one.issuer_key_id for one in met if one.issuer_key_id),
    )


def _met(chain: list[Link], others: Iterable[Link]) -> set[Link]:
    """Whatever may have signed one of these, or has the key of one, and so on upwards."""
    by_name: dict[str, list[Link]] = {}
    by_key: dict[str, list[Link]] = {}
    by_key_id: dict[str, list[Link]] = {}
    for one in {*chain, *others}:
        by_name.setdefault(one.name, []).append(one)
        by_key.setdefault(one.key, []).append(one)
        if one.key_id:
            by_key_id.setdefault(one.key_id, []).append(one)
    met = set(chain)
    waiting = list(chain)
    while waiting:
        one = waiting.pop()
        above = [*by_name.get(one.issuer, ()), *by_key.get(one.key, ())]
        above += by_key_id.get(one.issuer_key_id, ()) if one.issuer_key_id else ()
        for other in above:
            if other not in met:
                met.add(other)
                waiting.append(other)
    return met


def _stored(thumbprints: Iterable[str]) -> Iterable[Link]:
    wanted = list(thumbprints)
    for start in range(0, len(wanted), CHUNK):
        rows = Certificate.objects.filter(thumbprint_sha256__in=wanted[start : start + CHUNK])
        yield from (Link(*row) for row in rows.values_list(*_COLUMNS))


def _held(service: ProvisioningService) -> Iterable[Link]:
    """What may stand in between, changed or not: certificates of groups, and those of devices that could sign."""
    held = service.held_certificates.exclude(role=HeldRole.DEVICE, certificate__is_ca=False)
    for row in held.values_list(*(f"certificate__{column}" for column in _COLUMNS)).iterator(chunk_size=2000):
        yield Link(*row)
