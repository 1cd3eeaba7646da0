"""What a member has to be beyond its type, for the OpenAPI document: checked by the actions, with their own words.

Formats that JSON Schema does not know are names for what no schema can say: a certificate, a public area of a TPM, the
host name of a hub that is linked, the name of an uploaded CA certificate, a time that lies ahead.
"""

from typing import Annotated, Any

from pydantic import WithJsonSchema

from enrollments.policy.names import PATTERN

Schema = dict[str, Any]

NAME: Schema = {"type": "string", "pattern": PATTERN, "minLength": 1, "maxLength": 128}
RegistrationId = Annotated[str, WithJsonSchema({**NAME, "examples": ["pump-042"]})]
GroupId = Annotated[str, WithJsonSchema({**NAME, "examples": ["factory"]})]
# An empty one is none.
DeviceId = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^$|{PATTERN}", "maxLength": 128})]
Certificate = Annotated[str, WithJsonSchema({"type": "string", "format": "x509-certificate"})]
Sha256 = Annotated[str, WithJsonSchema({"type": "string", "format": "sha256-thumbprint"})]
EndorsementKey = Annotated[str, WithJsonSchema({"type": "string", "format": "tpm-endorsement-key"})]
StorageRootKey = Annotated[str, WithJsonSchema({"type": "string", "format": "tpm-storage-root-key"})]
SymmetricKey = Annotated[str, WithJsonSchema({"type": "string", "format": "symmetric-key"})]
HubName = Annotated[
    str, WithJsonSchema({"type": "string", "format": "linked-hub", "examples": ["plant.hub.internal"]})
]
CaName = Annotated[str, WithJsonSchema({"type": "string", "format": "uploaded-ca", "examples": ["plant-ca"]})]
WebhookUrl = Annotated[str, WithJsonSchema({"type": "string", "format": "webhook-url"})]
SwitchTime = Annotated[
    str,
    WithJsonSchema({"type": "string", "format": "time-to-come", "examples": ["2030-05-03T14:00:00Z"]}),
]
ScheduleReason = Annotated[str, WithJsonSchema({"type": "string", "maxLength": 500})]
ApiVersion = Annotated[
    str,
    WithJsonSchema({"type": "string", "format": "webhook-api-version", "examples": ["2021-10-01"]}),
]
Desired = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "examples": [{"interval": 30}]})]
Query = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(([Ss][Ee][Ll][Ee][Cc][Tt] +)?\*( +[Ff][Rr][Oo][Mm] +[A-Za-z]+)?)$",
            "maxLength": 1000,
            "examples": ["SELECT *"],
        }
    ),
]


def _named(member: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "object", "properties": {member: NAME}, "required": [member]})


NamedEnrollment = Annotated[dict[str, Any], _named("registrationId")]
NamedGroup = Annotated[dict[str, Any], _named("enrollmentGroupId")]

_NULL: Schema = {"type": "null"}
_OBJECT: Schema = {"type": "object"}


def exactly_one_mechanism(schema: Schema) -> None:
    """R4. With symmetric keys the object may be left out: the service then makes both."""
    mechanisms = ("x509", "tpm", "symmetricKey")
    schema["oneOf"] = [
        {
            "properties": {
                "type": {"const": mechanism},
                **{other: _NULL for other in mechanisms if other != mechanism},
                **({} if mechanism == "symmetricKey" else {mechanism: _OBJECT}),
            },
            "required": [] if mechanism == "symmetricKey" else [mechanism],
        }
        for mechanism in mechanisms
    ]


def one_kind_of_certificate(schema: Schema) -> None:
    kinds = ("clientCertificates", "signingCertificates", "caReferences")
    schema["oneOf"] = [
        {
            "properties": {kind: _OBJECT, **{other: _NULL for other in kinds if other != kind}},
            "required": [kind],
        }
        for kind in kinds
    ]


def at_least_one_reference(schema: Schema) -> None:
    schema["anyOf"] = [
        {"properties": {slot: {"type": "string"}}, "required": [slot]} for slot in ("primary", "secondary")
    ]


def for_devices(schema: Schema) -> None:
    _entry(schema, {"x509": {"properties": {"signingCertificates": _NULL, "caReferences": _NULL}}})


def for_groups(schema: Schema) -> None:
    _entry(schema, {"tpm": _NULL, "x509": {"properties": {"clientCertificates": _NULL}}})


def _entry(schema: Schema, attestation: Schema) -> None:
    schema["properties"]["attestation"]["properties"] = attestation
    schema["allOf"] = [
        _where("allocationPolicy", "custom", {"customAllocationDefinition": _OBJECT}, required=True),
        _where("allocationPolicy", "static", {"iotHubs": {"maxItems": 1}}),
        {
            "if": {"properties": {"iotHubHostName": {"type": "string"}}, "required": ["iotHubHostName"]},
            "then": {"properties": {"allocationPolicy": {"enum": ["static", None]}, "iotHubs": _NULL}},
        },
        _beside("switchesAt", "provisioningStatus", {}),
        _beside("scheduleReason", "switchesAt", {"type": "string"}),
    ]


def _beside(member: str, other: str, schema: Schema) -> Schema:
    """The one text is given only beside the other member."""
    return {
        "if": {"properties": {member: {"type": "string"}}, "required": [member]},
        "then": {"properties": {other: schema}, "required": [other]},
    }


def _where(member: str, value: str, properties: Schema, *, required: bool = False) -> Schema:
    return {
        "if": {"properties": {member: {"const": value}}, "required": [member]},
        "then": {"properties": properties, **({"required": list(properties)} if required else {})},
    }
