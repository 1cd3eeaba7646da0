"""The device listener's own URLs and middleware, with what a TLS handshake would have proven."""

import json
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from enrollments.attestation.credential import PresentedCredential
from tests.device_api.clients import Answer, Request
from tests.devices import new_service
from tests.openapi.conformance import check_answer

VERSION = "api-version=2021-06-01"


@pytest.fixture(autouse=True)
def _device_listener(settings):
    settings.ROOT_URLCONF = "dpsportal.device_urls"
    settings.MIDDLEWARE = ["dpsportal.request_log.RequestLogMiddleware"]
    settings.APPEND_SLASH = False


@pytest.fixture
def service():
    return new_service()


class DeviceClient:
    """Speaks for devices: each call shows a credential, in the place where the listener would put it."""

    def __init__(self, id_scope: str) -> None:
        self.id_scope = id_scope
        self.client = Client(raise_request_exception=False)

    def call(
        self,
        method: str,
        path: str,
        credential: PresentedCredential,
        body: Any = None,
        **extra: Any,
    ) -> HttpResponse:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if credential.authorization:
            extra["HTTP_AUTHORIZATION"] = credential.authorization
        extra.setdefault("content_type", "application/json; charset=utf-8")
        extra["dps.peer_certificates"] = credential.certificates
        extra["dps.listener"] = "device"
        answer = self.client.generic(method, path, raw, **extra)
        check_answer(method, path.partition("?")[0], answer)
        return answer

    def base(self, registration_id: str) -> str:
        return f"/{self.id_scope}/registrations/{registration_id}"

    def register(self, registration_id: str, credential: PresentedCredential, body: Any = None, **extra: Any):
        path = f"{self.base(registration_id)}/register?{extra.pop('query', VERSION)}"
        return self.call("PUT", path, credential, body, **extra)

    def poll(self, registration_id: str, operation_id: str, credential: PresentedCredential, **extra: Any):
        path = f"{self.base(registration_id)}/operations/{operation_id}?{VERSION}"
        return self.call("GET", path, credential, **extra)

    def look_up(self, registration_id: str, credential: PresentedCredential, **extra: Any):
        return self.call("POST", f"{self.base(registration_id)}?{VERSION}", credential, **extra)


@pytest.fixture
def device(service):
    return DeviceClient(service.id_scope)


@pytest.fixture
def wire():
    """Carries a request to the device listener's application, with the certificates that the handshake brought."""

    def carry(request: Request, certificates: tuple[bytes, ...] = ()) -> Answer:
        headers = dict(request.headers)
        content_type = headers.pop("Content-Type", headers.pop("content-type", ""))
        headers.pop("Content-Length", None)
        response = Client(raise_request_exception=False).generic(
            request.method,
            request.target,
            request.body,
            content_type=content_type,
            headers=headers,
            **{"dps.peer_certificates": certificates, "dps.listener": "device"},
        )
        check_answer(request.method, request.target.partition("?")[0], response)
        return Answer(response.status_code, dict(response.headers), response.content)

    return carry
