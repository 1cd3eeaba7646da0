"""How often devices come: who is held back, and what a refused one is told to wait (R14).

A leaf's key is proven by the handshake, so whoever holds it may be held back by it before anything else is looked
at. Whoever shows a token is judged first: the same claim from the same address may be somebody else's. A token that was
proven a moment ago, and on the present epoch, says whose it is as a leaf's key does.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

from enrollments.actions.attempts import Peer
from enrollments.actions.callers import credential_of, source_of
from enrollments.actions.judging import Judgement
from enrollments.actions.quiet_periods import caller_of, quiet_period_of
from enrollments.actions.throttled_attempts import (
    count_too_often,
    count_too_often_unjudged,
    note_held_back,
)
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import parse_der
from enrollments.errors import AttestationError
from enrollments.models import ProvisioningService, QuietPeriod, RegistrationAttempt
from enrollments.policy.back_off import retry_after
from enrollments.policy.names import registration_key
from enrollments.throttling import Caller, Refused, limiter

# How often a TPM may ask to be challenged from one address; the registration that follows has the device's own rate.
CHALLENGES_PER_MINUTE = 30


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a device, as far as rates are concerned. `address` is the peer's."""

    service: ProvisioningService
    claimed_registration_id: str
    credential: PresentedCredential
    address: str
    arrived_at: datetime
    is_poll: bool = False
    client: str = ""

    @property
    def peer(self) -> Peer:
        return Peer(self.address, self.client)

    @property
    def now(self) -> float:
        return self.arrived_at.timestamp()

    def caller(self, credential: str, *, is_proven: bool) -> Caller:
        return Caller(
            self.service.pk, registration_key(self.claimed_registration_id), credential, is_proven=is_proven
        )

    def judged(self, judgement: Judgement) -> Caller:
        """Whom this request belongs to, now that it has been judged."""
        if judgement.decision.proven and judgement.token_of:
            _PROVEN_TOKENS.keep(self, judgement)
        return self.caller(credential_of(judgement, self.address), is_proven=judgement.decision.proven)


class _ProvenTokens:
    """Whose tokens were proven lately: by a digest that this process alone can make, with the epoch of the judgement.

    Only to be held back by: whoever is not has the token proven anew. At most `most`; a full one begins anew.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._secret = secrets.token_bytes(32)
        self._proven: dict[bytes, tuple[int, str]] = {}

    def keep(self, visit: Visit, judgement: Judgement) -> None:
        if len(self._proven) >= self._most:
            self._proven.clear()
        self._proven[self._digest(visit)] = (judgement.epoch, credential_of(judgement, visit.address))

    def credential(self, visit: Visit) -> str:
        epoch, credential = self._proven.get(self._digest(visit), (-1, ""))
        return credential if epoch == visit.service.epoch else ""

    def _digest(self, visit: Visit) -> bytes:
        shown = f"{visit.service.pk}\n{visit.claimed_registration_id}\n{visit.credential.authorization}"
        return hashlib.blake2b(shown.encode("utf-8", "replace"), key=self._secret, digest_size=16).digest()


_PROVEN_TOKENS = _ProvenTokens(most=8192)


@dataclass(frozen=True, slots=True)
class Wait:
    """Told to whoever comes too early or too often. `tracking_id`: where it leads to an attempt."""

    seconds: int
    tracking_id: str = ""


def wait_before_judging(visit: Visit) -> Wait | None:
    """How long the holder of this leaf's key, or of this token, still has to wait; None where it may be judged."""
    if visit.credential.authorization:
        credential = _PROVEN_TOKENS.credential(visit)
        return _wait_of_proven(visit, visit.caller(credential, is_proven=True)) if credential else None
    leaf_key = _leaf_key(visit.credential)
    if not leaf_key:
        return None
    proven, unproven = (visit.caller(leaf_key, is_proven=known) for known in (True, False))
    if wait := _held_back(visit, unproven):
        return Wait(wait)
    return _wait_of_proven(visit, proven)


def _wait_of_proven(visit: Visit, caller: Caller) -> Wait | None:
    if wait := _held_back(visit, caller):
        return Wait(wait)
    if visit.is_poll:
        wait = limiter().poll_wait(caller, visit.now)
        return Wait(wait) if wait else None
    wait = limiter().registration_wait(
        caller, visit.now, per_minute=visit.service.device_registrations_per_minute
    )
    if not wait:
        return None
    tracking_id = count_too_often_unjudged(
        visit.service, visit.claimed_registration_id, caller, visit.peer, visit.arrived_at
    )
    return Wait(wait, tracking_id)


