"""What can be wrong with certificates, one class and one stable code for each."""

from enrollments.errors import AttestationError


class UnreadableCertificate(AttestationError):
    """Bytes that are no certificate, or one that we will not handle because part of it cannot be read."""

    code = "unreadable_certificate"


class EmptyUpload(AttestationError):
    code = "empty_upload"


class UploadTooLarge(AttestationError):
    code = "upload_too_large"


class PrivateKeyInUpload(AttestationError):
    """Never carries any part of what was uploaded."""

    code = "private_key_in_upload"


class NotACertificate(AttestationError):
    code = "not_a_certificate"


class NoCertificate(AttestationError):
    code = "no_certificate"


class TooManyCertificates(AttestationError):
    code = "too_many_certificates"


class SearchExhausted(AttestationError):
    """The search ran out before everything above the leaf was seen; whoever asks must refuse (R9)."""

    code = "search_exhausted"


class InvalidPath(AttestationError):
    """No valid path; the message names the most telling cause, for administrators only."""

    code = "invalid_path"


class LeafRefused(AttestationError):
    code = "leaf_refused"


class NoSingleCommonName(AttestationError):
    code = "no_single_common_name"


class NotOneCertificate(AttestationError):
    code = "not_one_certificate"


class PossessionNotProven(AttestationError):
    """A verification certificate that shows nothing; the message says what it lacks."""

    code = "possession_not_proven"
