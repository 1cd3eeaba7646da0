"""R1: nothing of another service shows, on no page, in no total and by no search; for every address there is."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from enrollments.actions.access_policies import add_policy
from enrollments.actions.api_tokens import add_api_token
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.hubs import HubSpec, link_hub
from enrollments.actions.kept_attempts import find_attempt
from enrollments.actions.quiet_periods import start_quiet_period
from enrollments.audit.sealer import seal_everything
from enrollments.models import HistoryEvent, ProvisioningService, RegistrationRecord
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Right, Role
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_key_group, register, signs, upload_ca
from tests.factories import a_service, a_user, an_individual
from tests.portal.addresses import ADDRESSES, Address
from tests.portal.pages import Page
from tests.portal.real_requests import GETS
from tests.transfer.lists import ended_import

pytestmark = pytest.mark.django_db
# What everything of the other service is named by, and what nothing is.
FOREIGN, NOTHING = "zz-foreign", "zz-nothing"
ROW_NUMBERS = ("pk", "quiet_pk", "hub_pk", "event_pk", "import_pk")
NAMES = ("registration_id", "group_id", "device_id", "policy_name", "ca_name", "username")
SHOWN = [one for one in ADDRESSES if one.of_service]
# The history's own sequence is that of the installation, so places in it tell that there were other rows.
COUNTS_ALL = ("history", "installation")
# What is looked for in every field into which one can write: names of several kinds, whole and begun.
SOUGHT = ("", "-001", "-group", "-person")


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
        "username": person.username,
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


def signed_in(role: Role) -> Client:
    """In the one service alone."""
    client = Client()
    client.force_login(a_user(role, ProvisioningService.objects.get(name="plant"), f"own-{role}"))
    return client


@pytest.fixture
def administrator(own) -> Client:
    return signed_in(Role.ADMINISTRATOR)


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


def asked(address: Address) -> dict[str, str] | None:
    """The query without which an address only says that something is missing."""
    if address.name.startswith("preview"):
        return {"act": "disable", "entry": "group:own-group"}
    if address.name.startswith("past"):
        return {"at": timezone.now().isoformat()}
    return None


@pytest.mark.usefixtures("time_stands_still")
@pytest.mark.parametrize("address", [pytest.param(one, id=one.name) for one in ADDRESSES])
def test_r1_page_is_the_same_whatever_another_service_holds(address, own):
    """To each role in one service, totals included; also the pages of the installation, and what these refuse."""
    if address.name in ("sign-in", "sign-out"):
        return
    path, query = url(address, own), asked(address)
    clients = {role: signed_in(role) for role in Role}
    seal_everything()
    before = {role: read(client, path, query) for role, client in clients.items()}

    fill(a_service(FOREIGN), FOREIGN)

    for role, client in clients.items():
        after = read(client, path, query)
        assert FOREIGN not in after
        if not address.name.startswith(COUNTS_ALL):
            assert comparable(after) == comparable(before[role])


def fields_to_search_by(client: Client, own: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every field of every page into which one can write what is looked for, with the rest of its form."""
    for address in ADDRESSES:
        if address.name not in ("sign-in", "sign-out", *GETS):
            path = url(address, own)
            for form in Page(read(client, path)).forms:
                for name in form.texts if form.method == "GET" else ():
                    yield form.action or path, form.fields, name


def test_r1_search_for_what_another_service_holds_finds_what_one_for_nothing_finds(
    own, foreign, administrator
):
    fields = {(path, name): others for path, others, name in fields_to_search_by(administrator, own)}

    assert {name for _, name in fields} >= {"q", "subject", "actor", "reason", "entry", "registration_id"}
    for (path, name), others in fields.items():
        for suffix in SOUGHT:
            found, nothing = (
                comparable(read(administrator, path, {**others, name: f"{base}{suffix}"})).replace(base, "X")
                for base in (FOREIGN, NOTHING)
            )
            assert found == nothing, (path, name, suffix)


@pytest.mark.parametrize("role", list(Role))
def test_r1_history_and_its_exports_hold_no_row_of_another_service(role, own, foreign):
    client, path = signed_in(role), "/services/plant/history/"
    for query in (
        {},
        {"subject": FOREIGN},
        {"subject": f"={FOREIGN}-001"},
        {"actor": "user:alice"},
        {"reason": FOREIGN},
        {"device": f"{FOREIGN}-001"},
        {"kind": "EnrollmentGroup"},
        {"service": FOREIGN},
        {"event": "shuts-out"},
    ):
        shown = client.get(path, query).context["rows"]
        exported = read(client, f"{path}export/", {**query, "format": "jsonl"})

        assert {row.event.service_name for row in shown} <= {"plant"}
        if Right.EXPORT in role.rights:
            lines = [json.loads(line) for line in exported.removeprefix("200 ").splitlines()]
            assert "excerpt" in lines[0]
            rows = [line["event"] for line in lines if "event" in line]
            assert {row["service_name"] for row in rows} <= {"plant"}
            assert not [row for row in rows if row["subject_name"].startswith(FOREIGN)]


@pytest.mark.parametrize(
    "address", [pytest.param(one, id=one.name) for one in SHOWN if set(one.parameters) & {*NAMES}]
)
def test_r1_name_that_another_service_holds_is_a_name_of_nothing(address, own, foreign, administrator):
    def answers(base):
        names = {one: value.replace("own", base) for one, value in own.items() if one in NAMES}
        path = url(address, {**own, **names})
        for answer in (administrator.get(path), administrator.post(path)):
            yield answer.status_code, comparable(answer.content.decode()).replace(base, "X")

    assert list(answers(FOREIGN)) == list(answers(NOTHING))


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
            # Where only a form may be sent, the page leads to the address above, which holds what was typed.
            above = f'href="{urljoin(path, "..")}"'
            text = read(administrator, path).replace(path, "").replace(above, "")
            assert FOREIGN not in text, path
