"""Challenging a TPM: the blob, the two RSA operations in it, and the whole action with its database."""

from collections.abc import Callable
from itertools import count

from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.hashes import SHA256
from django.db import transaction
from django.utils import timezone

from benchmarks.installation import Bench
from benchmarks.measure import Figure, Part, Ratio, in_this_process
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import add_individual_enrollment
from enrollments.actions.tpm_challenges import RENEWED_AFTER, challenge
from enrollments.attestation.tpm import (
    StorageKey,
    new_hmac_key,
    read_endorsement_key,
    read_storage_root_key,
    wrap_hmac_key,
)
from enrollments.models import AttestationMechanism, IndividualEnrollment
from tests.devices import ALICE, new_service
from tests.soft_tpm import SoftTpm

BLOB, OAEPS, PUBLIC_AREAS = "tpm.blob", "tpm.oaep", "tpm.public-areas"


def tpm_challenges(bench: Bench) -> Part:
    keys, calls = SoftTpm().keys, bench.size.slow_calls
    ek, srk = read_endorsement_key(keys.endorsement_key), read_storage_root_key(keys.storage_root_key)
    key = new_hmac_key()

    def public_areas() -> None:
        _ = read_endorsement_key(keys.endorsement_key).public_key
        _ = read_storage_root_key(keys.storage_root_key).public_key

    return Part(
        "TPM challenge",
        [
            Figure(PUBLIC_AREAS, "reading the two public areas", calls, in_this_process(public_areas)),
            Figure(BLOB, "blob", calls, in_this_process(lambda: wrap_hmac_key(ek, srk, key))),
            Figure(OAEPS, "the two RSA-OAEP operations in it", calls, in_this_process(_oaeps(ek, srk))),
            *_actions(keys.endorsement_key, srk, calls),
        ],
        [Ratio("RSA-OAEP in a TPM's blob", OAEPS, BLOB)],
    )


def _oaeps(ek: StorageKey, srk: StorageKey) -> Callable[[], object]:
    """What wrapping does with RSA, and nothing else."""
    seed = new_hmac_key()
    paddings = [OAEP(MGF1(SHA256()), SHA256(), label) for label in (b"IDENTITY\0", b"DUPLICATE\0")]

    def both() -> None:
        for public_key, padding in zip((ek.public_key, srk.public_key), paddings, strict=True):
            public_key.encrypt(seed, padding)

    return both


def _actions(endorsement_key: bytes, srk: StorageKey, calls: int) -> list[Figure]:
    service, began, turns = new_service("tpms"), timezone.now(), count()

    def enrolled(registration_id: str) -> IndividualEnrollment:
        spec = IndividualSpec(
            registration_id=registration_id,
            mechanism=AttestationMechanism.TPM,
            endorsement_key=endorsement_key,
        )
        return add_individual_enrollment(service, spec, actor=ALICE)

    late, soon = enrolled("asks-late"), enrolled("asks-soon")

    @transaction.atomic
    def asked_late() -> None:
        challenge(late, srk, began + RENEWED_AFTER * next(turns), source="203.0.113.1")

    @transaction.atomic
    def asked_soon() -> None:
        challenge(soon, srk, began, source="203.0.113.1")

    return [
        Figure(
            "tpm.challenge.new", "challenge with a new secret, committed", calls, in_this_process(asked_late)
        ),
        Figure(
            "tpm.challenge.again", "challenge asked for again at once", calls, in_this_process(asked_soon)
        ),
    ]
