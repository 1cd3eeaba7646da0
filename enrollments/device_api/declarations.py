"""What each route of the device API takes and answers: read by its view, and told by the OpenAPI document."""

from enrollments.device_api.errors import NO_SUCH_ID_SCOPE, NO_SUCH_OPERATION, NO_SUCH_TPM, UNAUTHORIZED
from enrollments.device_api.models import (
    NAME,
    DeviceRegistration,
    DeviceRegistrationResult,
    RegistrationOperationStatus,
    TpmChallenge,
)
from enrollments.policy.names import FORM_IN_WORDS
from enrollments.wire.errors import INTERNAL, THROTTLED, ErrorAnswer
from enrollments.wire.operations import (
    API_VERSION,
    RETRY_AFTER,
    Answer,
    Api,
    Link,
    Operation,
    Parameter,
    Path,
)
from enrollments.wire.requests import MESSAGE_REFUSALS, VERSION_REFUSAL

OPERATION_ID = "5.5c9e0f1a2b3c4d5e.0d6b9a53-1111-4222-8333-444455556666"
_STATE = {
    "registrationId": "pump-042",
    "createdDateTimeUtc": "2026-01-02T03:04:05.123456Z",
    "assignedHub": "plant.hub.internal",
    "deviceId": "pump-042",
    "status": "assigned",
    "substatus": "initialAssignment",
    "lastUpdatedDateTimeUtc": "2026-01-02T03:04:06.5Z",
    "etag": "IjY5MDAzNTUyLTAwMDAtMDMwMC0wMDAwLTYzMGZkYThhMDAwMCI=",
}

DEVICE_API = Api(
    tag="Device API",
    says=(
        "For devices: register, poll for the outcome, look it up again. The service is named by its ID scope. A device "
        "shows a certificate in the TLS handshake, or a token that is signed with its key."
    ),
    security=("deviceToken", "deviceCertificate"),
    takes=(API_VERSION,),
    refusals=(
        VERSION_REFUSAL,
        ErrorAnswer(
            400002,
            f"The registration ID is not {FORM_IN_WORDS}; or the one in the body is another.",
        ),
        *MESSAGE_REFUSALS,
        ErrorAnswer(400003, "A certificate is asked for, which is not offered."),
        ErrorAnswer(400005, "The keys of a TPM, or the payload, cannot be read."),
        UNAUTHORIZED,
        NO_SUCH_ID_SCOPE,
        NO_SUCH_TPM,
        THROTTLED,
        INTERNAL,
    ),
    paths={
        "idScope": Path(
            "The service. Case does not count.",
            {"type": "string", "pattern": "^0[Nn][Ee][0-9A-Fa-f]{8}$"},
            "0ne12345678",
        ),
        "registrationId": Path("The device: the common name of its certificate.", NAME, "pump-042"),
        "operationId": Path(
            "As the registration told it.",
            {"type": "string"},
            "5.5c9e0f1a2b3c4d5e.0d6b9a53-1111-4222-8333-444455556666",
        ),
    },
    headers={401: (RETRY_AFTER,), 429: (RETRY_AFTER,)},
)

_LOCATION = Parameter(
    "Location", "The path that was called.", {"type": "string", "format": "uri-reference"}, required=True
)

REGISTER = Operation(
    "register",
    "Register a device",
    "Begins a registration, or joins one that is running. The answer is `assigning`, whatever the outcome: poll for "
    "it. A device with a TPM that shows no token is challenged.",
    answers=(
        Answer(
            202,
            "Admitted, or disabled: the poll tells.",
            RegistrationOperationStatus,
            headers=(RETRY_AFTER, _LOCATION),
            example={"operationId": OPERATION_ID, "status": "assigning"},
            leads_to=(
                Link("getOperationStatus", "The outcome.", {"operationId": "$response.body#/operationId"}),
            ),
        ),
        Answer(401, "A challenge, for a TPM that is enrolled.", TpmChallenge),
    ),
    takes=(
        Parameter(
            "forceRegistration", "Some clients say it. Not looked at.", {"type": "string"}, place="query"
        ),
    ),
    body=DeviceRegistration,
    body_required=False,
    body_example={"registrationId": "pump-042", "payload": {"region": "north"}},
)

OPERATION_STATUS = Operation(
    "getOperationStatus",
    "Poll for the outcome",
    "Judged again each time: a device that was shut out meanwhile hears that, and not the outcome from before.",
    answers=(
        Answer(
            200,
            "The outcome. `disabled` and `failed` are outcomes, and no refusals.",
            RegistrationOperationStatus,
            headers=(RETRY_AFTER,),
            always=("registrationState",),
            example={"operationId": OPERATION_ID, "status": "assigned", "registrationState": _STATE},
        ),
        Answer(
            202,
            "Not yet.",
            RegistrationOperationStatus,
            headers=(RETRY_AFTER,),
            always=("registrationState",),
        ),
    ),
    refusals=(NO_SUCH_OPERATION,),
)

LOOK_UP = Operation(
    "lookUpRegistration",
    "Look up the last outcome",
    "Registers nothing. `unassigned` where there is no outcome that still holds.",
    answers=(Answer(200, "The outcome.", DeviceRegistrationResult, headers=(RETRY_AFTER,), example=_STATE),),
    body=DeviceRegistration,
    body_required=False,
    body_example={"registrationId": "pump-042"},
)
