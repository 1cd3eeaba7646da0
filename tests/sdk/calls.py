"""Calls of a back end, and how each management SDK is asked to make them."""

from dataclasses import dataclass, field
from typing import Any, Literal

Of = Literal["enrollment", "enrollment_group", "device_registration_state"]

_NODE = {
    "enrollment": "IndividualEnrollment",
    "enrollment_group": "EnrollmentGroup",
    "device_registration_state": "DeviceRegistrationState",
}
_NAME = {"enrollment": "registrationId", "enrollment_group": "enrollmentGroupId"}


@dataclass(frozen=True)
class Call:
    """`act`: put, get, delete, attestation, query or bulk. `size`: of a page. `etag`: for If-Match."""

    act: str
    of: Of
    name: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    etag: str | None = None
    size: int | None = None

    def for_node(self) -> list[Any]:
        kind = _NODE[self.of]
        match self.act:
            case "put":
                return [f"createOrUpdate{kind}", {**self.body, "etag": self.etag}]
            case "delete":
                return [f"delete{kind}", self.name, *([self.etag] if self.etag else [])]
            case "attestation":
                return [f"get{kind}AttestationMechanism", self.name]
            case "bulk":
                return ["runBulkEnrollmentOperation", self.body]
            case "query" if self.of == "device_registration_state":
                call = "createEnrollmentGroupDeviceRegistrationStateQuery"
                return [call, self.body, self.name, self.size]
            case "query":
                return [f"create{kind}Query", self.body, self.size]
        return [f"{self.act}{kind}", self.name]

    def for_python(self) -> list[Any]:
        condition = {"if_match": self.etag} if self.etag else {}
        match self.act:
            case "put":
                given = {"id": self.body[_NAME[self.of]], self.of: self.body}
                return [self.of, "create_or_update", {**given, **condition}]
            case "delete":
                return [self.of, "delete", {"id": self.name, **condition}]
            case "attestation":
                return [self.of, "get_attestation_mechanism", {"id": self.name}]
            case "bulk":
                return [self.of, "run_bulk_operation", {"bulk_operation": self.body}]
            case "query" if self.of == "device_registration_state":
                return [self.of, "query", {"id": self.name, "top": self.size}]
            case "query":
                return [self.of, "query", {"query_specification": self.body, "top": self.size}]
        return [self.of, self.act, {"id": self.name}]


def put(body: dict[str, Any], etag: str | None = None) -> Call:
    of: Of = "enrollment" if "registrationId" in body else "enrollment_group"
    return Call("put", of, body=body, etag=etag)


def bulk(mode: str, *bodies: dict[str, Any]) -> Call:
    """Of individual enrollments: one of the SDKs knows no other."""
    return Call("bulk", "enrollment", body={"mode": mode, "enrollments": list(bodies)})


def query(of: Of, size: int | None = None, name: str = "") -> Call:
    return Call("query", of, name, {"query": "SELECT * FROM enrollments"}, size=size)
