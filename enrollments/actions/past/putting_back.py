"""Putting entries back as they were, inside a rehearsal: what is judged there is judged by the decision of now.

Keys are put back as ones that nobody has: who is asked about them asks for their identifiers. Nothing else of an entry
is put back but what decides; the rehearsal ends, and with it all of this.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.db import IntegrityError

from enrollments.actions.certificates import parsed
from enrollments.actions.entries import held
from enrollments.actions.past.entries import NotTold, PastEntry, Subject
from enrollments.models import (
    AttestationMechanism,
    Certificate,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
    ProvisioningService,
    TrustAnchor,
)
from enrollments.models.enrollments import new_symmetric_key
from enrollments.policy.facts import EntryKind
from enrollments.policy.names import registration_key

CHUNK = 500
NOBODYS_KEY = new_symmetric_key()


def put_back(
    service: ProvisioningService,
    entries: Mapping[Subject, PastEntry | None],
) -> None:
    """Make each of these entries what it was; None: it was not there. Inside a rehearsal. Raises NotTold.

    The foreign keys of what is taken away here are looked at when a transaction commits, and this one never does.
    """
    there = [entry for entry in entries.values() if entry is not None]
    try:
        for kind, model, place, name in (
            (EntryKind.INDIVIDUAL, IndividualEnrollment, "individual", "registration_key"),
            (EntryKind.GROUP, EnrollmentGroup, "group", "group_key"),
        ):
            wanted = {entry.pk: entry for entry in there if entry.kind is kind}
            pks = {pk for one, pk in entries if one is kind}
            # Whoever has one of their names now had not come yet: a name is one entry's at a time.
            for names in _chunks({registration_key(entry.name) for entry in wanted.values()}):
                namesakes = model.objects.filter(service=service, **{f"{name}__in": names})
                pks |= set(namesakes.values_list("pk", flat=True))
            existing: set[int] = set()
            for some in _chunks(pks):
                _take_away(HeldCertificate.objects.filter(**{f"{place}__in": some}))
                if kind is EntryKind.GROUP:
                    _take_away(TrustAnchor.objects.filter(group__in=some))
                _take_away(model.objects.filter(pk__in=[pk for pk in some if pk not in wanted]))
                existing |= set(model.objects.filter(pk__in=some).values_list("pk", flat=True))
            _set_back(model, [entry for pk, entry in wanted.items() if pk in existing])
            _add(service, [entry for pk, entry in wanted.items() if pk not in existing])
        _hold_certificates(service, there)
    except IntegrityError as problem:
        raise NotTold(
            f"The history of service {service} does not fit together: two entries would have held the same at that "
            "time. Nothing can be said about it."
        ) from problem


def _chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    ordered = sorted(values)
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]


def _take_away(rows: Any) -> None:
    """By one statement, without looking for what hangs on the rows: of a group that may be a million records."""
    rows._raw_delete(rows.db)


def _columns(entry: PastEntry) -> dict[str, Any]:
    """What of an entry is put back. Keys that nobody has stand for those that it had."""
    key = NOBODYS_KEY if entry.has_keys() else ""
    columns: dict[str, Any] = {
        "mechanism": entry.mechanism,
        "enabled": entry.enabled,
        "primary_key": key,
        "secondary_key": key,
    }
    if entry.kind is EntryKind.INDIVIDUAL:
        is_tpm = entry.mechanism == AttestationMechanism.TPM
        columns["endorsement_key"] = NOBODYS_KEY.encode() if is_tpm else None
    return columns


def _set_back(model: Any, entries: Iterable[PastEntry]) -> None:
    """Those that are there still. Changed in place, their rows go on being referred to, and nobody waits for that."""
    alike: dict[str, list[PastEntry]] = {}
    for entry in entries:
        alike.setdefault(f"{entry.mechanism} {entry.enabled}", []).append(entry)
    for some in alike.values():
        for pks in _chunks(entry.pk for entry in some):
            unscheduled = {"switches_at": None, "scheduled_by": "", "schedule_reason": ""}
            model.objects.filter(pk__in=pks).update(**_columns(some[0]), **unscheduled)


def _add(service: ProvisioningService, entries: Iterable[PastEntry]) -> None:
    entries = list(entries)
    IndividualEnrollment.objects.bulk_create(
        [
            IndividualEnrollment(
                pk=entry.pk,
                service=service,
                registration_id=entry.name,
                registration_key=registration_key(entry.name),
                **_columns(entry),
            )
            for entry in entries
            if entry.kind is EntryKind.INDIVIDUAL
        ],
        batch_size=CHUNK,
    )
    EnrollmentGroup.objects.bulk_create(
        [
            EnrollmentGroup(
                pk=entry.pk,
                service=service,
                group_id=entry.name,
                group_key=registration_key(entry.name),
                **_columns(entry),
            )
            for entry in entries
            if entry.kind is EntryKind.GROUP
        ],
        batch_size=CHUNK,
    )
    for entry in entries:
        # Adding stamps the time of now. Of groups that admit alike, the one created first decides (R7).
        if entry.kind is EntryKind.GROUP and entry.created is not None:
            EnrollmentGroup.objects.filter(pk=entry.pk).update(created_at=entry.created)


def _hold_certificates(service: ProvisioningService, entries: Iterable[PastEntry]) -> None:
    rows = stored_certificates(thumbprint for entry in entries for _, thumbprint in entry.certificates)
    places: list[HeldCertificate] = []
    anchors: dict[tuple[int, str, str], TrustAnchor] = {}
    for entry in entries:
        for place, thumbprint in entry.certificates:
            row = rows[thumbprint]
            common: dict[str, Any] = {"service": service}
            if entry.kind is EntryKind.INDIVIDUAL:
                role = HeldRole.DEVICE
                common |= {"individual_id": entry.pk, "slot": place}
            elif place.startswith("helper"):
                role = HeldRole.HELPER
                common |= {"group_id": entry.pk}
            else:
                role = HeldRole.ANCHOR
                names = (entry.pk, row.subject_sha256, row.spki_sha256)
                if names not in anchors:
                    anchors[names] = TrustAnchor(
                        service=service,
                        group_id=entry.pk,
                        subject_sha256=row.subject_sha256,
                        spki_sha256=row.spki_sha256,
                    )
                common |= {"group_id": entry.pk, "slot": place, "anchor": anchors[names]}
            places.append(held(row, parsed(row.pem), role=role, **common))
    TrustAnchor.objects.bulk_create(anchors.values(), batch_size=CHUNK)
    for one in places:
        one.anchor = one.anchor  # its primary key, which it did not have before
    HeldCertificate.objects.bulk_create(places, batch_size=CHUNK)


def stored_certificates(thumbprints: Iterable[str]) -> dict[str, Certificate]:
    """By thumbprint. Raises NotTold where one is not kept any more: nothing here removes them."""
    wanted = set(thumbprints)
    found: dict[str, Certificate] = {}
    for some in _chunks(wanted):
        rows = Certificate.objects.filter(thumbprint_sha256__in=some)
        found |= {row.thumbprint_sha256: row for row in rows}
    if missing := sorted(wanted - found.keys()):
        raise NotTold(
            f"The history names the certificate {missing[0]}, which is not stored any more, so what was enrolled then "
            "cannot be judged."
        )
    return found
