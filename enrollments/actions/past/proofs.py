"""Whether a service demanded proof of possession of its CAs at some time, and of which CAs there was one (R7)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from django.utils import timezone

from enrollments.actions.past.putting_back import stored_certificates
from enrollments.audit.events import Event
from enrollments.models import CaCertificate, HistoryEvent, ProvisioningService

DEMANDED = "proof_of_possession"
# Adding a CA certificate proves nothing, and neither does making a code.
EVENTS = (Event.CA_VERIFIED.value, Event.CA_DELETED.value)
_THUMBPRINT = re.compile(r"\(SHA-256 ([0-9a-f]{64})\)\Z")


@dataclass(frozen=True, slots=True)
class Proofs:
    """`verified`: by primary key of the CA certificates that were verified; thumbprints of those that are gone now."""

    demanded: bool = False
    verified: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of_now(cls, service: ProvisioningService) -> Self:
        rows = service.ca_certificates.verified().values_list("pk", flat=True)
        demanded = ProvisioningService.what_decisions_read(service.pk).proof_of_possession
        return cls(demanded, dict.fromkeys(rows, ""))

    def before(self, event: HistoryEvent) -> "Proofs":
        """As they were before this row. Rows that tell nothing of them change nothing."""
        was = event.before or {}
        if event.event == Event.SERVICE_CHANGED and DEMANDED in was:
            return replace(self, demanded=bool(was[DEMANDED]))
        if event.event == Event.CA_VERIFIED:
            pk = int(event.subject_id)
            return replace(self, verified={one: gone for one, gone in self.verified.items() if one != pk})
        if event.event == Event.CA_DELETED and was.get("verified"):
            found = _THUMBPRINT.search(str(was.get("certificate", "")))
            return replace(
                self, verified={**self.verified, int(event.subject_id): found.group(1) if found else ""}
            )
        return self

    def decide_like(self, other: "Proofs") -> bool:
        if not self.demanded and not other.demanded:
            return True
        return self.demanded == other.demanded and self.verified.keys() == other.verified.keys()


def tells_of_proofs(event: HistoryEvent) -> bool:
    """Whether a row may change what is admitted by certificate without being about an entry."""
    return event.event in EVENTS or DEMANDED in (event.before or {})


def put_back_proofs(service: ProvisioningService, proofs: Proofs) -> None:
    """Make them what they were. Inside a rehearsal. Raises NotTold where a certificate is not kept any more."""
    ProvisioningService.objects.filter(pk=service.pk).update(**{DEMANDED: proofs.demanded})
    rows = service.ca_certificates.all()
    rows.exclude(pk__in=proofs.verified).update(verified_at=None, proof=None)
    there = set(rows.filter(pk__in=proofs.verified).values_list("pk", flat=True))
    gone = {pk: thumbprint for pk, thumbprint in proofs.verified.items() if pk not in there}
    certificates = stored_certificates(gone.values())
    CaCertificate.objects.bulk_create(
        CaCertificate(
            pk=pk,
            service=service,
            # Nobody sees it, and no CA certificate can have such a name.
            name=f"?{pk}",
            name_key=f"?{pk}",
            certificate=certificates[thumbprint],
            subject_sha256=certificates[thumbprint].subject_sha256,
            spki_sha256=certificates[thumbprint].spki_sha256,
            verified_at=timezone.now(),
            proof=certificates[thumbprint],
        )
        for pk, thumbprint in gone.items()
    )
