"""What the routes of the service API have in common, and the pieces of which their declarations are made."""

from enrollments.policy.names import FORM_IN_WORDS
from enrollments.service_api.dry_run_devices import ALL, DEVICE_ITEM, EFFECTS
from enrollments.service_api.errors import (
    CA_IN_OTHER_GROUP,
    CHANGED_SINCE_DRY_RUN,
    EXAMINING_FOR_OTHERS,
    LACKS_RIGHT,
    NAME_DIFFERS,
    NO_SUCH_SERVICE,
    UNAUTHORIZED,
    WRONG_CONDITION,
    WRONG_CONTINUATION,
    WRONG_QUERY,
)
from enrollments.service_api.paging import DEFAULT_PAGE, LARGEST_PAGE
from enrollments.wire.errors import INTERNAL, NOT_ACCEPTED, THROTTLED, ErrorAnswer
from enrollments.wire.member_types import NAME
from enrollments.wire.messages import CANNOT_BE_READ
from enrollments.wire.operations import API_VERSION, RETRY_AFTER, Answer, Api, Parameter, Path
from enrollments.wire.reports import DryRun
from enrollments.wire.requests import MESSAGE_REFUSALS, VERSION_REFUSAL

SERVICE_API = Api(
    tag="Service API",
    says=(
        "For back ends and scripts: enrollments, enrollment groups and registration records. The service is found by "
        "the host name that is dialled. Case does not count in paths, and each may end in a slash."
    ),
    security=("accessPolicy", "apiToken"),
    takes=(API_VERSION,),
    refusals=(
        VERSION_REFUSAL,
        UNAUTHORIZED,
        ErrorAnswer(LACKS_RIGHT, "The right that this needs was not given."),
        ErrorAnswer(
            WRONG_QUERY,
            "dryRun, epoch, devices, everyone or at is spelled otherwise, comes twice, or is not taken here.",
        ),
        NO_SUCH_SERVICE,
        THROTTLED,
        INTERNAL,
    ),
    paths={
        "registrationId": Path("The device. Case does not count.", NAME, "pump-042"),
        "enrollmentGroupId": Path("The group. Case does not count.", NAME, "factory"),
    },
    headers={
        401: (
            Parameter(
                "WWW-Authenticate", "The schemes that are understood.", {"type": "string"}, required=True
            ),
        ),
        429: (RETRY_AFTER,),
    },
)

NAME_IS_WRONG = ErrorAnswer(NAME_DIFFERS, f"The ID in the path is not {FORM_IN_WORDS}.")
NAMES_DIFFER = ErrorAnswer(
    NAME_DIFFERS, f"The ID in the path is not {FORM_IN_WORDS}; or the one in the body is another."
)
WRONG_NAME_IN_LIST = ErrorAnswer(NAME_DIFFERS, f"The ID of an entry of the list is not {FORM_IN_WORDS}.")
OTHER_GROUP_HAS_CA = ErrorAnswer(CA_IN_OTHER_GROUP, "Another entry holds what is to be enrolled.")
WRONG_MESSAGE = (
    *MESSAGE_REFUSALS,
    ErrorAnswer(CANNOT_BE_READ, "A member is missing, unknown, or of wrong type."),
)
WRONG_VALUE = ErrorAnswer(NOT_ACCEPTED, "A value cannot be accepted.")
EMPTY_CONDITION = ErrorAnswer(WRONG_CONDITION, "If-Match is empty.")
WRONG_PAGE = (
    ErrorAnswer(WRONG_QUERY, "The query, or the size of its pages, is not understood."),
    ErrorAnswer(WRONG_CONTINUATION, "The continuation is none, or that of another query."),
)

