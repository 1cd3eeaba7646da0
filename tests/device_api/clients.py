"""Transcripts of the clients that cannot be run here: what each sends, octet by octet, and what it insists on.

Written from the clients' sources (contract 1.2 to 1.5), with none of the server's code. Each raises where the real one
gives up, so that a test which goes through has an answer that the real one would have taken.
"""

import base64
import hashlib
import hmac
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

from tests.soft_tpm import TpmKeys

Sign = Callable[[str], bytes]


class GaveUp(Exception):
    """The client ended with an error. `code` is the number it was told, where it reads one."""

    def __init__(self, why: str, code: int | None = None) -> None:
        super().__init__(why)
        self.code = code


class Throttled(GaveUp):
    """The client was told to come back later, and knows that it was."""


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            raise GaveUp("the answer is not JSON") from None


@dataclass(frozen=True)
class Outcome:
    """What the client hands to its application."""

    status: str
    hub: str | None = None
    device_id: str | None = None
    code: int | None = None
    message: str | None = None
    tpm_key: bytes | None = None
    payload: Any = None


def signer(key: str | bytes) -> Sign:
    raw = base64.b64decode(key) if isinstance(key, str) else key
    return lambda text: hmac.digest(raw, text.encode(), hashlib.sha256)


def required(message: Any, member: str, kind: type = str) -> Any:
    """A member that the client cannot do without, as the type that it expects."""
    value = message.get(member) if isinstance(message, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool) or value == "":
        raise GaveUp(f"{member} is missing or is no {kind.__name__}")
    return value


@dataclass
class Client(ABC):
    """One device. `sign` is missing for X.509, where the connection proves it."""

    id_scope: str
    registration_id: str
    sign: Sign | None = None
    tpm: TpmKeys | None = None
    now: float = field(default_factory=time.time)

    life = 3600
    api_version = "2019-03-31"

    def base(self) -> str:
        return f"/{self.id_scope}/registrations/{self.registration_id}"

    def target(self, rest: str) -> str:
        return f"{self.base()}/{rest}?api-version={self.api_version}"

    @property
    def expiry(self) -> str:
        return str(int(self.now) + self.life)

    @abstractmethod
    def token(self) -> str:
        """The value of the Authorization header."""

    @abstractmethod
    def headers(self, *, has_body: bool, is_signed: bool) -> dict[str, str]: ...

    @abstractmethod
    def body(self, *, with_tpm: bool) -> bytes: ...

    @abstractmethod
    def operation_of(self, answer: Answer) -> str:
        """The operation ID in the answer to a registration."""

    @abstractmethod
    def outcome_of(self, answer: Answer) -> Outcome | None:
        """What a poll told; None while it is still assigning."""

    @abstractmethod
    def challenge_of(self, answer: Answer) -> bytes:
        """The blob in the answer to a registration that shows a TPM's keys and no token."""

    def register(self) -> Request:
        body = self.body(with_tpm=False)
        return Request(
            "PUT", self.target("register"), self.headers(has_body=True, is_signed=bool(self.sign)), body
        )

    def ask_for_challenge(self) -> Request:
        body = self.body(with_tpm=True)
        return Request("PUT", self.target("register"), self.headers(has_body=True, is_signed=False), body)

    def answer_challenge(self) -> Request:
        body = self.body(with_tpm=True)
        return Request("PUT", self.target("register"), self.headers(has_body=True, is_signed=True), body)

    def poll(self, operation_id: str) -> Request:
        return Request(
            "GET",
            self.target(f"operations/{operation_id}"),
            self.headers(has_body=False, is_signed=bool(self.sign)),
        )


