"""The one table from what happened to what a back end is told: codes of contract 6.3 and bodies of contract 1.7."""

from enrollments.actions.entries import AlreadyEnrolled, EnrollmentGroupNotFound, EnrollmentNotFound
from enrollments.actions.service_access import LacksRight, NotAuthenticated
from enrollments.errors import (
    AttestationError,
    ChangedMeanwhile,
    DpsError,
    Invalid,
    NotFound,
    PreviewOutdated,
    SecretUnreadable,
)
from enrollments.policy.facts import EntryKind
from enrollments.wire.errors import NOT_ACCEPTED, ErrorAnswer
from enrollments.wire.words import in_words

# Whatever the cause: whether a policy or a token exists is nobody's business who has not proven to hold it.
UNAUTHORIZED = ErrorAnswer(401002, "Unauthorized")
NO_SUCH_SERVICE = ErrorAnswer(404001, "The host name names no provisioning service.")
LACKS_RIGHT = 403002
WRONG_METHOD = 405001
NAME_DIFFERS = 400002
WRONG_CONDITION = 400101
WRONG_QUERY = 400102
WRONG_CONTINUATION = 400103
NO_SUCH_ENROLLMENT = ErrorAnswer(404201, "Enrollment not found.")
NO_SUCH_GROUP = ErrorAnswer(404202, "Enrollment group not found.")
NO_SUCH_REGISTRATION = ErrorAnswer(404203, "Registration record not found.")
ENROLLMENT_EXISTS = ErrorAnswer(
    409201, "Enrollment already exists. To change it, say in If-Match which version is meant, or *."
)
GROUP_EXISTS = ErrorAnswer(
    409202, "Enrollment group already exists. To change it, say in If-Match which version is meant, or *."
)
CA_IN_OTHER_GROUP = 409203
PRECONDITION_FAILED = ErrorAnswer(412001, "Precondition failed: it is not the version that If-Match names.")
CHANGED_SINCE_DRY_RUN = ErrorAnswer(
    412002, "Something in this service was changed since the dry run: ask again with dryRun=true."
)
# It is the turn of others, for seconds or minutes: as of the rates, `Retry-After` says when to ask again.
SECONDS_OF_A_TURN = 10
EXAMINING_FOR_OTHERS = ErrorAnswer(
    429002,
    "All devices of another preview are being examined just now, and that is done for one at a time: ask again when it "
    "is done.",
)

# R16: a failure of ours, and said so. Of whose key it is nobody is told who has not proven anything yet.
SECRET_UNREADABLE = ErrorAnswer(
    500001,
    "A stored key that this needs cannot be decrypted. The tracking ID leads the administrators of the service to "
    "the cause.",
)
CERTIFICATE_UNREADABLE = ErrorAnswer(
    500001,
    "A stored certificate that this needs cannot be read. The tracking ID leads the administrators of the service to "
    "the cause.",
)


def answer_to(problem: DpsError) -> ErrorAnswer | None:
    """What is told of a failure that we expect; None for one that is ours, and ends as 500."""
    match problem:
        case NotAuthenticated():
            return UNAUTHORIZED
        case LacksRight():
            return ErrorAnswer(LACKS_RIGHT, problem.message)
        case AlreadyEnrolled(field="registration_id"):
            return ENROLLMENT_EXISTS
        case AlreadyEnrolled(field="group_id"):
            return GROUP_EXISTS
        case AlreadyEnrolled():
            kind = "group" if problem.entry.kind is EntryKind.GROUP else "enrollment"
            return ErrorAnswer(CA_IN_OTHER_GROUP, f"{problem.message} ({kind} {problem.entry.name})")
        case EnrollmentNotFound():
            return NO_SUCH_ENROLLMENT
        case EnrollmentGroupNotFound():
            return NO_SUCH_GROUP
        case NotFound():
            return NO_SUCH_REGISTRATION
        case PreviewOutdated():
            return CHANGED_SINCE_DRY_RUN
        case ChangedMeanwhile():
            return PRECONDITION_FAILED
        case Invalid():
            return ErrorAnswer(NOT_ACCEPTED, in_words(problem))
        case SecretUnreadable():
            return SECRET_UNREADABLE
        case AttestationError():
            return CERTIFICATE_UNREADABLE
        case _:
            return None