def wait_of_refused(visit: Visit, judgement: Judgement) -> int:
    """Seconds that a device which was refused often still has to wait; it is then not refused once more."""
    return _held_back(visit, visit.judged(judgement))


def quiet_period_for(visit: Visit, judgement: Judgement) -> QuietPeriod | None:
    """The quiet period of a caller who has been judged and refused."""
    return quiet_period_of(visit.judged(judgement), visit.arrived_at)


def note_refusal(visit: Visit, judgement: Judgement, quiet: QuietPeriod | None = None) -> Refused:
    return limiter().note_refusal(
        visit.judged(judgement),
        visit.now,
        epoch=judgement.epoch,
        shortest=visit.service.retry_after_seconds,
        longest=visit.service.longest_retry_after_seconds,
        quiet_until=quiet.until.timestamp() if quiet else 0.0,
    )


def wait_told_to_refused(visit: Visit, judgement: Judgement) -> int:
    """Retry-After of a poll that tells a refusal again."""
    return limiter().current_wait(
        visit.judged(judgement),
        visit.now,
        shortest=visit.service.retry_after_seconds,
        longest=visit.service.longest_retry_after_seconds,
    )


@dataclass(frozen=True, slots=True)
class HeldBack:
    """How a refused device is held back at this moment; waits in seconds."""

    in_a_row: int
    retry_after: int
    unjudged: int


def held_back_of(service: ProvisioningService, attempt: RegistrationAttempt) -> HeldBack | None:
    """For administrators: what this node remembers of the device's refusals. None where that is nothing."""
    caller = caller_of(attempt)
    back_off = limiter().back_off_of(caller) if caller else None
    if back_off is None:
        return None
    wait = retry_after(
        back_off.in_a_row,
        shortest=service.retry_after_seconds,
        longest=service.longest_retry_after_seconds,
    )
    return HeldBack(back_off.in_a_row, wait, back_off.unjudged)


def take_registration(visit: Visit, judgement: Judgement) -> Wait | None:
    """Count the registration of an admitted device; the wait where it is one too many, which is an attempt then.

    The device's own rate comes first: what it refuses does not use up that of the service.
    """
    service = visit.service
    wait = limiter().take_registration(
        visit.judged(judgement), visit.now, per_minute=service.device_registrations_per_minute
    ) or limiter().take_of_service(service.pk, visit.now, per_minute=service.registrations_per_minute)
    return told_to_wait(visit, judgement, wait) if wait else None


def told_to_wait(visit: Visit, judgement: Judgement, seconds: int) -> Wait:
    """An admitted device for which there is no room at this moment."""
    tracking_id = count_too_often(visit.service, visit.claimed_registration_id, judgement, visit.peer)
    return Wait(seconds, tracking_id)


def take_poll(visit: Visit, judgement: Judgement) -> int:
    return limiter().take_poll(visit.judged(judgement), visit.now)


def take_challenge(visit: Visit, judgement: Judgement) -> int:
    return limiter().take_registration(visit.judged(judgement), visit.now, per_minute=CHALLENGES_PER_MINUTE)


def note_admission(visit: Visit, judgement: Judgement) -> None:
    """One admitted registration ends the back-off: of the credential, and of what it was before it was enrolled."""
    before_proof = judgement.leaf_key or source_of(visit.address)
    callers = visit.judged(judgement), visit.caller(before_proof, is_proven=False)
    for caller in limiter().note_admission(*callers, now=visit.now):
        note_held_back(caller, visit.arrived_at)


def _held_back(visit: Visit, caller: Caller) -> int:
    wait = limiter().held_back(
        caller,
        visit.now,
        epoch=visit.service.epoch,
        longest=visit.service.longest_retry_after_seconds,
    )
    if wait:
        note_held_back(caller, visit.arrived_at)
    return wait


def _leaf_key(credential: PresentedCredential) -> str:
    if credential.authorization or credential.claimed_tpm is not None or not credential.certificates:
        return ""
    try:
        return parse_der(credential.certificates[0]).spki_sha256
    except AttestationError:
        return ""  # whoever judges it says what is wrong with it