class IotEdge(Client):
    """IoT Edge's identity service: strict types, a short token for the whole exchange, no TPM keys the second time."""

    life = 30
    api_version = "2021-06-01"

    def token(self) -> str:
        audience = f"{self.id_scope}/registrations/{self.registration_id}".lower()
        resource = audience.replace("/", "%2F").replace("=", "%3D")
        signature = quote_plus(base64.b64encode(self.sign(f"{resource}\n{self.expiry}")))
        return f"SharedAccessSignature sr={resource}&sig={signature}&se={self.expiry}&skn=registration"

    def headers(self, *, has_body: bool, is_signed: bool) -> dict[str, str]:
        headers = {"content-type": "application/json"} if has_body else {}
        return headers | ({"authorization": self.token()} if is_signed else {})

    def body(self, *, with_tpm: bool) -> bytes:
        message = {"registrationId": self.registration_id}
        if with_tpm:
            message["tpm"] = self.tpm.on_the_wire()
        return json.dumps(message, separators=(",", ":")).encode()

    def answer_challenge(self) -> Request:
        return self.register()

    def operation_of(self, answer: Answer) -> str:
        if answer.status != 202:
            raise self._error(answer)
        return required(answer.json(), "operationId")

    def challenge_of(self, answer: Answer) -> bytes:
        if answer.status != 401:
            raise self._error(answer)
        return base64.b64decode(required(answer.json(), "authenticationKey"), validate=True)

    def outcome_of(self, answer: Answer) -> Outcome | None:
        if answer.status not in (200, 202):
            raise self._error(answer)
        message = answer.json()
        status, state = message.get("status"), required(message, "registrationState", dict)
        if status == "assigning":
            required(state, "registrationId")
            return None
        if status == "failed":
            code, text = self._code_and_text(state)
            return Outcome("failed", code=code, message=text)
        if status != "assigned":
            raise GaveUp(f"unknown variant {status}")
        tpm = state.get("tpm")
        key = base64.b64decode(required(tpm, "authenticationKey"), validate=True) if tpm is not None else None
        hub, device_id = required(state, "assignedHub"), required(state, "deviceId")
        return Outcome("assigned", hub, device_id, tpm_key=key, payload=state.get("payload"))

    def _error(self, answer: Answer) -> GaveUp:
        if answer.status < 400:
            return GaveUp(f"status {answer.status} is not expected")
        code, text = self._code_and_text(answer.json())
        return (Throttled if answer.status == 429 else GaveUp)(text, code)

    @staticmethod
    def _code_and_text(message: Any) -> tuple[int, str]:
        """`code` and `message`, or with the prefix; a message that has both names of one is refused, too."""
        found = []
        for names, kind in ((("code", "errorCode"), int), (("message", "errorMessage"), str)):
            there = [name for name in names if name in message]
            if len(there) != 1:
                raise GaveUp(f"{names[0]} is missing or there twice")
            found.append(required(message, there[0], kind))
        if not -(2**31) <= found[0] < 2**31:
            raise GaveUp("the code does not fit")
        return found[0], found[1]


class C(Client):
    """The SDK for C: lower-case hex, a header UserAgent, and a challenge that is known by what is not in it."""

    life = 40 * 60
    api_version = "2021-06-01"
    _unreserved = "!()*"

    def _encoded(self, text: str) -> str:
        encoded = quote(text, safe=self._unreserved)
        return "".join(
            part if number == 0 else f"%{part[:2].lower()}{part[2:]}"
            for number, part in enumerate(encoded.split("%"))
        )

    def base(self) -> str:
        return f"/{self._encoded(self.id_scope)}/registrations/{self._encoded(self.registration_id)}"

    def token(self) -> str:
        resource = self._encoded(f"{self.id_scope}/registrations/{self.registration_id}")
        signature = self._encoded(base64.b64encode(self.sign(f"{resource}\n{self.expiry}")).decode())
        return f"SharedAccessSignature sr={resource}&sig={signature}&se={self.expiry}&skn=registration"

    def headers(self, *, has_body: bool, is_signed: bool) -> dict[str, str]:
        headers = {
            "UserAgent": "prov_device_client/1.0",
            "Accept": "application/json",
            "Connection": "keep-alive",
            "Content-Type": "application/json; charset=utf-8",
        }
        return headers | ({"Authorization": self.token()} if is_signed else {})

    def body(self, *, with_tpm: bool) -> bytes:
        message = {"registrationId": self.registration_id}
        if with_tpm:
            message["tpm"] = self.tpm.on_the_wire()
        # Its writer escapes the slashes of base64.
        return json.dumps(message, separators=(",", ":")).replace("/", "\\/").encode()

    def operation_of(self, answer: Answer) -> str:
        outcome = self._read(answer)
        if isinstance(outcome, Outcome):
            raise GaveUp(f"{outcome.status} where an operation ID is expected", outcome.code)
        return outcome

    def outcome_of(self, answer: Answer) -> Outcome | None:
        outcome = self._read(answer)
        return outcome if isinstance(outcome, Outcome) else None

    def challenge_of(self, answer: Answer) -> bytes:
        message = self._parsed(answer)
        if "status" in message:
            raise GaveUp("a challenge that has a status is none")
        required(message, "keyName")
        return base64.b64decode(required(message, "authenticationKey"), validate=True)

    def _parsed(self, answer: Answer) -> dict[str, Any]:
        if not (200 <= answer.status <= 226 or answer.status == 401):
            raise (Throttled if answer.status >= 429 else GaveUp)(f"status {answer.status}")
        return answer.json()

    def _read(self, answer: Answer) -> Outcome | str:
        message = self._parsed(answer)
        if "status" not in message:
            # Under a TPM it is taken for a challenge, and fails for want of a key.
            raise GaveUp("authorization failed")
        status, state = message["status"], message.get("registrationState")
        if status == "assigning":
            return required(message, "operationId")
        if status == "assigned":
            key = None
            if self.tpm is not None:
                key = base64.b64decode(required(required(state, "tpm", dict), "authenticationKey"))
            hub, device_id = required(state, "assignedHub"), required(state, "deviceId")
            return Outcome("assigned", hub, device_id, tpm_key=key, payload=state.get("payload"))
        if status == "disabled":
            return Outcome("disabled")
        if status == "failed":
            required(message, "operationId")
            return Outcome(
                "failed", code=required(state, "errorCode", int), message=state.get("errorMessage")
            )
        raise GaveUp(f"invalid status {status}")


