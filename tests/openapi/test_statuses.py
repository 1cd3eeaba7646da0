"""Each status that the document declares for an operation is one that the operation does answer with."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse

from enrollments.actions.access_policies import add_policy
from enrollments.actions.registrations import Outcome, RegistrationAnswer
from enrollments.actions.services import add_service
from enrollments.attestation.credential import PresentedCredential
from enrollments.device_api import views as device_views
from enrollments.models import ProvisioningService
from enrollments.openapi.document import document
from enrollments.policy.access import AccessRight
from enrollments.policy.reasons import Reason
from enrollments.service_api import authentication
from enrollments.wire.requests import MAX_MESSAGE_BYTES
from tests.device_api.conftest import DeviceClient
from tests.devices import ALICE, derived_key, enroll_key_group, signs
from tests.service_api.conftest import BackEnd, keys, with_policy

pytestmark = pytest.mark.django_db

NAME, GROUP = "pump-042", "factory"
MUCH = b" " * (MAX_MESSAGE_BYTES + 1)


@pytest.fixture(autouse=True)
def _device_listener(settings):
    settings.ROOT_URLCONF = "dpsportal.device_urls"
    settings.MIDDLEWARE = ["dpsportal.request_log.RequestLogMiddleware"]
    settings.APPEND_SLASH = False


@pytest.fixture
def service() -> ProvisioningService:
    made = add_service("plant", actor=ALICE)
    enroll_key_group(made, "any-device")
    return made


def group(**members: Any) -> dict[str, Any]:
    return {"enrollmentGroupId": GROUP, "attestation": {"type": "symmetricKey"}, **members}


class OfBackEnds:
    """Provokes each status of one operation of the service API."""

    def __init__(self, service: ProvisioningService, path: str, method: str, monkeypatch) -> None:
        self.service, self.method, self.monkeypatch = service, method.upper(), monkeypatch
        self.is_group = "enrollmentGroup" in path
        self.path = path.format(registrationId=NAME, enrollmentGroupId=GROUP)
        self.owner = with_policy(service.access_policies.get())
        self.body = self._body(path)

    def _body(self, path: str) -> Any:
        if path.endswith("/query"):
            return {"query": "SELECT *"}
        if path in ("/enrollments", "/enrollmentGroups"):
            one = group() if self.is_group else keys(NAME)
            return {"mode": "create", path[1:]: [one]}
        if self.method == "PUT":
            return group() if self.is_group else keys(NAME)
        return None

    def call(self, back_end: BackEnd | None = None, body: Any = None, **how: Any) -> HttpResponse:
        return (back_end or self.owner).call(self.method, self.path, body or self.body, **how)

    def exists(self) -> None:
        """What the path names."""
        if self.path.startswith("/registrations/") and self.method != "POST":
            register(self.service, NAME)
        elif self.is_group or self.path.startswith("/registrations/"):
            self.owner.put(f"/enrollmentGroups/{GROUP}", group())
        else:
            self.owner.put(f"/enrollments/{NAME}", keys(NAME))

    def status_200(self) -> HttpResponse:
        if self.method == "PUT" or self.path.count("/") == 1:
            return self.call()
        self.exists()
        if self.method == "DELETE":
            return self.call(query="api-version=2021-10-01&dryRun=true")
        return self.call()

    def status_204(self) -> HttpResponse:
        self.exists()
        return self.call()

    def status_400(self) -> HttpResponse:
        return self.call(query="")

    def status_401(self) -> HttpResponse:
        return self.call(BackEnd(""))

    def status_403(self) -> HttpResponse:
        policy = add_policy(self.service, "nothing", {AccessRight.SERVICE_CONFIG}, actor=ALICE)
        return self.call(with_policy(policy))

    def status_404(self) -> HttpResponse:
        add_service("lab", actor=ALICE)
        return self.call()

    def status_409(self) -> HttpResponse:
        self.exists()
        return self.call()

    def status_412(self) -> HttpResponse:
        if self.path.count("/") == 1:
            return self.call(query="api-version=2021-10-01&epoch=999999")
        self.exists()
        return self.call(If_Match="another")

    def status_413(self) -> HttpResponse:
        return self.call(body=MUCH)

    def status_429(self) -> HttpResponse:
        return last(lambda: self.call(BackEnd("")))

    def status_500(self) -> HttpResponse:
        self.monkeypatch.setattr(authentication, "let_in", fails)
        return self.call()


class OfDevices:
    """The same of one operation of the device API."""

    def __init__(self, service: ProvisioningService, path: str, method: str, monkeypatch) -> None:
        self.service, self.monkeypatch = service, monkeypatch
        self.method, self.template = method.upper(), path
        self.client = DeviceClient(service.id_scope)

    def call(
        self,
        shown: PresentedCredential | None = None,
        body: Any = None,
        *,
        version: str = "2021-06-01",
        **path: str,
    ) -> HttpResponse:
        names = {"idScope": self.service.id_scope, "registrationId": NAME, "operationId": "5.x", **path}
        address = self.template.format(**names) + (f"?api-version={version}" if version else "")
        if shown is None:
            shown = credential(self.service, names["registrationId"])
        return self.client.call(self.method, address, shown, body, REMOTE_ADDR="192.0.2.9")

    def status_200(self) -> HttpResponse:
        return self.call(operationId=register(self.service, NAME))

    def status_202(self) -> HttpResponse:
        if self.method == "GET":
            self.monkeypatch.setattr(device_views, "poll_operation", still_running)
        return self.call(operationId=register(self.service, NAME))

    def status_400(self) -> HttpResponse:
        return self.call(version="")

    def status_401(self) -> HttpResponse:
        return self.call(PresentedCredential())

    def status_404(self) -> HttpResponse:
        return self.call(idScope="0ne00000000")

    def status_413(self) -> HttpResponse:
        return self.call(body=MUCH)

    def status_429(self) -> HttpResponse:
        return last(lambda: self.call(PresentedCredential()))

    def status_500(self) -> HttpResponse:
        self.monkeypatch.setattr(device_views, "_service", fails)
        return self.call()


def credential(service: ProvisioningService, name: str) -> PresentedCredential:
    group_key = service.enrollmentgroups.get(group_id="any-device").primary_key
    return signs(service, name, derived_key(group_key, name))


def register(service: ProvisioningService, name: str) -> str:
    answer = DeviceClient(service.id_scope).register(name, credential(service, name))
    assert answer.status_code == 202
    return json.loads(answer.content)["operationId"]


def still_running(service: ProvisioningService, operation_id: str, device: Any) -> Any:
    return RegistrationAnswer(
        Outcome.ASSIGNING, Reason.ADMITTED, device.claimed_registration_id, operation_id=operation_id
    )


def last(call: Callable[[], HttpResponse]) -> HttpResponse:
    """After so many in a row that nobody listens any more."""
    for _ in range(12):
        answer = call()
    return answer


def fails(*_: Any, **__: Any) -> Any:
    raise RuntimeError("on purpose")


DECLARED = [
    pytest.param(path, method, status, id=f"{method} {path} {status}")
    for path, item in document()["paths"].items()
    for method, operation in item.items()
    for status in sorted(operation["responses"])
]


@pytest.mark.parametrize(("path", "method", "status"), DECLARED)
def test_each_declared_status_is_answered(service, path, method, status, monkeypatch):
    made = OfDevices if path.startswith("/{idScope}") else OfBackEnds
    provoke = getattr(made(service, path, method, monkeypatch), f"status_{status}", None)

    assert provoke is not None, f"nothing here makes {method} {path} answer {status}"
    assert provoke().status_code == int(status)
