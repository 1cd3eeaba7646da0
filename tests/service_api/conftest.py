"""The device listener's own URLs and middleware, and back ends that speak to it as their SDKs do."""

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

import pytest
from django.http import HttpResponse
from django.test import Client

from enrollments.models import AccessPolicy, ProvisioningService
from tests.devices import new_service
from tests.openapi.conformance import check_answer

VERSION = "api-version=2021-10-01"
HOST = "dps.example"


@pytest.fixture(autouse=True)
def _device_listener(settings):
    settings.ROOT_URLCONF = "dpsportal.device_urls"
    settings.MIDDLEWARE = ["dpsportal.request_log.RequestLogMiddleware"]
    settings.APPEND_SLASH = False


def service_token(
    key: str, policy: str, *, resource: str = quote_plus(HOST), expiry: int | None = None, **changed: str
) -> str:
    """Written from the contract (6.1), and not with the server's code."""
    expiry = int(time.time()) + 600 if expiry is None else expiry
    digest = hmac.new(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    fields = {
        "sr": resource,
        "sig": quote_plus(base64.b64encode(digest)),
        "se": str(expiry),
        "skn": policy,
        **changed,
    }
    return "SharedAccessSignature " + "&".join(f"{name}={value}" for name, value in fields.items())


@dataclass
class BackEnd:
    """Somebody with one credential. Each call answers with what the server said."""

    authorization: str
    host: str = HOST
    client: Client = field(default_factory=lambda: Client(raise_request_exception=False))

    def call(
        self, method: str, path: str, body: Any = None, *, query: str = VERSION, **headers: str
    ) -> HttpResponse:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        extra: dict[str, Any] = {"dps.listener": "device", "HTTP_HOST": self.host}
        if self.authorization:
            extra["HTTP_AUTHORIZATION"] = self.authorization
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.client.generic(
            method,
            f"{path}?{query}",
            raw,
            content_type="application/json; charset=utf-8",
            headers=names,
            **extra,
        )
        check_answer(method, path, answer)
        return answer

    def put(self, path: str, body: Any, **headers: str) -> HttpResponse:
        return self.call("PUT", path, body, **headers)

    def get(self, path: str, **headers: str) -> HttpResponse:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> HttpResponse:
        return self.call("POST", path, body, **headers)

    def delete(self, path: str, **headers: str) -> HttpResponse:
        return self.call("DELETE", path, **headers)


def with_policy(policy: AccessPolicy, **token: Any) -> BackEnd:
    return BackEnd(service_token(token.pop("key", policy.primary_key), policy.name, **token))


@pytest.fixture
def service(db: None) -> ProvisioningService:
    return new_service()


@pytest.fixture
def owner(service: ProvisioningService) -> AccessPolicy:
    return service.access_policies.get()


@pytest.fixture
def api(owner: AccessPolicy) -> BackEnd:
    """A back end with all rights."""
    return with_policy(owner)


def error_of(answer: HttpResponse) -> tuple[int, int, str]:
    """Status, code and message, after a look at the rest of the contract's error body."""
    body = answer.json()
    assert set(body) == {"errorCode", "trackingId", "message", "timestampUtc"}
    assert answer["x-ms-error-code"] == str(body["errorCode"])
    assert answer["Content-Type"] == "application/json; charset=utf-8"
    assert str(body["errorCode"]).startswith(str(answer.status_code))
    return answer.status_code, body["errorCode"], body["message"]


def keys(registration_id: str = "pump-042", **members: Any) -> dict[str, Any]:
    """An individual enrollment with symmetric keys that the service is to make."""
    attestation = {"type": "symmetricKey", "symmetricKey": {}}
    return {"registrationId": registration_id, "attestation": attestation, **members}