class CSharp(Client):
    """The SDK for C#: indented JSON, IDs escaped, a token for one day, and nothing but 202 to a registration."""

    life = 24 * 3600
    statuses = ("unassigned", "assigning", "assigned", "failed", "disabled")

    def base(self) -> str:
        return f"/{quote(self.id_scope, safe='')}/registrations/{quote(self.registration_id, safe='')}"

    def token(self) -> str:
        # With a key it takes the audience from the path as it was escaped, and escapes it again.
        audience = f"{self.id_scope}/registrations/{self.registration_id}" if self.tpm else self.base()[1:]
        resource = quote_plus(audience)
        signature = quote_plus(base64.b64encode(self.sign(f"{resource}\n{self.expiry}")))
        return f"SharedAccessSignature sr={resource}&sig={signature}&se={self.expiry}&skn=registration"

    def headers(self, *, has_body: bool, is_signed: bool) -> dict[str, str]:
        headers = {"User-Agent": "Microsoft.Azure.Devices.Provisioning.Client/1.19.4 (.NET 8.0; Linux; X64)"}
        if has_body:
            headers["Content-Type"] = "application/json; charset=utf-8"
        return headers | ({"Authorization": self.token()} if is_signed else {})

    def body(self, *, with_tpm: bool) -> bytes:
        message = {"registrationId": self.registration_id}
        if with_tpm:
            message["tpm"] = self.tpm.on_the_wire()
        return json.dumps(message, indent=2).encode()

    def operation_of(self, answer: Answer) -> str:
        if answer.status != 202:
            raise self._error(answer)
        message = answer.json()
        if message.get("status") != "assigning":
            raise GaveUp("a registration that is over at once is not polled")
        self._retry_after(answer)
        return required(message, "operationId")

    def challenge_of(self, answer: Answer) -> bytes:
        if answer.status != 401:
            raise self._error(answer)
        return base64.b64decode(required(answer.json(), "authenticationKey"), validate=True)

    def outcome_of(self, answer: Answer) -> Outcome | None:
        if answer.status not in (200, 202):
            raise self._error(answer)
        message = answer.json()
        # Compared as it stands, capitals included; what is neither of these ends the polling.
        if message.get("status") in ("assigning", "unassigned"):
            self._retry_after(answer)
            return None
        state = required(message, "registrationState", dict)
        if state.get("status") not in self.statuses:
            raise GaveUp("the status of the registrationState is none of those known")
        for moment in ("createdDateTimeUtc", "lastUpdatedDateTimeUtc"):
            if moment in state:
                is_iso_8601(state[moment])
        key = None
        if message["status"] == "assigned" and self.tpm is not None:
            key = base64.b64decode(required(required(state, "tpm", dict), "authenticationKey"))
        code = required(state, "errorCode", int) if "errorCode" in state else None
        return Outcome(
            state["status"],
            state.get("assignedHub"),
            state.get("deviceId"),
            code,
            state.get("errorMessage"),
            key,
            state.get("payload"),
        )

    @staticmethod
    def _retry_after(answer: Answer) -> None:
        if not answer.headers.get("Retry-After", "0").isdigit():
            raise GaveUp("Retry-After is not in whole seconds")

    @staticmethod
    def _error(answer: Answer) -> GaveUp:
        message = answer.json()
        code = required(message, "errorCode", int)
        required(message, "trackingId")
        return (Throttled if answer.status == 429 else GaveUp)(required(message, "message"), code)


