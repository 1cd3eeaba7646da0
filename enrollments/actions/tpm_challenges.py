"""Challenging a TPM, and which keys count as the answer (R3, contract 3).

A challenge delivers a key that only the TPM of an enrolled endorsement key can open. The key is derived from a
secret that is kept, and from the storage root key that the device named: two who ask at the same time, one of them a
stranger with the device's public keys, do not get into each other's way.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet

from enrollments.attestation.tpm import (
    StorageKey,
    new_hmac_key,
    read_endorsement_key,
    read_storage_root_key,
    wrap_hmac_key,
)
from enrollments.models import IndividualEnrollment, TpmChallenges

# A TPM needs seconds to answer. Who asks again within this time is challenged with the same secret, so that asking
# in a device's name cannot displace the secret that the device is working on.
RENEWED_AFTER = timedelta(seconds=30)
# How long a pending challenge can be answered, and how long after it was displaced by a more recent one.
PENDING = timedelta(minutes=5)
FORMER = timedelta(seconds=60)
# An answer that got lost may be asked for again so long after the first; later, the same token is a replay.
REPEATED_WITHIN = timedelta(seconds=60)
# How long a proven key goes on to prove the polls of its operation. Tokens of clients last an hour.
POLLED_WITHIN = timedelta(hours=1)
# How many parties have a place for the storage root key that they named last. Each costs two HMACs where a token
# comes without one.
MAX_RECENT, MAX_OF_ONE = 32, 4


@dataclass(frozen=True, slots=True)
class ChallengeKey:
    """A key that counts as the answer to a challenge, and the storage root key that it was wrapped for."""

    key: bytes
    storage_root_key: bytes
    is_proven: bool = False

    def __repr__(self) -> str:
        return f"ChallengeKey(is_proven={self.is_proven})"


def challenge(
    individual: IndividualEnrollment, storage_root_key: StorageKey, at: datetime, *, source: str
) -> bytes:
    """A new blob for the TPM (contract 3.3), whose key counts from now on. Inside the admission lock.

    source: where it was asked for, as far as one party is told from another.
    """
    endorsement_key = read_endorsement_key(_endorsement_key(individual))
    challenges = _renewed(individual, storage_root_key.encoded, at, source)
    secret = base64.b64decode(challenges.pending_secret)
    return wrap_hmac_key(endorsement_key, storage_root_key, _derived(secret, storage_root_key.encoded))


def keys_that_hold(
    individual: IndividualEnrollment, named: StorageKey | None, at: datetime, *, begins: bool
) -> list[ChallengeKey]:
    """The keys with which a token proves the TPM now. `begins`: it is to begin a registration, not to follow one up.

    named: the storage root key that came with the token. Where none did, as with the IoT Edge client, those of the
    latest challenges and the enrolled one are tried.
    """
    challenges = _current(individual)
    if challenges is None:
        return []
    keys: list[ChallengeKey] = []
    proven_within = REPEATED_WITHIN if begins else POLLED_WITHIN
    if challenges.proven_at is not None and at < challenges.proven_at + proven_within:
        proven_for = bytes(challenges.proven_storage_root_key or b"")
        keys.append(ChallengeKey(base64.b64decode(challenges.proven_key), proven_for, is_proven=True))
    secrets = []
    if at < challenges.pending_since + PENDING:
        secrets.append(challenges.pending_secret)
    if challenges.former_until is not None and at < challenges.former_until:
        secrets.append(challenges.former_secret)
    for secret in map(base64.b64decode, secrets):
        for storage_root_key in _candidates(individual, challenges, named):
            keys.append(ChallengeKey(_derived(secret, storage_root_key), storage_root_key))
    return keys


def note_proven(individual: IndividualEnrollment, proof: ChallengeKey, at: datetime) -> None:
    """A challenge is answered: it begins no other registration, and its key proves the polls of this one."""
    if proof.is_proven:
        return
    challenges = TpmChallenges.objects.select_for_update().get(individual=individual)
    challenges.proven_key = _as_text(proof.key)
    challenges.proven_at = at
    challenges.proven_storage_root_key = proof.storage_root_key
    # Both secrets are spent: whoever asks from now on is challenged anew.
    challenges.pending_since = at - PENDING
    challenges.former_secret, challenges.former_until = "", None
    challenges.save()


def hub_key_of(individual: IndividualEnrollment, *, is_new: bool) -> str:
    """The key, base64, that the device has at its hub: the one that it was given before, unless a new one is due."""
    challenges = _of_this_tpm(individual).select_for_update().get()
    if is_new or not challenges.hub_key:
        challenges.hub_key = _as_text(new_hmac_key())
        challenges.save(update_fields=["hub_key"])
    return challenges.hub_key


def wrapped_hub_key(individual: IndividualEnrollment, proof: ChallengeKey) -> bytes:
    """The key of the device at its hub, for the TPM that has just proven itself; empty where it was given none.

    Whoever calls this compares the epoch afterwards: what was read here may have been replaced since (R12).
    """
    hub_key = _of_this_tpm(individual).values_list("hub_key", flat=True).first()
    if not hub_key:
        return b""
    endorsement_key = read_endorsement_key(_endorsement_key(individual))
    storage_root_key = read_storage_root_key(proof.storage_root_key)
    return wrap_hmac_key(endorsement_key, storage_root_key, base64.b64decode(hub_key))


def enrolled_storage_root_key(individual: IndividualEnrollment) -> StorageKey | None:
    encoded = bytes(individual.storage_root_key or b"")
    return read_storage_root_key(encoded) if encoded else None


def _renewed(
    individual: IndividualEnrollment, storage_root_key: bytes, at: datetime, source: str
) -> TpmChallenges:
    named = [source, _as_text(storage_root_key)]
    fresh = {
        "endorsement_key_sha256": _digest(individual),
        "pending_secret": _as_text(new_hmac_key()),
        "pending_since": at,
    }
    challenges, created = TpmChallenges.objects.select_for_update().get_or_create(
        individual=individual, defaults={**fresh, "recent_storage_root_keys": [named]}
    )
    if created:
        return challenges
    recent = challenges.recent_storage_root_keys
    wanted = _remembered(recent, named)
    is_other_tpm = challenges.endorsement_key_sha256 != fresh["endorsement_key_sha256"]
    if not is_other_tpm and at < challenges.pending_since + RENEWED_AFTER and wanted[0] in recent:
        return challenges
    if is_other_tpm:
        challenges.former_secret, challenges.former_until = "", None
        challenges.proven_key, challenges.proven_at, challenges.proven_storage_root_key = "", None, None
        # The key that another TPM signs with at the hub is not handed on to this one.
        challenges.hub_key = ""
        wanted = wanted[:1]
    elif at >= challenges.pending_since + RENEWED_AFTER:
        challenges.former_secret = challenges.pending_secret
        challenges.former_until = min(at + FORMER, challenges.pending_since + PENDING)
    if is_other_tpm or at >= challenges.pending_since + RENEWED_AFTER:
        for name, value in fresh.items():
            setattr(challenges, name, value)
    challenges.recent_storage_root_keys = wanted[:MAX_RECENT]
    challenges.save()
    return challenges


def _remembered(recent: list[list[str]], named: list[str]) -> list[list[str]]:
    """The storage root keys to try: of each party what it named first and what it named last.

    So a stranger who names many displaces nobody elsewhere, and behind the same address not who was there first.
    """
    same = [one for one in recent if one[0] == named[0] and one != named]
    kept = [named, *same[: MAX_OF_ONE - 2], *same[MAX_OF_ONE - 2 :][-1:]]
    return [*kept, *(one for one in recent if one[0] != named[0])]


def _current(individual: IndividualEnrollment) -> TpmChallenges | None:
    """Those of the endorsement key that is enrolled now: answers for a former one are none (R12)."""
    challenges: TpmChallenges | None = getattr(individual, "tpm_challenges", None)
    if challenges is None or challenges.endorsement_key_sha256 != _digest(individual):
        return None
    return challenges


def _of_this_tpm(individual: IndividualEnrollment) -> "QuerySet[TpmChallenges]":
    """The row as the database has it now, if it is of the endorsement key that is enrolled."""
    return TpmChallenges.objects.filter(individual=individual, endorsement_key_sha256=_digest(individual))


def _candidates(
    individual: IndividualEnrollment, challenges: TpmChallenges, named: StorageKey | None
) -> list[bytes]:
    if named is not None:
        return [named.encoded]
    known = [
        bytes(individual.storage_root_key or b""),
        bytes(challenges.proven_storage_root_key or b""),
        *(base64.b64decode(key) for _, key in challenges.recent_storage_root_keys),
    ]
    return list(dict.fromkeys(filter(None, known)))


def _derived(secret: bytes, storage_root_key: bytes) -> bytes:
    return hmac.digest(secret, storage_root_key, hashlib.sha256)


def _endorsement_key(individual: IndividualEnrollment) -> bytes:
    return bytes(individual.endorsement_key or b"")


def _as_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _digest(individual: IndividualEnrollment) -> str:
    return hashlib.sha256(_endorsement_key(individual)).hexdigest()
