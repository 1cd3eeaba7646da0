"""The groups that proof of possession is about, where a service demands it (R7)."""

from collections.abc import Iterable

from enrollments.models import AttestationMechanism, EnrollmentGroup, ProvisioningService, TrustAnchor
from enrollments.models.ca_certificates import with_proof


def groups_without_proof(service: ProvisioningService) -> "list[EnrollmentGroup]":
    """Those that hold a CA of which nobody has proven to have the key."""
    anchors = TrustAnchor.objects.filter(~with_proof(service.pk), service=service)
    return list(service.enrollmentgroups.without_secrets().filter(pk__in=anchors.values("group")))


def lacking_proof(service: ProvisioningService, groups: Iterable[EnrollmentGroup]) -> list[EnrollmentGroup]:
    """Those that admit nobody because the service demands proof, and there is none of any of their CAs."""
    with_cas = [group for group in groups if group.mechanism == AttestationMechanism.X509]
    if not with_cas or not ProvisioningService.what_decisions_read(service.pk).proof_of_possession:
        return []
    anchors = TrustAnchor.objects.filter(with_proof(service.pk), group__in=[group.pk for group in with_cas])
    proven = set(anchors.values_list("group_id", flat=True))
    return [group for group in with_cas if group.pk not in proven]