IF_MATCH = Parameter(
    "If-Match",
    "The `etag` of the version that is meant, or `*` for whatever is there. Quotation marks around it may be left out.",
    {"type": "string", "pattern": r'^(\*|"?[A-Za-z0-9+/=]+"?)$'},
    example="*",
)
DRY_RUN = (
    Parameter(
        "dryRun",
        "`true`: what the write would do to devices is told, and nothing is done.",
        {"type": "string", "enum": ["true", "false"]},
        place="query",
    ),
    Parameter(
        "epoch",
        "As a dry run told it: the write is done only while the service is as it was then. A PUT that only shuts "
        "out until further notice is done all the same.",
        {"type": "integer", "minimum": 0, "maximum": 999_999_999_999_999_999},
        place="query",
    ),
)
REHEARSED = Answer(200, "With `dryRun=true`: what it would do.", DryRun)
NOT_REHEARSED = (
    ErrorAnswer(WRONG_QUERY, "dryRun or epoch is not understood."),
    CHANGED_SINCE_DRY_RUN,
)
PAGING = (
    Parameter(
        "x-ms-max-item-count",
        f"The size of a page. Without it {DEFAULT_PAGE}; more than {LARGEST_PAGE} are never told at once.",
        # An empty one is none.
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 999_999_999}, {"const": ""}]},
        example=50,
    ),
    Parameter(
        "x-ms-continuation",
        "As the page before this one told it.",
        {"type": "string"},
    ),
)

# Of a dry run that touches devices, which it lists by pages.
DRY_RUN_OF_DEVICES = (
    *DRY_RUN,
    Parameter(
        "devices",
        "With `dryRun=true`: the devices are listed, by pages, all or those of one effect. Needs the right "
        "RegistrationStatusRead as well.",
        {"type": "string", "enum": [ALL, *EFFECTS]},
        place="query",
    ),
    Parameter(
        "everyone",
        "With `dryRun=true`: all devices are examined, which may take minutes, and is done for one caller at a time.",
        {"type": "string", "enum": ["true", "false"]},
        place="query",
    ),
    Parameter(
        "at",
        "With `devices`: those of this time to come, which is one that the dry run tells under `then`.",
        {"type": "string", "minLength": 1},
        place="query",
    ),
    *PAGING,
)
LISTED = Answer(
    200,
    "With `dryRun=true`: what it would do.",
    DryRun,
    headers=(
        Parameter(
            "x-ms-item-type",
            "With `devices`: what the list holds.",
            {"type": "string", "const": DEVICE_ITEM},
        ),
        Parameter(
            "x-ms-continuation",
            "With `devices`, for the next page of the same call. Absent with the last one.",
            {"type": "string"},
        ),
    ),
)
NOT_LISTED = (
    ErrorAnswer(WRONG_QUERY, "devices, everyone or at is not understood, or the size of a page."),
    ErrorAnswer(WRONG_CONTINUATION, "The continuation is none, or that of another call."),
    EXAMINING_FOR_OTHERS,
)

# What clients look for in the answer to a query.
INDIVIDUAL_ITEM, GROUP_ITEM, REGISTRATION_ITEM = "Enrollment", "EnrollmentGroup", "DeviceRegistration"


def page_headers(item_type: str) -> tuple[Parameter, ...]:
    return (
        Parameter(
            "x-ms-item-type", "What the list holds.", {"type": "string", "const": item_type}, required=True
        ),
        Parameter("x-ms-continuation", "For the next page. Absent with the last one.", {"type": "string"}),
    )


KEPT = (
    "capabilities",
    "initialTwin",
    "etag",
    "provisioningStatus",
    "reprovisionPolicy",
    "createdDateTimeUtc",
    "lastUpdatedDateTimeUtc",
)
"""What is told of every entry."""

ENROLLMENT_EXAMPLE = {
    "registrationId": "pump-042",
    "attestation": {"type": "symmetricKey"},
    "initialTwin": {"tags": {"line": 4}, "properties": {"desired": {"interval": 30}}},
}
GROUP_EXAMPLE = {
    "enrollmentGroupId": "factory",
    "attestation": {
        "type": "x509",
        "x509": {"signingCertificates": {"primary": {"certificate": "-----BEGIN CERTIFICATE-----\nMIIB…"}}},
    },
}
QUERY_EXAMPLE = {"query": "SELECT *"}
