"""Pages of access policies and API tokens: keys are seen once or on record, and everything works without script."""

import re

import pytest

from enrollments.actions.access_policies import add_policy
from enrollments.actions.api_tokens import add_api_token
from enrollments.actions.people import remove_person
from enrollments.actions.services import change_settings
from enrollments.models import AccessPolicy, ApiToken, HistoryEvent, ProvisioningService
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from tests.devices import ALICE, new_service
from tests.factories import a_user
from tests.tables import refused_rows

URL = "/services/plant/policies/"
TOKENS = "/services/plant/tokens/"
NEW = {"name": "fleet-sync", "rights": ["EnrollmentRead", "EnrollmentWrite"], "reason": "nightly job"}


@pytest.fixture
def policy(plant: ProvisioningService) -> AccessPolicy:
    return add_policy(plant, "fleet-sync", [AccessRight.ENROLLMENT_READ], actor=ALICE)


def text(answer):
    return answer.content.decode()


def last_row():
    return HistoryEvent.objects.latest("pk")


def changed(policy, **values):
    policy.refresh_from_db()
    return {"rights": policy.rights, "enabled": "on", "version": policy.etag, **values}


def test_a_policy_is_added_and_its_keys_are_shown_this_once(admin, plant, settings):
    settings.DPS_DEVICE_BIND = "dps.example:443"
    answer = admin.post(f"{URL}add/", NEW)

    policy = plant.access_policies.get(name="fleet-sync")
    assert answer.status_code == 200
    for key in (policy.primary_key, policy.secondary_key):
        assert key in text(answer)
        assert key not in text(admin.get(f"{URL}p/fleet-sync/"))
    connection = f"HostName=dps.example;SharedAccessKeyName=fleet-sync;SharedAccessKey={policy.primary_key}"
    assert connection in text(answer)
    assert (last_row().event, last_row().reason) == ("policy.added", "nightly job")


@pytest.mark.parametrize(
    ("entered", "sentence"),
    [
        ({"name": "ProvisioningServiceOwner"}, "already exists"),
        ({"name": "a b"}, "Use letters, digits"),
        ({"rights": []}, "Choose at least one right."),
        ({"rights": ["Everything"]}, "Select a valid choice."),
    ],
)
def test_a_policy_is_not_added(admin, plant, entered, sentence):
    answer = admin.post(f"{URL}add/", {**NEW, **entered})

    assert answer.status_code == 422
    assert sentence in text(answer)
    assert plant.access_policies.count() == 1


def test_a_policy_is_disabled_and_enabled(admin, policy):
    admin.post(f"{URL}p/fleet-sync/", changed(policy, enabled=""))
    policy.refresh_from_db()
    assert (policy.enabled, last_row().event) == (False, "policy.disabled")
    assert "Disabled" in text(admin.get(URL))

    admin.post(f"{URL}p/fleet-sync/", changed(policy, rights=["ServiceConfig"]))
    policy.refresh_from_db()
    assert (policy.enabled, policy.rights) == (True, ["ServiceConfig"])


def test_a_change_on_an_older_page_is_shown_what_holds_now(admin, policy):
    entered = changed(policy, enabled="")
    admin.post(f"{URL}p/fleet-sync/", changed(policy, rights=["ServiceConfig"]))

    answer = admin.post(f"{URL}p/fleet-sync/", entered)

    assert answer.status_code == 409
    assert "changed by somebody else" in text(answer)
    policy.refresh_from_db()
    assert policy.enabled


@pytest.mark.parametrize("script", [False, True], ids=["page", "fragment"])
def test_keys_are_shown_to_whoever_says_so_and_that_is_recorded(admin, policy, script):
    headers = {"HX-Request": "true"} if script else {}

    answer = admin.post(f"{URL}p/fleet-sync/keys/", headers=headers)

    assert policy.primary_key in text(answer)
    assert ("<html" in text(answer)) is not script
    assert (last_row().event, last_row().subject_name) == ("keys.revealed", "fleet-sync")


