"""What a device would show, as far as it is known here: to ask what would be answered to it, without it."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db.models import Max

from enrollments.actions.attempts_certificates import shown_at_attempts
from enrollments.actions.attempts_keys import keys_at_attempts
from enrollments.actions.certificates import StoredUnreadable, cannot_be_read, readable
from enrollments.actions.key_identifiers import (
    endorsement_identifier,
    identifier_of_derived,
    identifier_of_group_key,
    key_identifier,
)
from enrollments.attestation.credential import ClaimedTpm, PresentedCredential
from enrollments.attestation.symmetric_key import derive_device_key, key_bytes, make_token
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationRecord,
    RegistrationStatus,
)
from enrollments.models.enrollments import new_symmetric_key
from enrollments.models.fields import fingerprint
from enrollments.policy.facts import Mechanism
from enrollments.policy.names import registration_key

TOKEN_LASTS = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class KnownCredential:
    """`basis`: in words, what is taken as shown. `shown` is None for a TPM, whose answer nobody else can give."""

    registration_id: str
    basis: str
    shown: PresentedCredential | None
    chain: tuple[ParsedCertificate, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Proven:
    """With what a device proved itself: certificates, the leaf first, or a key by what identifies it, or a TPM.

    unreadable: the thumbprints of those of its certificates that cannot be read; without its leaf it has no chain.
    key_ids: as records have them; several of an attempt that does not say which of them it was. fingerprint: of a
    record of an older version, which has no more. at: when it did so last, as far as that is known.
    """

    registration_id: str
    mechanism: Mechanism
    at: datetime
    chain: tuple[ParsedCertificate, ...] = field(default=(), repr=False)
    key_ids: tuple[str, ...] = ()
    fingerprint: str = ""
    unreadable: tuple[str, ...] = ()


def known_credentials(
    service: ProvisioningService, registration_id: str, *, at: datetime
) -> list[KnownCredential]:
    """What the device proved itself with, the latest first, and then what else is enrolled for it.

    Raises StoredUnreadable where a certificate of it cannot be read: of what is left nobody can say that it is all.
    """
    key = registration_key(registration_id)
    record = _record(service, registration_id)
    entry = service.individualenrollments.filter(registration_key=key).first()
    proven = proven_by(service, registration_id, record)
    known = [
        shown
        for number, one in enumerate(proven)
        for shown in _shows_again(service, entry, one, at, _LAST if number == 0 else _BEFORE)
    ]
    if record is not None and (group := key_group_of(record)) is not None:
        known.append(derived_from_group(service, group, record.registration_id, at=at))
    if entry is not None:
        known += _enrolled(service, entry, at, {one.chain[0].thumbprint_sha256 for one in known if one.chain})
    told: dict[tuple[str, str], KnownCredential] = {}
    for one in known:
        told.setdefault((one.basis, one.chain[0].thumbprint_sha256 if one.chain else ""), one)
    return list(told.values())


_LAST, _BEFORE = "with which it proved itself last", "with which it proved itself before that"


def _record(service: ProvisioningService, registration_id: str) -> RegistrationRecord | None:
    records = service.registrations.select_related("group", "owner_group")
    return records.filter(registration_key=registration_key(registration_id)).first()


def proven_by(
    service: ProvisioningService, registration_id: str, record: RegistrationRecord | None
) -> list[Proven]:
    """With what the device proved itself, the latest first: what its record has, and what only attempts have."""
    key = registration_key(registration_id)
    found = [
        _proven_by_chain(one.registration_id, one.at or _NEVER, one.kept_chain())
        for one in shown_at_attempts(service, only=[key]).get(key, [])
    ]
    found += [
        Proven(one.registration_id, one.mechanism, one.at, key_ids=one.key_ids)
        for one in keys_at_attempts(service, registration_id=key).get(key, [])
        if one.key_ids
    ]
    found.sort(key=lambda one: one.at, reverse=True)
    if record is not None and (recorded := _on_record(service, record)) is not None:
        found.insert(sum(one.at > recorded.at for one in found), recorded)
    return found


def _on_record(service: ProvisioningService, record: RegistrationRecord) -> Proven | None:
    evidence = record.evidence.order_by("position")
    chain = dict(evidence.values_list("certificate__thumbprint_sha256", "certificate__pem"))
    if not chain and record.mechanism == AttestationMechanism.X509:
        return None
    attempts = service.attempts.filter(registration_key=record.registration_key)
    if chain:
        shown = attempts.filter(leaf_thumbprint=record.leaf_thumbprint).exclude(chain="")
    else:
        shown = attempts.filter(key_id__in=[one.rpartition(":")[2] for one in record.key_ids.split()])
    since = shown.aggregate(since=Max("last_at"))["since"]
    if since is None:
        since = record.updated_at if record.status == RegistrationStatus.ASSIGNED else record.created_at
    if chain:
        return _proven_by_chain(record.registration_id, since, chain)
    mechanism, key_ids = Mechanism(record.mechanism), tuple(record.key_ids.split())
    return Proven(
        record.registration_id, mechanism, since, key_ids=key_ids, fingerprint=record.key_fingerprint
    )


def _proven_by_chain(registration_id: str, at: datetime, pems: Mapping[str, str]) -> Proven:
    """`pems`: by thumbprints, the leaf first."""
    read = {thumbprint: readable(pem) for thumbprint, pem in pems.items()}
    unreadable = tuple(thumbprint for thumbprint, one in read.items() if one is None)
    chain = tuple(one for one in read.values() if one is not None)
    is_known = bool(read) and next(iter(read)) not in unreadable
    return Proven(registration_id, Mechanism.X509, at, chain if is_known else (), unreadable=unreadable)


def proven_by_name(service: ProvisioningService, registration_id: str) -> list[Proven]:
    """The same, where the record is not at hand."""
    return proven_by(service, registration_id, _record(service, registration_id))


def leaves_among(proven: Iterable[Proven]) -> list[ParsedCertificate]:
    """The certificates among these by which the device proved itself, as far as they can be read."""
    return [one.chain[0] for one in proven if one.chain]


def unreadable_among(proven: Iterable[Proven]) -> list[str]:
    """The thumbprints of those that cannot be, each once."""
    return list(dict.fromkeys(one.unreadable[0] for one in proven if one.unreadable and not one.chain))


def _shows_again(
    service: ProvisioningService, entry: IndividualEnrollment | None, proven: Proven, at: datetime, when: str
) -> list[KnownCredential]:
    """One; or several, of keys that are told apart no more."""
    name = proven.registration_id
    if proven.unreadable:
        raise StoredUnreadable(_of_the_device(name, proven.unreadable[0]))
    if proven.chain:
        return [_shows(name, proven.chain, f"{'the' if when == _LAST else 'a'} chain {when}")]
    if proven.mechanism is Mechanism.TPM:
        if entry is not None and entry.mechanism == AttestationMechanism.TPM and _is_tpm_of(entry, proven):
            return [_tpm_of(entry)]
        gone = PresentedCredential(claimed_tpm=ClaimedTpm(b""))
        return [KnownCredential(name, f"the TPM {when}", gone)]
    held = [
        KnownCredential(name, basis, PresentedCredential(authorization=_token(service, name, key, at)))
        for key, basis in _keys_held(service, entry, proven)
    ]
    if held:
        return held
    # Which key it was is known, and that no entry has it; any other that none has is answered alike.
    nobody = _token(service, name, key_bytes(new_symmetric_key()), at)
    basis = f"a SAS token by the key {when}, which no entry holds any more"
    return [KnownCredential(name, basis, PresentedCredential(authorization=nobody))]


def _is_tpm_of(entry: IndividualEnrollment, proven: Proven) -> bool:
    held = bytes(entry.endorsement_key or b"")
    if proven.key_ids:
        return endorsement_identifier(held) in proven.key_ids
    return _may_be(held.hex(), proven)


def _may_be(secret: str, proven: Proven) -> bool:
    """By a fingerprint alone, which tells nothing under another key of the installation."""
    own = fingerprint(secret)
    is_comparable = proven.fingerprint.partition(":")[0] == own.partition(":")[0]
    return proven.fingerprint == own or not is_comparable


def _keys_held(
    service: ProvisioningService, entry: IndividualEnrollment | None, proven: Proven
) -> Iterator[tuple[bytes, str]]:
    """The key of the device, as far as an entry holds it, or another from which it is derived; and which that is."""
    if entry is not None and entry.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        for which, secret in (("primary", entry.primary_key), ("secondary", entry.secondary_key)):
            own = key_identifier(secret) in proven.key_ids if proven.key_ids else _may_be(secret, proven)
            if own:
                yield key_bytes(secret), f"a SAS token by the {which} key of its individual enrollment"
    groups = service.enrollmentgroups.filter(mechanism=AttestationMechanism.SYMMETRIC_KEY).order_by("pk")
    for group in groups:
        for which, secret in (("primary", group.primary_key), ("secondary", group.secondary_key)):
            key = key_bytes(secret)
            if proven.key_ids:
                ids = {identifier_of_group_key(key), identifier_of_derived(key, proven.registration_id)}
                derived = bool((ids - {""}) & set(proven.key_ids))
            else:
                derived = _may_be(secret, proven)
            if derived:
                yield derive_device_key(key, proven.registration_id), _DERIVED.format(which, group)


_DERIVED = "a SAS token by the key that a device derives from the {} key of enrollment group {}"
_NEVER = datetime.min.replace(tzinfo=UTC)


def derived_from_group(
    service: ProvisioningService, group: EnrollmentGroup, registration_id: str, *, at: datetime
) -> KnownCredential:
    """A token such as any device of a group with symmetric keys signs it (R4). The group holds such keys."""
    key = derive_device_key(key_bytes(group.primary_key), registration_id)
    return KnownCredential(
        registration_id,
        _DERIVED.format("primary", group),
        PresentedCredential(authorization=_token(service, registration_id, key, at)),
    )


def _enrolled(
    service: ProvisioningService, entry: IndividualEnrollment, at: datetime, told: Collection[str]
) -> list[KnownCredential]:
    """told: thumbprints of what is known of the device already."""
    registration_id = entry.registration_id
    if entry.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        token = _token(service, registration_id, key_bytes(entry.primary_key), at)
        return [
            KnownCredential(
                registration_id,
                "a SAS token by the primary key of its individual enrollment",
                PresentedCredential(authorization=token),
            )
        ]
    if entry.mechanism == AttestationMechanism.TPM:
        return [_tpm_of(entry)]
    held = entry.certificates.select_related("certificate").order_by("slot")
    known: list[KnownCredential] = []
    for number, one in enumerate(held):
        thumbprint = one.certificate.thumbprint_sha256
        if thumbprint in told:
            continue
        if (certificate := readable(one.certificate.pem)) is None:
            raise StoredUnreadable(_of_the_device(registration_id, thumbprint))
        known.append(_shows(registration_id, (certificate,), _ENROLLED[number > 0]))
    return known


def _of_the_device(registration_id: str, thumbprint: str) -> str:
    return f"{cannot_be_read(thumbprint)[:-1]}: what {registration_id} would be answered by it is not known."


_ENROLLED = (
    "the certificate of its individual enrollment",
    "the second certificate of its individual enrollment",
)


def _tpm_of(entry: IndividualEnrollment) -> KnownCredential:
    basis = "the TPM of its individual enrollment, taken as having answered its challenge"
    return KnownCredential(entry.registration_id, basis, None)


def _shows(registration_id: str, chain: tuple[ParsedCertificate, ...], basis: str) -> KnownCredential:
    shown = PresentedCredential(certificates=tuple(one.der for one in chain))
    return KnownCredential(registration_id, basis, shown, chain)


def key_group_of(record: RegistrationRecord) -> EnrollmentGroup | None:
    """Of which group with symmetric keys the device is, also after it was shut out singly."""
    if record.mechanism != AttestationMechanism.SYMMETRIC_KEY:
        return None
    for group in (record.group, record.owner_group):
        if group is not None and group.mechanism == AttestationMechanism.SYMMETRIC_KEY:
            return group
    return None


def _token(service: ProvisioningService, registration_id: str, key: bytes, at: datetime) -> str:
    return make_token(service.id_scope, registration_id, key, int((at + TOKEN_LASTS).timestamp()))
