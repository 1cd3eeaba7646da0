"""Acts in a service where one has no role: it is not there for them (R1), and its own people see the try (R15)."""

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from enrollments.actions.people import set_role
from enrollments.audit.sealer import seal_everything
from enrollments.models import HistoryEvent, HistorySeal, ProvisioningService
from enrollments.policy.roles import Role
from tests.devices import ALICE
from tests.factories import a_service, a_user
from tests.portal.addresses import ADDRESSES, Address
from tests.portal.history_pages import shown
from tests.portal.real_requests import Request, request_of
from tests.portal.test_access import BOOKS, METHODS, OF_SERVICE, each, newest, rows_since
from tests.portal.world import World, a_world, signed_in_as
from tests.tables import changed_tables, tables

pytestmark = pytest.mark.django_db
ACT = "/services/{}/enrollments/i/keyed-001/disable/"


@pytest.fixture
def world(db: None) -> World:
    return a_world()


@pytest.fixture
def stranger(world: World) -> Client:
    """Of another service."""
    return signed_in_as(Role.ADMINISTRATOR, a_service("lab"), "stranger").client


def comparable(answer, name: str) -> tuple[int, str, dict[str, str]]:
    text = re.sub(r'(csrfmiddlewaretoken" value|X-CSRFToken": )[^>}]*', "", answer.content.decode())
    headers = {one: value for one, value in answer.headers.items() if one != "X-Request-ID"}
    return answer.status_code, text.replace(name, "NAME"), headers


@each(OF_SERVICE)
def test_attempt_is_answered_as_if_there_were_no_such_service_and_leaves_a_row(
    address: Address, world, stranger
):
    administrator = signed_in_as(Role.ADMINISTRATOR, None, "anna")
    for method in METHODS:
        request = request_of(world, address, method, administrator)
        elsewhere = Request(method, request.url.replace("/plant/", "/ghost/"), request.data)
        before, rows = tables(), newest()

        there = request.sent_by(stranger)
        nowhere = elsewhere.sent_by(stranger)

        # As long as the other, which the length of a page that leads to its own address tells.
        assert comparable(there, "/plant/") == comparable(nowhere, "/ghost/")
        assert there.status_code in (404, 405)
        was_tried = method == "POST" and there.status_code == 404
        assert rows_since(rows) == ["action.refused", "action.refused"] * was_tried
        assert changed_tables(before) <= BOOKS
        if was_tried:
            row, other = HistoryEvent.objects.filter(pk__gt=rows).order_by("pk")
            path = request.url.partition("?")[0]
            assert (row.service_name, row.actor_name, row.subject_name) == (
                "plant",
                "stranger",
                f"POST {path}",
            )
            assert (other.service_id, other.after, row.after) == (None, None, None)


def test_the_same_is_done_whether_there_is_such_a_service(world, stranger):
    def statements(name):
        with CaptureQueriesContext(connection) as taken:
            stranger.post(ACT.format(name))
        return [re.sub(r"'[^']*'|\d+|NULL|IS NULL", "?", one["sql"])[:60] for one in taken]

    assert statements("plant") == statements("nowhere")


def test_places_in_the_history_do_not_tell_whether_there_is_such_a_service(world, stranger):
    """Two acts of one's own, with an attempt between them: their places are as far apart in either case."""

    def distance(name):
        for _ in range(2):
            assert stranger.post("/services/lab/policies/p/provisioningserviceowner/keys/").status_code == 200
            assert stranger.post(ACT.format(name)).status_code == 404
        seal_everything()
        own = HistorySeal.objects.filter(event__service_name="lab", event__event="keys.revealed")
        last, before = own.order_by("-index").values_list("index", flat=True)[:2]
        return last - before

    assert distance("plant") == distance("nowhere") == 2


def test_row_is_shown_to_those_of_the_service_and_to_nobody_else(world, stranger):
    stranger.post(ACT.format("plant"))
    stranger.post(ACT.format("nowhere"))
    stranger.post("/services/lab/settings/change/")

    def found(role, service, url):
        client = signed_in_as(role, service, f"{role}-of-{service or 'all'}").client
        return [row.subject_name for row in shown(client, url, event="action.refused")]

    there, nowhere = f"POST {ACT.format('plant')}", f"POST {ACT.format('nowhere')}"
    assert found(Role.AUDITOR, world.service, "/services/plant/history/") == [there]
    assert found(Role.AUDITOR, None, "/history/") == [nowhere, there]
    assert found(Role.AUDITOR, ProvisioningService.objects.get(name="lab"), "/services/lab/history/") == []
    assert found(Role.VIEWER, world.service, "/services/plant/history/") == []


@pytest.mark.parametrize("role", list(Role))
def test_whoever_tried_sees_nothing_of_it_anywhere(world, role):
    who = signed_in_as(role, a_service("lab"), "stranger")
    for address in OF_SERVICE:
        who.client.post(world.url(address))
    assert HistoryEvent.objects.filter(service_name="plant", actor_name="stranger").count() > 40
    own = {**world.values, "service_name": "lab"}
    here = World(world.service, world.ca, world.keyed, world.group, own)

    for address in ADDRESSES:
        for query in ({}, {"actor": "user:stranger"}, {"event": "action.refused", "format": "jsonl"}):
            url = here.url(address, query)
            answer = who.client.get(url)
            content = b"".join(answer.streaming_content) if answer.streaming else answer.content
            assert "/services/plant/" not in content.decode("utf-8", "replace"), url


def test_whoever_has_a_role_everywhere_only_mistyped_the_name(world):
    client, before = signed_in_as(Role.VIEWER, None).client, newest()

    assert client.post(ACT.format("nowhere")).status_code == 404
    assert rows_since(before) == []


def test_looking_is_no_attempt_at_an_act(world, stranger):
    before = newest()

    assert {stranger.get(ACT.format(name)).status_code for name in ("plant", "nowhere")} == {404}
    assert rows_since(before) == []


def test_whoever_lost_their_role_is_a_stranger(world):
    a_user(Role.ADMINISTRATOR)
    who = signed_in_as(Role.OPERATOR, world.service)
    set_role(who.user.username, None, service=world.service, actor=ALICE)
    before = newest()

    assert who.client.post(ACT.format("plant")).status_code == 404
    assert rows_since(before) == ["action.refused"]
