"""R1: nothing of another service shows, on no page, in no total and by no search; for every address there is."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from enrollments.actions.access_policies import add_policy
from enrollments.actions.api_tokens import add_api_token
from enrollments.actions.attempts import find_attempt
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.hubs import HubSpec, link_hub
from enrollments.actions.quiet_periods import start_quiet_period
from enrollments.audit.sealer import seal_everything
from enrollments.models import HistoryEvent, ProvisioningService, RegistrationRecord
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_key_group, register, signs, upload_ca
from tests.factories import a_service, a_user, an_individual
from tests.portal.addresses import ADDRESSES, Address
from tests.transfer.lists import ended_import

pytestmark = pytest.mark.django_db
# What everything of the other service is named by.
FOREIGN = "zz-foreign"
SEARCHES = {
    "enrollment-list": "q",
    "group-list": "q",
    "registration-list": "q",
    "attempt-list": "q",
    "device-list": "q",
    "history-list": "subject",
    "history-export": "subject",
}
ROW_NUMBERS = ("pk", "quiet_pk", "hub_pk", "event_pk")
SHOWN = [one for one in ADDRESSES if one.of_service]


def fill(service: ProvisioningService, name: str) -> dict[str, Any]:
    """Entries of every kind, a device that registered and one that was refused, each named after the service."""
    ca = root(f"{name}-ca")
    enroll_ca(service, ca, f"{name}-group")
    enroll_ca(service, root(f"{name}-barred-ca"), f"{name}-barred", enabled=False)
    enroll_key_group(service, f"{name}-keyed")
    keyed = an_individual(service, f"{name}-001", keys=True)
    an_individual(service, f"{name}-002")
    disable_enrollment(service, f"{name}-002", actor=ALICE, reason=f"because of {name}")
    register(service, signs(service, f"{name}-001", keyed.primary_key), f"{name}-001")
    register(service, ca.leaf(f"{name}-003"))
    refused = register(service, self_signed(f"{name}-stranger"))
    attempt = find_attempt(service, refused.tracking_id)
    quiet = start_quiet_period(service, attempt, timedelta(hours=1), actor=ALICE)
    hub = link_hub(service, HubSpec(name=f"{name}-hub", host_name=f"{name}.example"), actor=ALICE)
    add_policy(service, f"{name}-policy", [AccessRight.ENROLLMENT_READ], actor=ALICE)
    person = a_user(Role.VIEWER, service, f"{name}-person")
    add_api_token(service, person, f"{name}-token", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    return {
        "registration_id": f"{name}-001",
        "group_id": f"{name}-group",
        "hub_pk": RegistrationRecord.objects.get(registration_id=f"{name}-001").hub_id,
        "device_id": f"{name}-001",
        "pk": attempt.pk,
        "quiet_pk": quiet.pk,
        "event_pk": HistoryEvent.objects.of_service(service.pk).latest("pk").pk,
        "policy_name": f"{name}-policy",
        "which": "primary",
        "unused_hub": hub.pk,
        "ca_name": upload_ca(service, ca, f"{name}-ca").name,
        "import_pk": ended_import(service, f"{name}.csv").pk,
        "part_kind": "list",
        "part_number": 0,
        "exported": "individuals",
    }


@pytest.fixture
def own() -> dict[str, Any]:
    # That the listener is shared is known to all: it decides how back ends reach a service.
    a_service("empty")
    return {"service_name": "plant", **fill(a_service("plant"), "own")}


@pytest.fixture
def foreign(own) -> dict[str, Any]:
    """Filled after one's own, so that all of it is newer and stands first wherever the latest do."""
    return fill(a_service(FOREIGN), FOREIGN)


@pytest.fixture
def administrator(own) -> Client:
    """Of the one service alone."""
    client = Client()
    client.force_login(a_user(Role.ADMINISTRATOR, ProvisioningService.objects.get(name="plant"), "own-admin"))
    return client


def url(address: Address, values: dict[str, Any]) -> str:
    return reverse(f"portal:{address.name}", kwargs={one: values[one] for one in address.parameters})


def read(client: Client, path: str, query: dict[str, str] | None = None) -> str:
    answer = client.get(path, query or {})
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return f"{answer.status_code} {content.decode('utf-8', 'replace')}"


def comparable(text: str) -> str:
    """Without what differs from one look at a page to the next: tokens against forged posts, and times."""
    text = re.sub(r'(csrfmiddlewaretoken" value|X-CSRFToken": )[^>}]*', "", text)
    return re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?", "then", text)


@pytest.mark.parametrize("address", [pytest.param(one, id=one.name) for one in SHOWN])
def test_r1_page_is_the_same_whatever_another_service_holds(address, own, administrator):
    path, query = url(address, own), {"act": "disable", "entry": "group:own-group"}
    seal_everything()
    before = read(administrator, path, query if address.name.startswith("preview") else None)

    fill(a_service(FOREIGN), FOREIGN)
    after = read(administrator, path, query if address.name.startswith("preview") else None)

    assert FOREIGN not in after
    # The history's own sequence is that of the installation, and looking at keys or taking an export adds to it.
    if not address.name.startswith(("history", "attempt", "storm")):
        assert comparable(after) == comparable(before)


@pytest.mark.parametrize("name", SEARCHES)
def test_r1_search_for_what_another_service_holds_finds_nothing(name, own, foreign, administrator):
    (address,) = (one for one in SHOWN if one.name == name)

    found = read(administrator, url(address, own), {SEARCHES[name]: FOREIGN})

    # What was searched for stands in the field and in links; nothing that continues it does.
    assert found.startswith("200")
    assert not re.search(rf"{FOREIGN}-\w", found)


@pytest.mark.parametrize(
    "address",
    [pytest.param(one, id=one.name) for one in SHOWN if set(one.parameters) & {*ROW_NUMBERS}],
)
def test_r1_what_another_service_holds_is_not_there_under_ones_own(address, own, foreign, administrator):
    mixed = {**own, **{one: foreign[one] for one in (*ROW_NUMBERS, "device_id")}}
    path = url(address, mixed)

    assert {administrator.get(path).status_code, administrator.post(path).status_code} <= {404, 405}


@pytest.mark.parametrize("query", [{"registration_id": f"{FOREIGN}-001"}, {"group": f"{FOREIGN}-keyed"}])
def test_r1_explain_knows_nothing_of_another_service(query, own, foreign, administrator):
    text = read(administrator, "/services/plant/explain/", query)

    assert "alert-success" not in text
    assert f"{FOREIGN}-ca" not in text


def test_r1_pages_of_the_installation_name_no_service_that_is_not_ones_own(own, foreign, administrator):
    for address in ADDRESSES:
        if not address.of_service:
            path = url(address, {"username": f"{FOREIGN}-person", "event_pk": foreign["event_pk"]})
            text = read(administrator, path)
            assert FOREIGN not in text.replace(path, ""), path
