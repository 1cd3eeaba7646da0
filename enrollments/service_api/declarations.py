"""What each route of the service API takes and answers: read by its view, and told by the OpenAPI document."""

from enrollments.service_api.errors import (
    ENROLLMENT_EXISTS,
    GROUP_EXISTS,
    NO_SUCH_ENROLLMENT,
    NO_SUCH_GROUP,
    NO_SUCH_REGISTRATION,
    PRECONDITION_FAILED,
)
from enrollments.service_api.operations import (
    DRY_RUN,
    DRY_RUN_OF_DEVICES,
    EMPTY_CONDITION,
    ENROLLMENT_EXAMPLE,
    GROUP_EXAMPLE,
    GROUP_ITEM,
    IF_MATCH,
    INDIVIDUAL_ITEM,
    KEPT,
    LISTED,
    NAME_IS_WRONG,
    NAMES_DIFFER,
    NOT_LISTED,
    NOT_REHEARSED,
    OTHER_GROUP_HAS_CA,
    PAGING,
    QUERY_EXAMPLE,
    REGISTRATION_ITEM,
    REHEARSED,
    WRONG_MESSAGE,
    WRONG_NAME_IN_LIST,
    WRONG_PAGE,
    WRONG_VALUE,
    page_headers,
)
from enrollments.wire import messages, reports
from enrollments.wire.models import RegistrationState
from enrollments.wire.operations import Answer, Operation
from enrollments.wire.requests import MESSAGE_REFUSALS

ENROLLMENT_PUT = Operation(
    "putEnrollment",
    "Add or change an enrollment",
    "Without `If-Match` it adds. With it, it changes what is there: keys, certificates and the query of a webhook "
    "that are left out stay. What becomes of a time that is left out: see `switchesAt`.",
    answers=(
        Answer(200, "The enrollment as it is now, with keys.", messages.IndividualEnrollment, always=KEPT),
        LISTED,
    ),
    body=messages.IndividualEnrollment,
    body_example=ENROLLMENT_EXAMPLE,
    takes=(IF_MATCH, *DRY_RUN_OF_DEVICES),
    refusals=(
        NAMES_DIFFER,
        *WRONG_MESSAGE,
        WRONG_VALUE,
        EMPTY_CONDITION,
        NO_SUCH_ENROLLMENT,
        ENROLLMENT_EXISTS,
        OTHER_GROUP_HAS_CA,
        PRECONDITION_FAILED,
        *NOT_REHEARSED,
        *NOT_LISTED,
    ),
)

ENROLLMENT_GET = Operation(
    "getEnrollment",
    "Show an enrollment",
    "Without keys. Certificates are described, and not repeated.",
    answers=(Answer(200, "The enrollment.", messages.IndividualEnrollment, always=KEPT),),
    refusals=(NAME_IS_WRONG, NO_SUCH_ENROLLMENT),
)

ENROLLMENT_DELETE = Operation(
    "deleteEnrollment",
    "Delete an enrollment",
    "Its device may then come in through a group. To shut it out, disable the enrollment instead.",
    answers=(
        Answer(204, "It is gone."),
        LISTED,
    ),
    takes=(IF_MATCH, *DRY_RUN_OF_DEVICES),
    refusals=(
        NAME_IS_WRONG,
        EMPTY_CONDITION,
        NO_SUCH_ENROLLMENT,
        PRECONDITION_FAILED,
        *NOT_REHEARSED,
        *NOT_LISTED,
    ),
)

ENROLLMENT_ATTESTATION = Operation(
    "getEnrollmentKeys",
    "Show the keys of an enrollment",
    "The attestation mechanism, with symmetric keys if it has some; that they were shown is a row of the history.",
    answers=(Answer(200, "The mechanism.", messages.Attestation),),
    body=messages.Nothing,
    body_required=False,
    refusals=(NAME_IS_WRONG, *MESSAGE_REFUSALS, NO_SUCH_ENROLLMENT),
)

ENROLLMENT_QUERY = Operation(
    "queryEnrollments",
    "List enrollments",
    "All of them, by pages, in the order in which they were added. None comes twice, and none that stays is missed, "
    "whatever is written meanwhile.",
    answers=(
        Answer(200, "One page.", list[messages.IndividualEnrollment], headers=page_headers(INDIVIDUAL_ITEM)),
    ),
    body=messages.QuerySpecification,
    body_example=QUERY_EXAMPLE,
    takes=PAGING,
    refusals=(*WRONG_MESSAGE, *WRONG_PAGE),
)

ENROLLMENT_BULK = Operation(
    "bulkEnrollments",
    "Add, change or delete several enrollments",
    "Up to ten, each by itself: what is wrong with one is told of that one, and the others are done.",
    answers=(
        Answer(200, "What was done, and what not.", reports.BulkResult),
        LISTED,
    ),
    body=messages.BulkEnrollments,
    body_example={"mode": "create", "enrollments": [ENROLLMENT_EXAMPLE]},
    takes=DRY_RUN_OF_DEVICES,
    refusals=(
        WRONG_NAME_IN_LIST,
        *WRONG_MESSAGE,
        *NOT_REHEARSED,
        *NOT_LISTED,
    ),
)

