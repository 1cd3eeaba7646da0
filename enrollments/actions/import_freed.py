"""What ended after somebody had agreed to an import, about entries that its lines do not name: bars, and names held.

A disabled individual enrollment bars its keys under every name (R6), and any keeps its name from groups (R5), as a
record does for its entry (R11). What a preview told of a line may rest on one that is not there any more.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from enrollments.actions.certificates import parsed_once
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.import_changes import Change
from enrollments.actions.kept_attempts import above_leaf
from enrollments.actions.preview.near import Near
from enrollments.actions.preview.touched import in_portions
from enrollments.attestation.x509 import own_key_id
from enrollments.audit.events import Event
from enrollments.models import (
    Certificate,
    HeldCertificate,
    HeldRole,
    HistoryEvent,
    ImportRun,
    ProvisioningService,
    RegistrationEvidence,
)
from enrollments.policy.names import registration_key

# By which a bar may have ended, and by which a name may have become free.
_BARS = (Event.ENROLLMENT_ENABLED, Event.ENROLLMENT_CHANGED, Event.ENROLLMENT_DELETED)
_NAMES = (Event.ENROLLMENT_DELETED, Event.REGISTRATION_DELETED, Event.REGISTRATION_RELEASED)
# Of more than these it is not asked, inside the lock, which lines they matter to: to some of them, most likely.
MOST_ROWS = 200
_THUMBPRINT = re.compile(r"\(SHA-256 ([0-9a-f]{64})\)\Z")


class _FoundBy(NamedTuple):
    subject: str
    key_id: str
    spki: str


@dataclass(slots=True)
class Freed:
    """The rows that say so, of others than the import. Whoever carries it out reads each row of the history once."""

    read_to: int = 0
    rows: list[int] = field(default_factory=list)

    def matters_to(
        self, run: ImportRun, service: ProvisioningService, widening: Sequence[Change], latest: int, own: str
    ) -> HistoryEvent | None:
        """Inside the change lock: the last row on account of which one of these lines may do more than was told.

        latest: the last row there is. own: how the request IDs of the import's own rows begin.
        """
        self._read(max(self.read_to, run.agreed_on or 0), latest, service, own)
        if not self.rows or not widening:
            return None
        found = HistoryEvent.objects.filter(pk__in=self.rows[-MOST_ROWS:]).order_by("-pk")
        if len(self.rows) > MOST_ROWS:
            return found.first()
        is_above = any(one.is_group for one in widening) or _end_bars(service, widening)
        near = None
        for row in found:
            if is_above and row.event in _NAMES:
                return row
            barred = _may_have_barred(service, row)
            if barred is None or (is_above and barred):
                return row
            if barred:
                near = near or _near(service, widening)
                if any(near.meets(*one) for one in barred):
                    return row
        return None

    def _read(self, since: int, latest: int, service: ProvisioningService, own: str) -> None:
        """By their numbers alone: by an index of events, all that there ever were would be gone through."""
        rows = HistoryEvent.objects.filter(pk__gt=since, pk__lte=latest).order_by("pk")
        for pk, service_id, event, request_id in rows.values_list(
            "pk", "service_id", "event", "request_id"
        ).iterator():
            if service_id == service.pk and event in {*_BARS, *_NAMES} and not request_id.startswith(own):
                self.rows.append(pk)
        self.read_to = latest


def _end_bars(service: ProvisioningService, changes: Sequence[Change]) -> bool:
    """Whether one of them is about an entry that bars keys (R6): whoever has one may come in by it under any name."""
    held = HeldCertificate.objects.filter(service=service, role=HeldRole.DEVICE, individual__enabled=False)
    names = (registration_key(one.name) for one in changes if not one.is_group)
    return any(held.filter(individual__registration_key__in=some).exists() for some in in_portions(names))


def _may_have_barred(service: ProvisioningService, row: HistoryEvent) -> list[_FoundBy] | None:
    """By what the certificates are found that an entry held until this, or still does. None: that cannot be said.

    That it was enabled then is not looked at: what it held is in few lines.
    """
    if row.event not in _BARS:
        return []
    told = ((row.before or {}).get("certificates") or {}).values()
    thumbprints = {found[1] for one in told if (found := _THUMBPRINT.search(str(one)))}
    stored = list(Certificate.objects.filter(thumbprint_sha256__in=thumbprints))
    if len(stored) < len(set(told)):
        return None
    certificates = [parsed_once(one.pem) for one in stored]
    barred = [_FoundBy(one.subject_sha256, own_key_id(one), one.spki_sha256) for one in certificates]
    if row.event == Event.ENROLLMENT_ENABLED:
        held = HeldCertificate.objects.filter(service=service, role=HeldRole.DEVICE)
        held = held.filter(individual__registration_key=registration_key(row.subject_name))
        barred += [_FoundBy(*one) for one in held.values_list(*_FOUND_BY)]
    return barred


_FOUND_BY = ("subject_sha256", "subject_key_id", "spki_sha256")
# What of a certificate leads further up.
_ABOVE = ("spki_sha256", "issuer_sha256", "authority_key_id")


def _near(service: ProvisioningService, changes: Sequence[Change]) -> Near:
    """On, and above, the certificates that individual enrollments get by these lines; chains that were shown too."""
    near = Near()
    named = []
    for change in changes:
        if isinstance(change.spec, IndividualSpec):
            named.append(registration_key(change.name))
            given = change.spec.certificates.values()
            _look_above(
                near, [(one.spki_sha256, one.issuer_sha256, one.authority_key_id or "") for one in given]
            )
    for some in in_portions(named):
        evidence = RegistrationEvidence.objects.filter(
            registration__service=service, registration__registration_key__in=some
        )
        _look_above(near, evidence.values_list(*(f"certificate__{column}" for column in _ABOVE)))
        attempts = service.attempts.filter(registration_key__in=some).exclude(chain="")
        shown = {one for chain in attempts.values_list("chain", flat=True) for one in above_leaf(chain)}
        for chained in in_portions(shown):
            _look_above(near, Certificate.objects.filter(thumbprint_sha256__in=chained).values_list(*_ABOVE))
    near.follow(service, ())
    return near


def _look_above(near: Near, certificates: Iterable[tuple[str, str, str]]) -> None:
    for spki, issuer, authority_key_id in certificates:
        near.spkis.add(spki)
        near.ask(issuer, authority_key_id)
