"""Bodies that both APIs answer with: for the OpenAPI document, and for the tests that hold answers against it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from enrollments.policy.reprovisioning import Substatus


class Model(BaseModel):
    """Names on the wire are the contract's; what is written under an attribute is its description."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, use_attribute_docstrings=True
    )


Moment = Annotated[
    str,
    WithJsonSchema(
        {"type": "string", "format": "date-time", "examples": ["2026-01-02T03:04:05.123456Z"]},
    ),
]
Etag = Annotated[
    str,
    WithJsonSchema({"type": "string", "examples": ["IjY5MDAzNTUyLTAwMDAtMDMwMC0wMDAwLTYzMGZkYThhMDAwMCI="]}),
]


class Error(Model):
    """What every refusal says. Clients decide by `errorCode`, whose first three digits are the status."""

    error_code: int
    """What is wrong."""
    tracking_id: str
    """Administrators find the request, and the cause that it was not told, by this."""
    message: str
    """The same in words, naming the member that is wrong where it is one."""
    timestamp_utc: Moment


class RegistrationState(Model):
    """How far a device has come. What is not known is left out."""

    registration_id: str
    created_date_time_utc: Moment | None = None
    assigned_hub: str | None = None
    """Host name of the hub that the device belongs to."""
    device_id: str | None = None
    """What the hub calls it."""
    status: Literal["unassigned", "assigning", "assigned", "failed", "disabled"]
    substatus: Substatus | None = None
    """How it came to this hub."""
    error_code: int | None = Field(default=None, examples=[400208])
    """Why the status is `failed`: 400207 webhook, 400208 no hub, 400209 hub, 400210 and 400211 a name that is taken."""
    error_message: str | None = None
    last_updated_date_time_utc: Moment | None = None
    etag: Etag | None = None
    payload: Any = None
    """What an allocation webhook wants the device to know."""
