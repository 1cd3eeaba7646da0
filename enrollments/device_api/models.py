"""Bodies of the device API as the OpenAPI document tells them (contract 1.3).

They are not what is read with: `messages.py` does that by hand, in half of the time (docs/benchmarks.md). schemathesis
holds the one against the other.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from enrollments.policy.names import PATTERN
from enrollments.wire.models import Model, RegistrationState

NAME: dict[str, Any] = {"type": "string", "pattern": PATTERN, "minLength": 1, "maxLength": 128}
EndorsementKey = Annotated[str, WithJsonSchema({"type": "string", "format": "tpm-endorsement-key"})]
StorageRootKey = Annotated[
    str, WithJsonSchema({"anyOf": [{"type": "string", "format": "tpm-storage-root-key"}, {"const": ""}]})
]


class Lenient(Model):
    """Members that are not known are not looked at: firmware is older and younger than this service."""

    model_config = ConfigDict(extra="allow")


class TpmKeys(Lenient):
    """Public keys of the device's TPM. Naming them proves nothing: they begin a challenge."""

    endorsement_key: EndorsementKey
    """Base64 of the whole TPM2B_PUBLIC."""
    storage_root_key: StorageRootKey | None = None
    """The same of the key under which the TPM imports what it is given."""


class DeviceRegistration(Lenient):
    """What a device says of itself. An empty body says nothing, and will do."""

    registration_id: (
        Annotated[str, WithJsonSchema({"type": "string", "format": "registration-id-of-path"})] | None
    ) = Field(default=None, examples=["pump-042"])
    """As in the path; anything else is refused."""
    tpm: TpmKeys | None = None
    payload: Any = None
    """For the allocation webhook. Where a service assigns by latency, `region` in it is looked at."""
    csr: None = None
    """Not offered by this service."""


class TpmResult(Model):
    authentication_key: str
    """The key for the hub, wrapped for the TPM. Base64."""


class X509Result(Model):
    """Empty: it says that the device came with a certificate."""


class DeviceRegistrationResult(RegistrationState):
    """How far the device has come, and where it belongs."""

    tpm: TpmResult | None = None
    x509: X509Result | None = None


class RegistrationOperationStatus(Model):
    operation_id: str = Field(min_length=1)
    """For polling."""
    status: Literal["assigning", "assigned", "failed", "disabled"]
    registration_state: DeviceRegistrationResult | None = None


class TpmChallenge(Model):
    """Not a refusal: the TPM opens the key, and the device asks again with a token that is signed with it."""

    message: str
    authentication_key: str
    """Wrapped for the TPM. Base64."""
    unencrypted_authentication_key: None
    key_name: Literal["registration"]
