"""From a request to what the device showed: a TLS handshake's certificates, or a SAS token. Nothing else counts."""

from django.http import HttpRequest

from enrollments.attestation.credential import ClaimedTpm, PresentedCredential

# Set by our own listener in the WSGI environment: from its handshake, or on the proxied listener from what a believed
# proxy says of its own. A client's headers arrive there as HTTP_…, so none of them, whatever it is called, can take
# this place (R3), and serving/environment.py has removed those that look like certificates.
PEER_CERTIFICATES = "dps.peer_certificates"


def presented_credential(request: HttpRequest, claimed_tpm: ClaimedTpm | None = None) -> PresentedCredential:
    """`claimed_tpm` comes from the body, and proves nothing."""
    return PresentedCredential(
        certificates=tuple(request.META.get(PEER_CERTIFICATES, ())),
        authorization=request.META.get("HTTP_AUTHORIZATION", ""),
        # A poll that carries a body is not asking to be challenged.
        claimed_tpm=claimed_tpm if request.method == "PUT" else None,
    )