GROUP_PUT = Operation(
    "putEnrollmentGroup",
    "Add or change a group",
    "As for an enrollment. A CA belongs to one group of a service.",
    answers=(
        Answer(200, "The group as it is now, with keys.", messages.EnrollmentGroup, always=KEPT),
        LISTED,
    ),
    body=messages.EnrollmentGroup,
    body_example=GROUP_EXAMPLE,
    takes=(IF_MATCH, *DRY_RUN_OF_DEVICES),
    refusals=(
        NAMES_DIFFER,
        *WRONG_MESSAGE,
        WRONG_VALUE,
        EMPTY_CONDITION,
        NO_SUCH_GROUP,
        GROUP_EXISTS,
        OTHER_GROUP_HAS_CA,
        PRECONDITION_FAILED,
        *NOT_REHEARSED,
        *NOT_LISTED,
    ),
)

GROUP_GET = Operation(
    "getEnrollmentGroup",
    "Show a group",
    "Without keys. Certificates are described, and not repeated.",
    answers=(Answer(200, "The group.", messages.EnrollmentGroup, always=KEPT),),
    refusals=(NAME_IS_WRONG, NO_SUCH_GROUP),
)

GROUP_DELETE = Operation(
    "deleteEnrollmentGroup",
    "Delete a group",
    "A group higher up may then still admit its devices. To shut them out, disable the group instead.",
    answers=(
        Answer(204, "It is gone."),
        LISTED,
    ),
    takes=(IF_MATCH, *DRY_RUN_OF_DEVICES),
    refusals=(
        NAME_IS_WRONG,
        EMPTY_CONDITION,
        NO_SUCH_GROUP,
        PRECONDITION_FAILED,
        *NOT_REHEARSED,
        *NOT_LISTED,
    ),
)

GROUP_ATTESTATION = Operation(
    "getEnrollmentGroupKeys",
    "Show the keys of a group",
    "The attestation mechanism, with symmetric keys if it has some; that they were shown is a row of the history.",
    answers=(Answer(200, "The mechanism.", messages.Attestation),),
    body=messages.Nothing,
    body_required=False,
    refusals=(NAME_IS_WRONG, *MESSAGE_REFUSALS, NO_SUCH_GROUP),
)

GROUP_QUERY = Operation(
    "queryEnrollmentGroups",
    "List groups",
    "All of them, by pages, in the order in which they were added.",
    answers=(Answer(200, "One page.", list[messages.EnrollmentGroup], headers=page_headers(GROUP_ITEM)),),
    body=messages.QuerySpecification,
    body_example=QUERY_EXAMPLE,
    takes=PAGING,
    refusals=(*WRONG_MESSAGE, *WRONG_PAGE),
)

GROUP_BULK = Operation(
    "bulkEnrollmentGroups",
    "Add, change or delete several groups",
    "Up to ten, each by itself.",
    answers=(
        Answer(200, "What was done, and what not.", reports.BulkResult),
        LISTED,
    ),
    body=messages.BulkEnrollmentGroups,
    body_example={"mode": "create", "enrollmentGroups": [GROUP_EXAMPLE]},
    takes=DRY_RUN_OF_DEVICES,
    refusals=(
        WRONG_NAME_IN_LIST,
        *WRONG_MESSAGE,
        *NOT_REHEARSED,
        *NOT_LISTED,
    ),
)

REGISTRATION_GET = Operation(
    "getRegistration",
    "Show a registration record",
    "What became of a device, whichever entry admits it. A device that never called has none.",
    answers=(Answer(200, "The record.", RegistrationState),),
    refusals=(NAME_IS_WRONG, NO_SUCH_REGISTRATION),
)

REGISTRATION_DELETE = Operation(
    "deleteRegistration",
    "Delete a registration record",
    "What its hub knows of the device stays. A device that is still admitted gets a new record when it registers "
    "again. It frees the name: whichever entry admits a device of this name next holds it then.",
    answers=(
        Answer(204, "It is gone."),
        REHEARSED,
    ),
    takes=(IF_MATCH, *DRY_RUN),
    refusals=(
        NAME_IS_WRONG,
        EMPTY_CONDITION,
        NO_SUCH_REGISTRATION,
        PRECONDITION_FAILED,
        *NOT_REHEARSED,
    ),
)

REGISTRATION_QUERY = Operation(
    "queryRegistrations",
    "List the registration records of a group",
    "By pages. The body may be left out.",
    answers=(Answer(200, "One page.", list[RegistrationState], headers=page_headers(REGISTRATION_ITEM)),),
    body=messages.RecordsQuery,
    body_example=QUERY_EXAMPLE,
    body_required=False,
    takes=PAGING,
    refusals=(NAME_IS_WRONG, *WRONG_MESSAGE, *WRONG_PAGE, NO_SUCH_GROUP),
)