class Java(Client):
    """The SDK for Java: an empty skn, a GET that announces a body of no octets, and complete results."""

    certificate_members = (
        "issuerName",
        "subjectName",
        "sha1Thumbprint",
        "sha256Thumbprint",
        "notBeforeUtc",
        "notAfterUtc",
        "serialNumber",
        "version",
    )
    # Its releases differ in whether they encode the resource.
    resource_is_encoded = True

    def token(self) -> str:
        resource = f"{self.id_scope}/registrations/{self.registration_id}"
        resource = quote_plus(resource) if self.resource_is_encoded else resource
        signature = quote_plus(base64.b64encode(self.sign(f"{resource}\n{self.expiry}")))
        return f"SharedAccessSignature sr={resource}&sig={signature}&se={self.expiry}&skn="

    def headers(self, *, has_body: bool, is_signed: bool) -> dict[str, str]:
        headers = {
            "User-Agent": "com.microsoft.azure.sdk.iot.provisioning.device.provisioning-device-client/2.1.3",
            "Accept": "application/json",
            "Content-Type": "application/json; charset=utf-8",
        }
        if not has_body:
            headers["Content-Length"] = "0"
        return headers | ({"authorization": self.token()} if is_signed else {})

    def body(self, *, with_tpm: bool) -> bytes:
        message = {"registrationId": self.registration_id}
        if with_tpm:
            message["tpm"] = self.tpm.on_the_wire()
        return json.dumps(message, separators=(",", ":")).encode()

    def operation_of(self, answer: Answer) -> str:
        message = self._status(answer)
        if message["status"] != "assigning":
            raise GaveUp("a registration that is over at once is not polled")
        return message["operationId"]

    def challenge_of(self, answer: Answer) -> bytes:
        if answer.status != 401:
            raise GaveUp("no challenge, where one was asked for")
        return base64.b64decode(required(answer.json(), "authenticationKey"), validate=True)

    def outcome_of(self, answer: Answer) -> Outcome | None:
        message = self._status(answer)
        status, state = message["status"], message.get("registrationState")
        if status in ("assigning", "unassigned"):
            return None
        if status in ("failed", "disabled"):
            state = required(message, "registrationState", dict)
            return Outcome(status, code=state.get("errorCode"), message=state.get("errorMessage"))
        if status != "assigned":
            raise GaveUp(f"unknown status {status}")
        # What its own end-to-end tests assert of a success.
        for moment in ("createdDateTimeUtc", "lastUpdatedDateTimeUtc"):
            is_iso_8601(required(state, moment))
        required(state, "substatus")
        key = None
        if self.tpm is not None:
            key = base64.b64decode(required(required(state, "tpm", dict), "authenticationKey"))
        payload = state.get("payload")
        if payload is not None and not isinstance(payload, dict):
            raise GaveUp("the payload is no JSON object")
        hub, device_id = required(state, "assignedHub"), required(state, "deviceId")
        return Outcome("assigned", hub, device_id, tpm_key=key, payload=payload)

    def _status(self, answer: Answer) -> dict[str, Any]:
        if answer.status >= 300:
            message = answer.json()
            error = Throttled if answer.status == 429 else GaveUp
            raise error(required(message, "message"), required(message, "errorCode", int))
        message = answer.json()
        required(message, "operationId")
        required(message, "status")
        state = message.get("registrationState")
        if state is not None:
            required(state, "registrationId")
            required(state, "status")
            for part in ("certificateInfo", "signingCertificateInfo"):
                info = (state.get("x509") or {}).get(part)
                for member in self.certificate_members if info is not None else ():
                    if info.get(member) is None:
                        raise GaveUp(f"{member} is required for the X509 flow")
        return message


class JavaRaw(Java):
    resource_is_encoded = False


def is_iso_8601(text: str) -> None:
    """As the clients' date parsers take it: with `Z`, and at most seven digits of fraction."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    if not text.endswith("Z") or (fraction and not (fraction.isdigit() and len(fraction) <= 7)):
        raise GaveUp(f"{text} is no time")
    try:
        time.strptime(whole, "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        raise GaveUp(f"{text} is no time") from None


CLIENTS = (IotEdge, C, CSharp, Java, JavaRaw)
