"""The models of the service API (contract 6.4), each declared once: what is read is checked against them.

Attributes are ours, names on the wire are the contract's. What a client hands back from an answer is taken again.
"""

from typing import Any, Literal, TypeVar

from django.http import HttpRequest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from enrollments.wire.errors import ApiError
from enrollments.wire.requests import json_object

MAX_BULK = 10
MAX_HUBS = 50
MAX_TOLD = 5
CANNOT_BE_READ = 400100


class Message(BaseModel):
    """Strict: no text where a number is meant, and no member that nobody knows, which is how a typing error looks."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel)


class CertificateInfo(Message):
    """What a certificate says. Only we write it; handed back, it says which certificate is meant."""

    subject_name: str | None = None
    sha1_thumbprint: str | None = None
    sha256_thumbprint: str | None = None
    issuer_name: str | None = None
    not_before_utc: str | None = None
    not_after_utc: str | None = None
    serial_number: str | None = None
    version: int | None = None


class CertificateWithInfo(Message):
    """`certificate`: PEM text, base64 of PEM text, or base64 of DER. Without it, the one that is held stays."""

    certificate: str | None = None
    info: CertificateInfo | None = None


class CertificatePair(Message):
    primary: CertificateWithInfo | None = None
    secondary: CertificateWithInfo | None = None


class CaReferences(Message):
    primary: str | None = None
    secondary: str | None = None


class X509Attestation(Message):
    client_certificates: CertificatePair | None = None
    signing_certificates: CertificatePair | None = None
    ca_references: CaReferences | None = None


class TpmAttestation(Message):
    endorsement_key: str
    storage_root_key: str | None = None


class SymmetricKeyAttestation(Message):
    primary_key: str | None = Field(default=None, repr=False)
    secondary_key: str | None = Field(default=None, repr=False)


class Attestation(Message):
    type: Literal["x509", "tpm", "symmetricKey"]
    tpm: TpmAttestation | None = None
    x509: X509Attestation | None = None
    symmetric_key: SymmetricKeyAttestation | None = None


class TwinProperties(Message):
    desired: dict[str, Any] | None = None


class InitialTwin(Message):
    tags: dict[str, Any] | None = None
    properties: TwinProperties | None = None


class Capabilities(Message):
    iot_edge: bool = False


class ReprovisionPolicy(Message):
    update_hub_assignment: bool = True
    migrate_device_data: bool = True


class CustomAllocationDefinition(Message):
    webhook_url: str = Field(repr=False)
    api_version: str | None = None


class Entry(Message):
    """What both kinds have. `etag` and the times are ours to write: handed back, they are not looked at."""

    attestation: Attestation
    capabilities: Capabilities | None = None
    iot_hub_host_name: str | None = None
    initial_twin: InitialTwin | None = None
    etag: str | None = None
    provisioning_status: Literal["enabled", "disabled"] | None = "enabled"
    reprovision_policy: ReprovisionPolicy | None = None
    created_date_time_utc: str | None = None
    last_updated_date_time_utc: str | None = None
    allocation_policy: Literal["hashed", "geoLatency", "static", "custom"] | None = None
    iot_hubs: list[str] | None = Field(default=None, max_length=MAX_HUBS)
    custom_allocation_definition: CustomAllocationDefinition | None = None
    credential_policy_name: None = None


class IndividualEnrollment(Entry):
    registration_id: str
    device_id: str | None = None
    registration_state: dict[str, Any] | None = None
    optional_device_information: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return self.registration_id


class EnrollmentGroup(Entry):
    enrollment_group_id: str

    @property
    def name(self) -> str:
        return self.enrollment_group_id


class QuerySpecification(Message):
    query: str


BulkMode = Literal["create", "update", "updateIfMatchETag", "delete"]


class BulkEnrollments(Message):
    """The entries are read one by one: what is wrong with one is told of that one."""

    mode: BulkMode
    enrollments: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_BULK)


class BulkEnrollmentGroups(Message):
    mode: BulkMode
    enrollment_groups: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_BULK)


M = TypeVar("M", bound=Message)


def read_message(request: HttpRequest, model: type[M]) -> M:
    message = json_object(request)
    if message is None:
        raise ApiError(400001, "The body is empty; a JSON object is expected.")
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
