"""What a device shows to prove itself, whatever transport carried it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PresentedCredential:
    """`certificates`: DER, leaf first, as sent in a TLS handshake that proved the leaf's key: our own listener's, or
    that of a proxy which is believed. Never what a client says in a header.

    `authorization`: the text of a SAS token with its scheme, or empty.
    """

    certificates: tuple[bytes, ...] = ()
    authorization: str = ""

    def __repr__(self) -> str:
        return (
            f"PresentedCredential({len(self.certificates)} certificates, token: {bool(self.authorization)})"
        )
