"""Every address of the portal, for every role: who gets in, who does not, what both leave (R1, R15, R17)."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from enrollments.models import HistoryEvent, ProvisioningService, RegistrationRecord
from enrollments.policy.roles import Right, Role
from enrollments.transfer import work
from tests.factories import a_service, a_user
from tests.portal.addresses import ADDRESSES, Address
from tests.portal.real_requests import GETS, ONLY_SHOW, POSTS, Request, request_of
from tests.portal.world import Somebody, World, a_world, signed_in_as
from tests.tables import changed_tables, tables

WITHOUT_SIGNING_IN = {"sign-in"}
# Addresses where whoever sees an object finds it, and where saving it asks for more than seeing.
SAVING = {"enrollment-edit": Right.CHANGE_ENTRIES, "group-edit": Right.CHANGE_ENTRIES}
# Who may not see the history sees there what they did themselves (R17), and nothing else is there for them: all rows
# of this world are of others.
ONES_OWN = {"history-row", "installation-history-row"}
# The history itself, and who is signed in.
BOOKS = {
    "HistoryEvent",
    "UnsealedEvent",
    "HistorySeal",
    "HistoryCheckpoint",
    "CheckpointDelivery",
    "Session",
    "RefusedAgain",
}

PROTECTED = [one for one in ADDRESSES if one.right is not None]
OF_SERVICE = [one for one in PROTECTED if one.of_service]
METHODS = ("GET", "POST")
# Where somebody has their role: in the service, or in the whole installation.
HERE, EVERYWHERE = "here", "everywhere"


def each(addresses: list[Address]) -> Any:
    return pytest.mark.parametrize("address", [pytest.param(one, id=one.name) for one in addresses])


def right_for(address: Address, method: str) -> Right | None:
    return SAVING.get(address.name, address.right) if method == "POST" else address.right


def may(address: Address, method: str, role: Role, place: str) -> bool:
    right = right_for(address, method)
    return right is None or (right in role.rights and (address.of_service or place == EVERYWHERE))


def everybody(address: Address, method: str, *, allowed: bool) -> Iterator[tuple[Role, str]]:
    for role in Role:
        for place in (HERE, EVERYWHERE):
            if may(address, method, role, place) is allowed:
                yield role, place


DEEDS = [
    pytest.param(address, method, role, place, id=f"{method}-{address.name}-{role}-{place}")
    for method, table in (("GET", GETS), ("POST", POSTS))
    for address in ADDRESSES
    if address.name in table
    for role, place in everybody(address, method, allowed=True)
]


@pytest.fixture
def world(db: None, monkeypatch: pytest.MonkeyPatch) -> World:
    # What a thread does otherwise.
    monkeypatch.setattr("enrollments.portal.views.imports.work_in_background", work.work_on)
    return a_world()


def signed_in(world: World, role: Role, place: str) -> Somebody:
    return signed_in_as(role, world.service if place == HERE else None, f"{role}-{place}")


def rows_since(pk: int) -> list[str]:
    rows = HistoryEvent.objects.filter(pk__gt=pk).order_by("pk")
    return list(rows.values_list("event", flat=True))


def newest() -> int:
    return HistoryEvent.objects.latest("pk").pk


def sent(request: Request, client: Client) -> int:
    answer = request.sent_by(client)
    if answer.streaming:
        b"".join(answer.streaming_content)
    return answer.status_code


def test_addresses_are_found_and_named_once():
    names = [one.name for one in ADDRESSES]

    assert len(names) > 40
    assert len(names) == len(set(names))


@each(ADDRESSES)
def test_every_view_declares_its_right(address):
    assert address.declares


def test_what_needs_no_right_is_known():
    free = {one.name for one in ADDRESSES if one.right is None}

    assert free == {"sign-in", "sign-out", "account", "own-password", "service-list"}


def test_what_every_address_does_when_something_is_sent_to_it_is_known(world):
    """A new address needs a request that does what it is for, or a reason why it never does anything."""
    who, takes = signed_in_as(Role.VIEWER, a_service("lab")), set()
    for address in ADDRESSES:
        who.client.force_login(who.user)
        if who.client.post(world.url(address)).status_code != 405:
            takes.add(address.name)

    assert takes == {*POSTS, *ONLY_SHOW}
    assert {*GETS} <= {one.name for one in ADDRESSES}
    assert not {*POSTS} & {*ONLY_SHOW}
    # Where something is taken along, a GET does that as well; without its query it would only say what is missing.
    assert {one.name for one in ADDRESSES if one.right is Right.EXPORT} <= {*GETS, *POSTS}


@each([one for one in ADDRESSES if one.name not in WITHOUT_SIGNING_IN])
def test_anonymous_is_sent_to_sign_in(address, world, client):
    url, before = world.url(address), newest()

    for answer in (client.get(url), client.post(url)):
        assert answer.status_code == 302
        assert answer["Location"].startswith(reverse("portal:sign-in"))
    assert rows_since(before) == []


@pytest.mark.parametrize(("address", "method", "role", "place"), DEEDS)
def test_r15_r17_what_a_role_allows_is_done_and_leaves_its_rows(world, address, method, role, place):
    who = signed_in(world, role, place)
    request = request_of(world, address, method, who)
    expected = {"GET": GETS, "POST": POSTS}[method][address.name]
    before, rows = tables(), newest()

    status = sent(request, who.client)

    assert status in (200, 302)
    assert rows_since(rows) == list(expected.rows)
    changed = changed_tables(before)
    assert set(expected.changes) <= changed
    if not expected.changes:
        assert changed <= BOOKS


@each(PROTECTED)
def test_r15_r17_what_a_role_does_not_allow_changes_nothing_and_leaves_one_row(world, address):
    administrator = signed_in_as(Role.ADMINISTRATOR, None, "anna")
    for method in METHODS:
        # What would do it, if they were allowed to.
        request = request_of(world, address, method, administrator)
        for role, place in everybody(address, method, allowed=False):
            who = signed_in_as(role, world.service if place == HERE else None, f"{method}-{role}-{place}")
            before, rows = tables(), newest()

            status = sent(request, who.client)

            # 405: the address only shows something, or only does, so nothing was attempted.
            assert status in (403, 405)
            assert rows_since(rows) == ["action.refused"] * (status == 403)
            assert changed_tables(before) <= BOOKS


@each(ADDRESSES)
def test_r15_r17_what_only_shows_is_shown_to_whom_their_role_allows_and_leaves_no_row(world, address):
    for method in METHODS:
        if address.name in {"GET": {*GETS}, "POST": {*POSTS}}[method]:
            continue
        request = Request(method, world.url(address), {})
        for role, place in everybody(address, method, allowed=True):
            who = signed_in_as(role, world.service if place == HERE else None, f"{method}-{role}-{place}")
            before, rows = tables(), newest()

            status = sent(request, who.client)

            own = address.name in ONES_OWN and Right.SEE_HISTORY not in role.rights
            assert status in {404, 405} if own else status not in {403, 404, 500}
            assert rows_since(rows) == ["action.refused"] * (status == 404)
            assert changed_tables(before) <= BOOKS


@each(OF_SERVICE)
def test_r1_service_of_others_is_not_there(address, world):
    lab = a_service("lab")
    for role in Role:
        client = signed_in_as(role, lab).client
        for method in METHODS:
            assert sent(Request(method, world.url(address), {}), client) in {404, 405}


@each(PROTECTED)
def test_head_is_refused_as_get_is(address, world):
    """And is the same look: of both together there is one row."""
    if may(address, "GET", Role.VIEWER, HERE):
        return
    client, url, before = signed_in_as(Role.VIEWER, world.service).client, world.url(address), newest()

    statuses = {client.head(url).status_code, client.get(url).status_code, client.head(url).status_code}

    assert statuses in ({403}, {405})
    assert rows_since(before) == ["action.refused"] * (statuses == {403})


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("/history/", "see what services hold, in the whole installation."),
        ("/people/", "administer hubs, settings and people, in the whole installation."),
        ("/services/plant/attempts/", "see history, attempts and explanations."),
        ("/services/plant/policies/", "administer hubs, settings and people."),
    ],
)
def test_refusal_says_what_is_missing_in_words(world, path, missing):
    client = signed_in_as(Role.VIEWER, world.service).client

    sentence = f"Your role does not allow this; it needs the right to {missing}"

    assert sentence in client.get(path).content.decode()


def test_each_right_has_words():
    assert all(right.in_words and "_" not in right.in_words for right in Right)
    assert len({right.in_words for right in Right}) == len(Right)


def test_address_that_only_takes_forms_shows_a_page_that_leads_above(world):
    """Enter in the address bar, after a form was answered by a page, leads there."""
    client, shown = signed_in_as(Role.ADMINISTRATOR, None).client, 0
    for url in (world.url(one) for one in ADDRESSES if one.name not in GETS):
        before = newest()
        answer, head = client.get(url), client.head(url)
        if answer.status_code != 405:
            continue
        text, shown = answer.content.decode(), shown + 1
        (above,) = re.findall(r'<a class="btn btn-primary" href="([^"]+)"', text)

        assert "This address only takes what a form sends." in text
        assert (answer["Allow"], head.status_code, head["Allow"]) == ("POST", 405, "POST")
        assert url.startswith(above)
        assert client.get(above).status_code == 200
        assert rows_since(before) == []
        assert client.put(url).content == b""
    assert shown > 30


def test_r15_refusal_names_who_tried_what(world):
    client = signed_in_as(Role.VIEWER, world.service).client

    client.post(f"/services/plant/registrations/{world.values['registration_id']}/deny/")

    row = HistoryEvent.objects.get(event="action.refused")
    assert (row.actor_name, row.subject_kind, row.subject_name, row.service_name, row.after) == (
        "some-viewer",
        "refused:RegistrationRecord",
        "keyed-001",
        "plant",
        {"tried": "POST /services/plant/registrations/keyed-001/deny/"},
    )


def test_r15_page_that_is_loaded_again_and_again_leaves_one_row(world):
    client = signed_in_as(Role.VIEWER, world.service).client

    for number in range(20):
        assert client.get("/services/plant/attempts/", {"q": number}).status_code == 403

    row = HistoryEvent.objects.get(event="action.refused")
    assert (row.subject_name, row.service_name) == ("GET /services/plant/attempts/", "plant")


def test_r17_person_without_a_role_sees_no_service(world):
    client = signed_in_as(Role.VIEWER, world.service).client
    ProvisioningService.objects.get(name="plant").memberships.all().delete()

    assert client.get("/services/plant/").status_code == 404
    assert "plant" not in client.get("/").content.decode()


def test_r17_person_who_was_deactivated_is_out_with_the_next_request(world, django_user_model):
    client = signed_in_as(Role.VIEWER, world.service).client
    assert client.get("/services/plant/").status_code == 200

    django_user_model.objects.filter(username="some-viewer").update(is_active=False)

    assert client.get("/services/plant/").status_code == 302


def test_post_without_csrf_token_is_refused(world):
    client = Client(enforce_csrf_checks=True)
    client.force_login(a_user(Role.ADMINISTRATOR, world.service))

    assert client.post("/services/plant/registrations/keyed-001/delete/").status_code == 403
    assert RegistrationRecord.objects.filter(registration_id="keyed-001").exists()
