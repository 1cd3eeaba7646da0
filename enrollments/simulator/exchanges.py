"""What one device says to the service: single requests, spelled as its profile spells them, and their answers."""

import base64
import binascii
import http.client
import json
import ssl
import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from enrollments.errors import DpsError
from enrollments.simulator.credentials import CertificateFiles, Credential, SharedKey, TpmKeys, signed_token
from enrollments.simulator.profiles import PLAIN, Profile

EXCHANGE_SECONDS = 15
MAX_ANSWER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Device:
    """A device, what it shows, and whose manner it has. Without a credential it shows nothing."""

    registration_id: str
    credential: Credential | None
    profile: Profile = PLAIN


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is reached. Without a CA file, the CAs that this machine trusts count."""

    host: str
    port: int
    id_scope: str
    ca_file: Path | None

    def __str__(self) -> str:
        return f"https://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def context(self) -> ssl.SSLContext:
        """What a client of this service trusts. Raises OSError where the CA file cannot be used."""
        return ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)


class Unreachable(Exception):
    """No answer came back."""


class ChallengeWrong(DpsError):
    """The answer to a TPM's first request is none that it can go on with."""

    code = "challenge_wrong"


@dataclass(frozen=True, slots=True)
class Answer:
    """`retry_after` is None where there is none in whole seconds. `body` is empty where it is no JSON object."""

    status: int
    retry_after: int | None
    content_type: str
    body: dict[str, Any]
    seconds: float

    @property
    def is_trouble(self) -> bool:
        """Throttled, or the service fails: the device did nothing wrong."""
        return self.status == 429 or self.status >= 500


class Conversation:
    """The requests of one device. Raises OSError where its files cannot be used."""

    def __init__(self, device: Device, endpoint: Endpoint) -> None:
        self._device = device
        self._profile = device.profile
        self._endpoint = endpoint
        self._context = endpoint.context()
        if isinstance(device.credential, CertificateFiles):
            self._context.load_cert_chain(device.credential.chain, device.credential.key)
        self._authorization = ""
        self.begin()

    def begin(self) -> None:
        """Get ready for a registration: a key makes a new token, a TPM has to be challenged first."""
        credential = self._device.credential
        self._authorization = ""
        if isinstance(credential, SharedKey):
            self._authorization = signed_token(
                self._endpoint.id_scope, self._device.registration_id, credential.sign, self._profile.token
            )

    @property
    def awaits_challenge(self) -> bool:
        return isinstance(self._device.credential, TpmKeys) and not self._authorization

    def register(self) -> Answer:
        body = json.dumps(self._registration(), indent=2 if self._profile.indents else None)
        return self._exchange("PUT", "register", body.encode())

    def poll(self, operation_id: str) -> Answer:
        operation = quote(operation_id, safe="") if self._profile.encodes_ids else operation_id
        return self._exchange("GET", f"operations/{operation}", self._profile.poll_body)

    def take_challenge(self, answer: Answer) -> None:
        """Prove the TPM: activate the key that came with a 401, and sign with it from now on.

        Raises ChallengeWrong where the answer is no challenge, and TpmRefusal where the TPM does not take the key.
        """
        credential, key_name = self._device.credential, answer.body.get("keyName")
        if not isinstance(credential, TpmKeys):
            raise TypeError("only a TPM is challenged")
        if answer.status != 401:
            raise ChallengeWrong(
                f"The first request of a TPM is answered with {answer.status} and not with 401."
            )
        if "status" in answer.body:
            raise ChallengeWrong("The challenge holds a status, by which clients know that it is none.")
        if not isinstance(key_name, str) or not key_name:
            raise ChallengeWrong("The challenge has no keyName.")
        credential.tpm.activate(key_blob(answer.body.get("authenticationKey")))
        self._authorization = signed_token(
            self._endpoint.id_scope,
            self._device.registration_id,
            credential.tpm.sign,
            self._profile.tpm_token,
        )

    def _registration(self) -> dict[str, Any]:
        registration: dict[str, Any] = {"registrationId": self._device.registration_id}
        credential = self._device.credential
        if isinstance(credential, TpmKeys) and (self.awaits_challenge or self._profile.repeats_tpm):
            registration["tpm"] = {
                "endorsementKey": base64.b64encode(credential.tpm.endorsement_key).decode(),
                "storageRootKey": base64.b64encode(credential.tpm.storage_root_key).decode(),
            }
        return registration

    def _exchange(self, method: str, action: str, body: bytes) -> Answer:
        """A connection of its own: a device does not hold one while it waits. Raises Unreachable."""
        endpoint, started = self._endpoint, time.monotonic()
        connection = http.client.HTTPSConnection(
            endpoint.host, endpoint.port, timeout=EXCHANGE_SECONDS, context=self._context
        )
        try:
            connection.request(
                method,
                f"{self._path()}/{action}?api-version={self._profile.api_version}",
                body=body or None,
                headers=self._headers(method),
            )
            response = connection.getresponse()
            raw = response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as problem:
            raise Unreachable(f"{endpoint}: {problem or type(problem).__name__}") from problem
        finally:
            connection.close()
        return Answer(
            response.status,
            _whole_seconds(response.headers.get("Retry-After", "")),
            response.headers.get("Content-Type", ""),
            _json_object(raw),
            time.monotonic() - started,
        )

    def _path(self) -> str:
        id_scope, registration_id = self._endpoint.id_scope, self._device.registration_id
        if self._profile.encodes_ids:
            id_scope, registration_id = quote(id_scope, safe=""), quote(registration_id, safe="")
        return f"/{id_scope}/registrations/{registration_id}"

    def _headers(self, method: str) -> dict[str, str]:
        headers = dict(self._profile.headers)
        if self._profile.request_id:
            headers["Request-Id"] = str(uuid.uuid4())
        if method == "PUT" or self._profile.content_type_on_poll:
            headers["Content-Type"] = self._profile.content_type
        if self._authorization:
            headers[self._profile.authorization] = self._authorization
        return headers


def why_not_ready(endpoint: Endpoint) -> str:
    """Why a listener cannot serve yet; empty when it can."""
    try:
        connection = http.client.HTTPSConnection(
            endpoint.host, endpoint.port, timeout=EXCHANGE_SECONDS, context=endpoint.context()
        )
        with closing(connection):
            connection.request("GET", "/readyz")
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as problem:
        return str(problem) or type(problem).__name__
    return "" if status == 200 else f"it answers {status}"


def key_blob(text: object) -> bytes:
    """An `authenticationKey`. Raises ChallengeWrong."""
    if not isinstance(text, str) or not text:
        raise ChallengeWrong("There is no authenticationKey.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ChallengeWrong("The authenticationKey is not base64.") from None


def _whole_seconds(text: str) -> int | None:
    """Anything but a few digits is no number of seconds to a device."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _json_object(raw: bytes) -> dict[str, Any]:
    """The body, or nothing where it is no JSON object: what is missing in it is then said by name."""
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