@pytest.mark.parametrize("which", ["primary", "secondary"])
def test_one_key_is_replaced_and_the_other_is_not_shown(admin, policy, which):
    former = {name: getattr(policy, f"{name}_key") for name in ("primary", "secondary")}
    assert f"new {which} key" in text(admin.get(f"{URL}p/fleet-sync/new/{which}/"))

    answer = text(admin.post(f"{URL}p/fleet-sync/new/{which}/", {"reason": "leaked"}))

    policy.refresh_from_db()
    now = {name: getattr(policy, f"{name}_key") for name in former}
    assert [name for name in former if former[name] != now[name]] == [which]
    assert now[which] in answer
    assert not [key for key in former.values() if key in answer]
    assert (last_row().event, last_row().reason) == ("policy.key_regenerated", "leaked")


def test_a_policy_is_deleted_once_it_is_disabled(admin, policy, plant):
    refused = admin.post(f"{URL}p/fleet-sync/delete/", follow=True)
    assert "disable it first" in text(refused)

    admin.post(f"{URL}p/fleet-sync/", changed(policy, enabled=""))
    admin.post(f"{URL}p/fleet-sync/delete/")

    assert not plant.access_policies.filter(name="fleet-sync").exists()


def test_what_is_not_there(admin, policy, plant):
    for path in ("p/nobody/", "p/nobody/delete/", "p/fleet-sync/new/third/"):
        assert admin.get(f"{URL}{path}").status_code == 404
    assert admin.post(f"{URL}p/nobody/keys/").status_code == 404


def test_switched_off_keys_are_said_on_the_list(admin, plant):
    assert "switched off" not in text(admin.get(URL))

    change_settings(plant, {"shared_access_keys": False}, actor=ALICE)

    assert "switched off" in text(admin.get(URL))


def test_among_several_services_the_overview_says_what_is_missing(admin, plant, settings):
    settings.DPS_DEVICE_BIND = "0.0.0.0:8443"
    assert "https://testserver:8443" in text(admin.get("/services/plant/"))

    new_service("lab")
    assert "this one has no host name" in text(admin.get("/services/plant/"))

    change_settings(plant, {"host_name": "Plant.example"}, actor=ALICE)
    assert "https://plant.example:8443" in text(admin.get("/services/plant/"))


def test_a_token_is_made_and_shown_this_once(client, plant):
    client.force_login(a_user(Role.VIEWER, plant))
    offered = text(client.get(f"{TOKENS}add/"))

    answer = text(
        client.post(f"{TOKENS}add/", {"name": "laptop", "rights": ["EnrollmentRead"], "days": "30"})
    )

    (token,) = re.findall(r"dpst_[\w-]+", answer)
    assert "EnrollmentRead" in offered
    assert "EnrollmentWrite" not in offered
    assert token not in text(client.get(TOKENS))
    assert ApiToken.objects.get().hint in text(client.get(TOKENS))
    assert last_row().event == "token.added"


def test_a_right_beyond_the_role_is_not_taken(client, plant):
    client.force_login(a_user(Role.VIEWER, plant))

    answer = client.post(f"{TOKENS}add/", {"name": "x", "rights": ["EnrollmentWrite"], "days": "30"})

    assert answer.status_code == 422
    assert "does not reach as far as EnrollmentWrite" in text(answer)
    assert not ApiToken.objects.exists()
    row = last_row()
    assert (row.event, row.actor_name, row.service_id) == ("action.refused", "some-viewer", plant.pk)
    assert row.subject_name == "an API token that opens more than their role: EnrollmentWrite"


@pytest.mark.parametrize(
    "form",
    [
        {"name": "x", "rights": ["Everything"], "days": "30"},
        {"name": "x", "rights": ["EnrollmentRead"], "days": "0"},
        {"name": "", "rights": [], "days": "30"},
    ],
)
def test_form_that_was_filled_in_wrongly_is_no_refused_act(client, plant, form):
    client.force_login(a_user(Role.VIEWER, plant))

    assert client.post(f"{TOKENS}add/", form).status_code == 422
    assert last_row().event != "action.refused"


