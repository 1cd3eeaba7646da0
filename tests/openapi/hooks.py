"""What schemathesis cannot know: credentials, and values that have to exist. Loaded by schemathesis, not by pytest."""

import base64
import hashlib
import hmac
import itertools
import json
import os
import re
import time
from typing import Any
from urllib.parse import quote, unquote

import schemathesis
from hypothesis import strategies as st

from enrollments.policy.names import is_registration_id
from tests.certificates import root, self_signed
from tests.sas import sas_token
from tests.soft_tpm import SoftTpm

KNOWN: dict[str, str] = json.loads(os.environ["DPS_SCHEMATHESIS_KNOWN"])
DEVICE, CA = self_signed("pump-042").pem, root("Factory CA").pem
TPM = SoftTpm().keys.on_the_wire()
KEY = base64.b64encode(b"k" * 32).decode()
# As the document shows one.
EXAMPLE = "-----BEGIN CERTIFICATE-----\nMIIB…"
OF_A_DRY_RUN = re.compile(r"is of a dry run: it needs dryRun=true|^at is a time that the dry run tells")
MARK, OF_PATH = "(the right one)", "{path}"
NO_CERTIFICATE = re.compile(
    r"\.certificate: missing; give PEM|attestation\.x509(\.caReferences| primary: Give the )"
)
registered: list[tuple[str, str]] = []
# Each request comes from an address of its own: rates belong to addresses until somebody has proven who they are.
_numbers = itertools.count(1)

for name, value in {
    "x509-certificate": DEVICE,
    "tpm-endorsement-key": TPM["endorsementKey"],
    "tpm-storage-root-key": TPM["storageRootKey"],
    "symmetric-key": KEY,
    "linked-hub": KNOWN["hub"],
    "uploaded-ca": KNOWN["ca"],
    "webhook-url": "https://hooks.example/allocate",
    "webhook-api-version": "2021-10-01",
    "sha256-thumbprint": self_signed("pump-042").parsed.thumbprint_sha256,
    "registration-id-of-path": OF_PATH,
    "time-to-come": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400)),
}.items():
    schemathesis.openapi.format(name, st.just(value))


def service_token() -> str:
    resource, expiry = quote(KNOWN["host"], safe=""), int(time.time()) + 3600
    key = base64.b64decode(KNOWN["policy_key"])
    digest = hmac.digest(key, f"{resource}\n{expiry}".encode(), hashlib.sha256)
    signature = quote(base64.b64encode(digest), safe="")
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={KNOWN['policy']}"


def device_token(registration_id: str) -> str:
    """With the key that a group gives to whatever device has this ID."""
    key = hmac.digest(base64.b64decode(KNOWN["group_key"]), registration_id.encode(), hashlib.sha256)
    return sas_token(KNOWN["id_scope"], registration_id, base64.b64encode(key).decode())


@schemathesis.auth()
class Credentials:
    """Sets a mark, which becomes a credential when it is known what is called."""

    def get(self, case: Any, ctx: Any) -> str:
        return MARK

    def set(self, case: Any, data: str, ctx: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": data}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    number = next(_numbers)
    path = _of_what_is_there(case.operation.path, dict(case.path_parameters or {}), number)
    body = _fitting(case.body, path)
    # What is set is judged anew, a body that is left out too: so only what did change is.
    if path != case.path_parameters:
        case.path_parameters = path
    if body != case.body:
        case.body = body
    headers = {
        **(case.headers or {}),
        "X-Forwarded-For": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
    }
    if headers.get("Authorization") == MARK:
        is_device = "idScope" in path
        headers["Authorization"] = (
            device_token(unquote(str(path["registrationId"]))) if is_device else service_token()
        )
    case.headers = headers


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """What was registered can be polled, looked up and deleted."""
    if case.operation.path.endswith("/register") and response.status_code == 202:
        registered.append((unquote(case.path_parameters["registrationId"]), response.json()["operationId"]))


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Four things that the document says in words alone."""
    kind = type(failure).__name__
    # An enrollment may be called query: what its path takes beside POST is described at `{registrationId}`.
    if kind in ("AllowHeaderMismatch", "UnsupportedMethodResponse"):
        return case.operation.path not in ("/enrollments/query", "/enrollmentGroups/query")
    # A certificate may be left out where one is held, or named where it is known; a continuation was given out.
    if kind == "RejectedPositiveData":
        code, message = response.json()["errorCode"], response.json()["message"]
        # What is of a dry run goes with dryRun=true, and a time with the list of devices.
        return not (
            code == 400103
            or (code == 400104 and NO_CERTIFICATE.search(message))
            or (code == 400102 and OF_A_DRY_RUN.search(message))
        )
    return True


def _of_what_is_there(template: str, path: dict[str, Any], number: int) -> dict[str, Any]:
    """A well-formed ID scope is that of the service; every other time a well-formed name is one that is registered."""
    # They come quoted, and are judged anew as they stand here.
    path = {
        one: unquote(value) if is_registration_id(unquote(str(value))) else value
        for one, value in path.items()
    }
    if re.fullmatch("0[Nn][Ee][0-9A-Fa-f]{8}", str(path.get("idScope"))):
        path["idScope"] = KNOWN["id_scope"]
    if "idScope" in path and path["registrationId"] == "pump-042":
        # The example of the document; by this name there is an individual enrollment with keys of its own.
        path["registrationId"] = "lamp-042"
    if path.get("enrollmentGroupId") == KNOWN["group"] and not template.startswith("/registrations/"):
        # Lists name it; changed or deleted, it would let nobody in any more.
        path["enrollmentGroupId"] = "factory"
    of_registered = template.startswith("/registrations/{registrationId}") or "operationId" in path
    if (
        registered
        and of_registered
        and number % 2
        and is_registration_id(unquote(str(path["registrationId"])))
    ):
        path["registrationId"], operation = registered[number // 2 % len(registered)]
        if path.get("operationId"):
            path["operationId"] = operation
    return path


def _fitting(body: Any, path: dict[str, Any]) -> Any:
    """The ID in the body is that of the path, if both are well-formed, and a CA stands where one belongs."""
    if not isinstance(body, dict):
        return body
    body = _with_ca(body)
    for member in ("registrationId", "enrollmentGroupId"):
        name = unquote(str(path.get(member, "")))
        if member in body and is_registration_id(name) and is_given_or_well_formed(body[member]):
            body[member] = name
    return body


def is_given_or_well_formed(name: Any) -> bool:
    return name == OF_PATH or (isinstance(name, str) and is_registration_id(name))


def _with_ca(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _replaced(one) if name == "signingCertificates" else _with_ca(one)
            for name, one in value.items()
        }
    return [_with_ca(one) for one in value] if isinstance(value, list) else value


def _replaced(value: Any) -> Any:
    for one in (DEVICE, EXAMPLE):
        value = json.loads(json.dumps(value).replace(json.dumps(one), json.dumps(CA)))
    return value
