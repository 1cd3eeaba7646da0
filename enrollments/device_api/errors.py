"""The one table from what happened to what a device is told: codes and bodies of contract 1.7."""

from enrollments.policy.reasons import Reason
from enrollments.wire.errors import ErrorAnswer

# R3: one answer for every cause.
UNAUTHORIZED = ErrorAnswer(401002, "Unauthorized")
NO_SUCH_ID_SCOPE = ErrorAnswer(404001, "The ID scope names no provisioning service.")
NO_SUCH_OPERATION = ErrorAnswer(404002, "There is no such operation.")
NO_SUCH_TPM = ErrorAnswer(404201, "Enrollment not found.")
# What the proxied listener refuses before anything is looked at; the message says more.
UNREADABLE_CERTIFICATE_HEADER = 400006
UNTRUSTED_PEER = 403001
NO_SUCH_PATH = ErrorAnswer(404000, "There is nothing at this path.")
UNREADABLE = ErrorAnswer(400000, "The request cannot be read.")


# Who is unauthorized hears one answer, with the exception that the contract makes for TPMs (3.1).
REFUSALS: dict[str, ErrorAnswer] = {Reason.TPM_NOT_ENROLLED: NO_SUCH_TPM}
