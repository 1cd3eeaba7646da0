"""What a device shows to prove itself, whatever transport carried it."""

from dataclasses import dataclass

from enrollments.attestation.tpm import StorageKey


@dataclass(frozen=True, slots=True)
class ClaimedTpm:
    """The keys that a device says its TPM has. Nothing is proven by them: both are public.

    `endorsement_key` is compared byte by byte with the enrolled one, and so is kept as it came.
    """

    endorsement_key: bytes
    storage_root_key: StorageKey | None = None


@dataclass(frozen=True, slots=True)
class PresentedCredential:
    """`certificates`: DER, leaf first, as sent in a TLS handshake that proved the leaf's key: our own listener's, or
    that of a proxy which is believed. Never what a client says in a header or a body.

    `authorization`: the text of a SAS token with its scheme, or empty. `claimed_tpm`: with a token, the TPM that is
    to have signed it; without, the one that asks to be challenged.
    """

    certificates: tuple[bytes, ...] = ()
    authorization: str = ""
    claimed_tpm: ClaimedTpm | None = None

    def __repr__(self) -> str:
        return (
            f"PresentedCredential({len(self.certificates)} certificates, token: {bool(self.authorization)}, "
            f"TPM: {self.claimed_tpm is not None})"
        )
