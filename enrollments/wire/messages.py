"""The models of the service API (contract 6.4), each declared once: what is read is checked against them.

Attributes are ours, names on the wire are the contract's. What a client hands back from an answer is taken again.
What is written under an attribute is its description in the OpenAPI document; where more is asked of a member than its
type, by the actions, `member_types.py` says so there.
"""

from typing import Any, Literal, TypeVar

from django.http import HttpRequest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from enrollments.wire.errors import ApiError
from enrollments.wire.member_types import (
    ApiVersion,
    CaName,
    Certificate,
    Desired,
    DeviceId,
    EndorsementKey,
    GroupId,
    HubName,
    NamedEnrollment,
    NamedGroup,
    Query,
    RegistrationId,
    ScheduleReason,
    Sha256,
    StorageRootKey,
    SwitchTime,
    SymmetricKey,
    WebhookUrl,
    at_least_one_reference,
    exactly_one_mechanism,
    for_devices,
    for_groups,
    one_kind_of_certificate,
)
from enrollments.wire.models import Etag
from enrollments.wire.requests import NO_JSON, json_object

MAX_BULK = 10
MAX_HUBS = 50
MAX_TOLD = 5
CANNOT_BE_READ = 400100


class Message(BaseModel):
    """Strict: no text where a number is meant, and no member that nobody knows, which is how a typing error looks."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, use_attribute_docstrings=True
    )


class CertificateInfo(Message):
    """What a certificate says. Only we write it; handed back, it says which certificate is meant."""

    subject_name: str | None = Field(default=None, examples=["CN=pump-042"])
    sha1_thumbprint: str | None = None
    """In capital hexadecimal digits."""
    sha256_thumbprint: Sha256 | None = None
    """In hexadecimal digits. Where the certificate itself is left out, this says which one is meant."""
    issuer_name: str | None = Field(default=None, examples=["CN=Factory CA"])
    not_before_utc: str | None = None
    not_after_utc: str | None = None
    serial_number: str | None = None
    version: int | None = Field(default=None, examples=[3])


class CertificateWithInfo(Message):
    """`certificate`: PEM text, base64 of PEM text, or base64 of DER. Without it, the one that is held stays."""

    certificate: Certificate | None = Field(default=None, json_schema_extra={"writeOnly": True})
    """PEM text, base64 of PEM text, or base64 of DER. Left out in a change, the one that is held stays."""
    info: CertificateInfo | None = None


class CertificatePair(Message):
    """Either one is good, so that the one can be replaced while devices still show the other."""

    primary: CertificateWithInfo | None = None
    secondary: CertificateWithInfo | None = None


class CaReferences(Message):
    """Names of uploaded CA certificates, one or both."""

    model_config = ConfigDict(json_schema_extra=at_least_one_reference)

    primary: CaName | None = None
    secondary: CaName | None = None


class X509Attestation(Message):
    """One of the three: what a device shows, or what its certificate is signed with, given or named."""

    model_config = ConfigDict(json_schema_extra=one_kind_of_certificate)

    client_certificates: CertificatePair | None = None
    """Of the device itself, in an individual enrollment."""
    signing_certificates: CertificatePair | None = None
    """Of a CA, in a group. Certificates behind the first one of a text help to find paths, and admit nobody."""
    ca_references: CaReferences | None = None
    """In place of a CA of its own, in a group."""


class TpmAttestation(Message):
    """Public keys of the device's TPM."""

    endorsement_key: EndorsementKey
    """Base64 of the whole TPM2B_PUBLIC."""
    storage_root_key: StorageRootKey | None = None
    """The same of the storage root key."""


class SymmetricKeyAttestation(Message):
    """Base64 of 16 to 64 bytes each. A key that is left out is made by the service; in a change it stays."""

    primary_key: SymmetricKey | None = Field(default=None, repr=False)
    secondary_key: SymmetricKey | None = Field(default=None, repr=False)


class Attestation(Message):
    """How devices prove who they are: `type`, and the member of that name."""

    model_config = ConfigDict(json_schema_extra=exactly_one_mechanism)

    type: Literal["x509", "tpm", "symmetricKey"]
    tpm: TpmAttestation | None = None
    x509: X509Attestation | None = None
    symmetric_key: SymmetricKeyAttestation | None = None


class TwinProperties(Message):
    desired: Desired | None = None


class InitialTwin(Message):
    """What a device's twin begins with. At most 8 KiB of JSON in all."""

    tags: Desired | None = None
    properties: TwinProperties | None = None


class Capabilities(Message):
    iot_edge: bool = False
    """Whether the hub is told that this is an IoT Edge device."""


class ReprovisionPolicy(Message):
    """What becomes of a device that registers again."""

    update_hub_assignment: bool = True
    """Whether it may come to another hub."""
    migrate_device_data: bool = True
    """Whether its twin comes along; where not, it begins again with the initial twin."""


class CustomAllocationDefinition(Message):
    """The webhook that chooses the hub."""

    webhook_url: WebhookUrl = Field(repr=False)
    """HTTPS. Answers tell it without its query; handed back like that, the query that is held stays."""
    api_version: ApiVersion | None = None


