"""From a request to what the device showed: the TLS handshake's certificates, or a SAS token. Nothing else counts."""

from django.http import HttpRequest

from enrollments.attestation.credential import ClaimedTpm, PresentedCredential

# Set by our own TLS listener in the WSGI environment. A client's headers arrive there as HTTP_…, so none of them,
# whatever it is called, can take this place (R3).
PEER_CERTIFICATES = "dps.peer_certificates"


def presented_credential(request: HttpRequest, claimed_tpm: ClaimedTpm | None = None) -> PresentedCredential:
    """`claimed_tpm` comes from the body, and proves nothing."""
    return PresentedCredential(
        certificates=tuple(request.META.get(PEER_CERTIFICATES, ())),
        authorization=request.META.get("HTTP_AUTHORIZATION", ""),
        # A poll that carries a body is not asking to be challenged.
        claimed_tpm=claimed_tpm if request.method == "PUT" else None,
    )