def test_each_try_to_revoke_what_is_not_ones_own_is_told_whatever_there_is(client, plant):
    """Whether there is such a token is not to be read from one's own rows."""
    bob = a_user(Role.VIEWER, plant, "bob")
    token, _ = add_api_token(plant, bob, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    client.force_login(a_user(Role.OPERATOR, plant))
    numbers = [token.pk, token.pk, token.pk + 1]

    for number in numbers:
        assert client.post(f"{TOKENS}revoke/?token={number}", {"reason": "mine now"}).status_code == 302

    rows = refused_rows()
    assert [row.subject_name for row in rows] == [
        f"POST {TOKENS}revoke/?token={number}" for number in numbers
    ]
    assert {(row.actor_name, row.service_id, row.subject_kind) for row in rows} == {
        ("some-operator", plant.pk, "action")
    }


def test_looks_at_what_is_not_ones_own_to_revoke_are_added_up(client, plant):
    bob = a_user(Role.VIEWER, plant, "bob")
    token, _ = add_api_token(plant, bob, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    client.force_login(a_user(Role.OPERATOR, plant))

    for number in (token.pk, token.pk + 1, token.pk + 2):
        client.get(f"{TOKENS}revoke/?token={number}")

    (row,) = refused_rows()
    assert row.subject_name == f"GET {TOKENS}revoke/"


def test_who_administers_and_who_names_no_token_is_refused_nothing(client, admin, plant):
    admin.post(f"{TOKENS}revoke/?token=4711")
    client.force_login(a_user(Role.VIEWER, plant, "vera"))
    client.post(f"{TOKENS}revoke/?token=x")
    client.post(f"{TOKENS}revoke/")

    assert refused_rows() == []


@pytest.mark.parametrize(
    ("role", "may_revoke"), [(Role.VIEWER, False), (Role.OPERATOR, False), (Role.ADMINISTRATOR, True)]
)
def test_tokens_of_others_are_for_administrators(client, plant, role, may_revoke):
    bob = a_user(Role.VIEWER, plant, "bob")
    token, _ = add_api_token(plant, bob, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    client.force_login(a_user(role, plant))

    assert ("laptop" in text(client.get(TOKENS))) is may_revoke
    client.post(f"{TOKENS}revoke/?token={token.pk}")

    assert ApiToken.objects.exists() is not may_revoke


def test_ones_own_token_is_revoked_after_a_question(client, plant):
    bob = a_user(Role.VIEWER, plant, "bob")
    token, _ = add_api_token(plant, bob, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    client.force_login(bob)

    assert "Revoke API token laptop" in text(client.get(f"{TOKENS}revoke/?token={token.pk}"))
    client.post(f"{TOKENS}revoke/?token={token.pk}", {"reason": "lost"})

    assert not ApiToken.objects.exists()
    assert (last_row().event, last_row().reason) == ("token.revoked", "lost")


def test_revoking_ones_own_token_twice_is_refused_nothing(client, plant):
    bob = a_user(Role.VIEWER, plant, "bob")
    token, _ = add_api_token(plant, bob, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    client.force_login(bob)
    client.post(f"{TOKENS}revoke/?token={token.pk}", {"reason": "lost"})
    seen = HistoryEvent.objects.count()

    for ask in (client.post, client.get):
        answer = ask(f"{TOKENS}revoke/?token={token.pk}", follow=True)
        assert "API token laptop was revoked already: nothing was changed." in text(answer)

    assert HistoryEvent.objects.count() == seen
    client.force_login(a_user(Role.OPERATOR, plant))
    client.post(f"{TOKENS}revoke/?token={token.pk}")
    assert [row.actor_name for row in refused_rows()] == ["some-operator"]


def test_a_token_of_a_former_person_of_the_same_name_is_not_ones_own(client, plant):
    former = a_user(Role.VIEWER, plant, "bob")
    token, _ = add_api_token(plant, former, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    a_user(Role.ADMINISTRATOR, username="root")
    remove_person("bob", actor=ALICE)
    client.force_login(a_user(Role.VIEWER, plant, "bob"))

    answer = client.post(f"{TOKENS}revoke/?token={token.pk}", follow=True)

    assert "There is no such token, or it is not yours to revoke." in text(answer)
    assert len(refused_rows()) == 1


def test_who_administers_and_was_second_to_revoke_a_token_is_told(client, admin, plant):
    bob = a_user(Role.VIEWER, plant, "bob")
    token, _ = add_api_token(plant, bob, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    client.force_login(bob)
    client.post(f"{TOKENS}revoke/?token={token.pk}")

    answer = admin.post(f"{TOKENS}revoke/?token={token.pk}", follow=True)

    assert "API token laptop was revoked already" in text(answer)


@pytest.mark.parametrize("number", ["", "x", "0", "9" * 30, "١"])
def test_revoking_what_is_no_token_says_so(admin, number):
    assert "no such token" in text(admin.get(f"{TOKENS}revoke/?token={number}", follow=True))
