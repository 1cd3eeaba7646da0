"""Why a registration ended as it did: stable codes that edges translate and the audit keeps."""

from enum import StrEnum


class Reason(StrEnum):
    """Causes. Devices hear of a cause only by the outcome it leads to; administrators read it."""

    ADMITTED = "admitted"

    # Nothing was proven (R3).
    NO_CREDENTIAL = "no_credential"
    TOO_MANY_CERTIFICATES = "too_many_certificates"
    CERTIFICATE_UNREADABLE = "certificate_unreadable"
    NO_SINGLE_COMMON_NAME = "no_single_common_name"
    COMMON_NAME_DIFFERS = "common_name_differs"
    LEAF_REFUSED = "leaf_refused"
    SEARCH_EXHAUSTED = "search_exhausted"
    NO_VALID_PATH = "no_valid_path"
    KEY_UNPROVEN = "key_unproven"
    TOKEN_MALFORMED = "token_malformed"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_FOR_OTHER_DEVICE = "token_for_other_device"
    TOKEN_SIGNATURE_WRONG = "token_signature_wrong"
    NOT_ENROLLED = "not_enrolled"
    TPM_NOT_ENROLLED = "tpm_not_enrolled"
    CHALLENGE_UNANSWERED = "challenge_unanswered"

    # Proven, and still not admitted (R5 to R7).
    KEY_BARRED = "key_barred"
    INDIVIDUAL_DISABLED = "individual_disabled"
    OTHER_CREDENTIAL = "other_credential"
    GROUP_DISABLED = "group_disabled"
    KEY_GROUPS_OFF = "key_groups_off"
    POSSESSION_UNPROVEN = "possession_unproven"

    # Admitted by an entry, and not assigned (R10, R11).
    NO_HUB = "no_hub"
    NAME_HELD_BY_OTHER_ENTRY = "name_held_by_other_entry"
    DEVICE_ID_TAKEN = "device_id_taken"
    HUB_FAILED = "hub_failed"
    WEBHOOK_FAILED = "webhook_failed"

    # Not judged at all (R14).
    THROTTLED = "throttled"

    @property
    def in_words(self) -> str:
        return _WORDS[self]


_WORDS: dict["Reason", str] = {
    Reason.ADMITTED: "admitted",
    Reason.NO_CREDENTIAL: "no credential was shown",
    Reason.TOO_MANY_CERTIFICATES: "more certificates were sent than are looked at",
    Reason.CERTIFICATE_UNREADABLE: "a certificate cannot be read",
    Reason.NO_SINGLE_COMMON_NAME: "the certificate does not have exactly one common name",
    Reason.COMMON_NAME_DIFFERS: "the certificate's common name is not the registration ID",
    Reason.LEAF_REFUSED: "the device certificate breaks a rule for certificates",
    Reason.SEARCH_EXHAUSTED: "the chain is too complex to be searched within bounds",
    Reason.NO_VALID_PATH: "no valid path leads to an enrolled CA",
    Reason.KEY_UNPROVEN: "no key that is enrolled for the device was proven",
    Reason.TOKEN_MALFORMED: "the SAS token is malformed",
    Reason.TOKEN_EXPIRED: "the SAS token has expired",
    Reason.TOKEN_FOR_OTHER_DEVICE: "the SAS token was made for another device",
    Reason.TOKEN_SIGNATURE_WRONG: "the SAS token's signature fits neither key",
    Reason.NOT_ENROLLED: "nothing is enrolled that fits",
    Reason.TPM_NOT_ENROLLED: "no TPM is enrolled with that registration ID and endorsement key",
    Reason.CHALLENGE_UNANSWERED: "the TPM has yet to answer its challenge",
    Reason.KEY_BARRED: "a disabled individual enrollment bars a key on the chain",
    Reason.INDIVIDUAL_DISABLED: "the individual enrollment is disabled",
    Reason.OTHER_CREDENTIAL: "the individual enrollment demands another credential",
    Reason.GROUP_DISABLED: "an enrollment group to which its chain or key leads is disabled",
    Reason.KEY_GROUPS_OFF: "groups with symmetric keys are switched off in this service",
    Reason.POSSESSION_UNPROVEN: "the group's CA lacks the proof of possession that this service demands",
    Reason.NO_HUB: "no hub is linked that the allocation policy could pick",
    Reason.NAME_HELD_BY_OTHER_ENTRY: "the registration ID is held through another entry",
    Reason.DEVICE_ID_TAKEN: "the device ID at the hub belongs to another registration",
    Reason.HUB_FAILED: "the hub did not register the device",
    Reason.WEBHOOK_FAILED: "the allocation webhook gave no usable answer",
    Reason.THROTTLED: "it came back too early or too often",
}