class Entry(Message):
    """What both kinds have. `etag` and the times are ours to write: handed back, they are not looked at."""

    attestation: Attestation
    capabilities: Capabilities | None = None
    iot_hub_host_name: HubName | None = None
    """Where there is a single hub to choose from: the policy is then `static`. Never in an answer."""
    initial_twin: InitialTwin | None = None
    etag: Etag | None = None
    """Of this version, for `If-Match`. Changes with each write. In a request it is not looked at."""
    provisioning_status: Literal["enabled", "disabled"] | None = "enabled"
    """`disabled` shuts out: the device of this enrollment, every chain through the keys of this group."""
    switches_at: SwitchTime | None = None
    """Until when it is enabled or disabled, as `provisioningStatus` says, in whole seconds; its switch then turns by
    itself. Absent where nothing is scheduled. In a change: left out, what is scheduled stays if it is to shut out;
    `null` drops it; handed back as it was told beside another `provisioningStatus`, it is as if it was left out."""
    schedule_reason: ScheduleReason | None = None
    """Why the switch turns then, beside `switchesAt`; the history has it too. In a change: left out, it stays if the
    time does; another one is noted with who gave it, and an empty one ends it."""
    reprovision_policy: ReprovisionPolicy | None = None
    created_date_time_utc: str | None = None
    """In a request not looked at."""
    last_updated_date_time_utc: str | None = None
    """In a request not looked at."""
    allocation_policy: Literal["hashed", "geoLatency", "static", "custom"] | None = None
    """How the hub is chosen. Without one, as the settings of the service say."""
    iot_hubs: list[HubName] | None = Field(default=None, max_length=MAX_HUBS)
    """Host names of the linked hubs to choose from. Without any, all of them; with `static`, one at most."""
    custom_allocation_definition: CustomAllocationDefinition | None = None
    """For the policy `custom`."""
    credential_policy_name: None = None
    """Not offered by this service."""

    @property
    def drops_schedule(self) -> bool:
        """Whether it says, as no client does that knows of no times, that nothing is to be scheduled."""
        return self.switches_at is None and "switches_at" in self.model_fields_set


class IndividualEnrollment(Entry):
    """One device. It alone decides for its registration ID, over any group."""

    model_config = ConfigDict(json_schema_extra=for_devices)

    registration_id: RegistrationId
    """As in the path. Case does not count."""
    device_id: DeviceId | None = None
    """What the hub calls the device, if not by its registration ID."""
    registration_state: dict[str, Any] | None = None
    """What became of the device, as under `/registrations`. Only where one enrollment is asked for."""
    optional_device_information: dict[str, Any] | None = None
    """What back ends keep here about the device. Nothing here reads it."""

    @property
    def name(self) -> str:
        return self.registration_id


class EnrollmentGroup(Entry):
    """All devices below a CA, or, where the service allows it, all with keys derived from those of the group."""

    model_config = ConfigDict(json_schema_extra=for_groups)

    enrollment_group_id: GroupId
    """As in the path. Case does not count."""

    @property
    def name(self) -> str:
        return self.enrollment_group_id


class QuerySpecification(Message):
    query: Query
    """`SELECT *` without conditions, and nothing else."""


class RecordsQuery(Message):
    """Without members it asks for all, too."""

    query: Query = "SELECT *"
    """`SELECT *` without conditions, and nothing else."""


BulkMode = Literal["create", "update", "updateIfMatchETag", "delete"]


class BulkEnrollments(Message):
    """The entries are read one by one: what is wrong with one is told of that one."""

    mode: BulkMode
    """Both updates change what comes with an `etag`; `updateIfMatchETag` only if that is still its version."""
    enrollments: list[NamedEnrollment] = Field(min_length=1, max_length=MAX_BULK)
    """Each an IndividualEnrollment; to be deleted, its `registrationId` will do."""


class BulkEnrollmentGroups(Message):
    """As for enrollments."""

    mode: BulkMode
    """Both updates change what comes with an `etag`; `updateIfMatchETag` only if that is still its version."""
    enrollment_groups: list[NamedGroup] = Field(min_length=1, max_length=MAX_BULK)
    """Each an EnrollmentGroup; to be deleted, its `enrollmentGroupId` will do."""


class Nothing(Message):
    """An object without members that mean anything; or no body at all."""

    model_config = ConfigDict(extra="allow")


M = TypeVar("M", bound=Message)


def read_message(request: HttpRequest, model: type[M]) -> M:
    message = json_object(request)
    if message is None:
        raise ApiError(NO_JSON, "The body is empty; a JSON object is expected.")
    return checked(model, message)


def checked(model: type[M], message: dict[str, Any]) -> M:
    """Raises ApiError with a sentence for each member that cannot be accepted."""
    try:
        return model.model_validate(message)
    except ValidationError as problem:
        sentences = [_sentence(one) for one in problem.errors(include_url=False)[:MAX_TOLD]]
    raise ApiError(CANNOT_BE_READ, " ".join(sentences))


# The kinds of pydantic's errors, as predicates of the member that is wrong.
_PREDICATES = {
    "missing": "is missing",
    "extra_forbidden": "is not known here; case counts in names",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "dict_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "list_type": "must be a list",
    "none_required": "is not offered by this service; leave it out",
    "string_unicode": "must be a string",
}


def _sentence(error: ErrorDetails) -> str:
    return f"{_path(error['loc'])} {_predicate(error)}."


def _predicate(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "literal_error":
        return f"must be one of {context['expected']}"
    if kind == "too_long":
        return f"holds {context['actual_length']} items; at most {context['max_length']} are taken"
    if kind == "too_short":
        return "must hold at least one item"
    return _PREDICATES.get(kind, "cannot be read")


def _path(location: tuple[int | str, ...]) -> str:
    """`enrollments[3].attestation.type`, of bounded length: names come from outside."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).lstrip(".")
    return ascii(text[:150])[1:-1] or "The message"
