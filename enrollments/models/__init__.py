"""The tables, by object."""

from enrollments.models.access import AccessPolicy, ApiToken
from enrollments.models.ca_certificates import CaCertificate
from enrollments.models.certificates import Certificate, HeldCertificate, HeldRole, Slot, TrustAnchor
from enrollments.models.enrollments import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningStatus,
    TpmChallenges,
)
from enrollments.models.history import (
    CheckpointDelivery,
    HistoryCheckpoint,
    HistoryEvent,
    HistorySeal,
    UnsealedEvent,
)
from enrollments.models.history_views import LastLook, SavedHistoryView
from enrollments.models.hubs import HubDevice, HubKind, LinkedHub
from enrollments.models.imports import (
    ImportChunk,
    ImportFormat,
    ImportPart,
    ImportPreview,
    ImportPreviewPortion,
    ImportProblem,
    ImportRun,
    ImportState,
    PartKind,
)
from enrollments.models.key_identifiers import KeyIdentifierSecret
from enrollments.models.notices import IgnoredCertificateHeader
from enrollments.models.people import Membership, SignInFailures
from enrollments.models.quiet_periods import QuietPeriod
from enrollments.models.refusals import RefusedAgain
from enrollments.models.registrations import (
    AttemptOutcome,
    RegistrationAttempt,
    RegistrationEvidence,
    RegistrationRecord,
    RegistrationStatus,
)
from enrollments.models.services import ProvisioningService

__all__ = [
    "AccessPolicy",
    "ApiToken",
    "AttemptOutcome",
    "AttestationMechanism",
    "CaCertificate",
    "Certificate",
    "CheckpointDelivery",
    "EnrollmentGroup",
    "HeldCertificate",
    "HeldRole",
    "HistoryCheckpoint",
    "HistoryEvent",
    "HistorySeal",
    "HubDevice",
    "HubKind",
    "IgnoredCertificateHeader",
    "ImportChunk",
    "ImportFormat",
    "ImportPart",
    "ImportPreview",
    "ImportPreviewPortion",
    "ImportProblem",
    "ImportRun",
    "ImportState",
    "IndividualEnrollment",
    "KeyIdentifierSecret",
    "LastLook",
    "LinkedHub",
    "Membership",
    "PartKind",
    "ProvisioningService",
    "ProvisioningStatus",
    "QuietPeriod",
    "RefusedAgain",
    "RegistrationAttempt",
    "RegistrationEvidence",
    "RegistrationRecord",
    "RegistrationStatus",
    "SavedHistoryView",
    "SignInFailures",
    "Slot",
    "TpmChallenges",
    "TrustAnchor",
    "UnsealedEvent",
]
