"""Of which CAs possession is proven, for whatever shows them: one question for any number of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from enrollments.models import CaCertificate, ProvisioningService

# The digests of a subject and of a public key: what a proof is of (R7).
CaKey = tuple[str, str]


class Possession(StrEnum):
    VERIFIED = "verified"
    WAITING = "waiting"
    UNVERIFIED = "not verified"


@dataclass(frozen=True, slots=True)
class PossessionState:
    """name: the CA certificate that is verified, that waits, or that is there at all; empty where none is.

    until: how long its code waits.
    """

    possession: Possession
    name: str = ""
    until: datetime | None = None

    @property
    def is_verified(self) -> bool:
        return self.possession is Possession.VERIFIED


NONE_UPLOADED = PossessionState(Possession.UNVERIFIED)


def possession_of(
    service: ProvisioningService, cas: Iterable[CaKey], at: datetime
) -> Mapping[CaKey, PossessionState]:
    """The state of each of these CAs."""
    wanted = set(cas)
    found: dict[CaKey, PossessionState] = dict.fromkeys(wanted, NONE_UPLOADED)
    if not wanted:
        return found
    rows = service.ca_certificates.filter(spki_sha256__in={spki for _, spki in wanted}).order_by("pk")
    best: dict[CaKey, tuple[int, PossessionState]] = {}
    for row in rows:
        key, state = (row.subject_sha256, row.spki_sha256), state_of(row, at)
        rank = list(Possession).index(state.possession)
        if key in wanted and (key not in best or rank < best[key][0]):
            best[key] = rank, state
    return found | {key: state for key, (_, state) in best.items()}


def state_of(row: CaCertificate, at: datetime) -> PossessionState:
    """Of this one certificate, whatever is proven by others."""
    if row.is_verified:
        return PossessionState(Possession.VERIFIED, row.name)
    if row.is_waiting(at):
        return PossessionState(Possession.WAITING, row.name, row.code_expires_at)
    return PossessionState(Possession.UNVERIFIED, row.name)
