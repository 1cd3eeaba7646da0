"""The webhook of an entry in the form: address, key and API version; the key is never shown (contract 7.3)."""

import pytest

from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import add_individual_enrollment
from enrollments.models import AttestationMechanism, IndividualEnrollment
from enrollments.policy.roles import Role
from tests.certificates import root
from tests.devices import ALICE
from tests.factories import a_service, a_user
from tests.portal.entry_forms import HTMX, entry_form, events, group_form, page, post

pytestmark = pytest.mark.django_db

ADDRESS, SECRET = "https://hooks.example/choose", "code=a-key-that-nobody-may-read"
HELD = "A key is held with this address"


@pytest.fixture(autouse=True)
def _hosts(settings):
    settings.DPS_WEBHOOK_HOSTS = ["hooks.example"]


@pytest.fixture
def service():
    return a_service()


def custom_form(**changes):
    keys = {"mechanism": "symmetricKey", "registration_id": "pump-042"}
    return entry_form(**{**keys, "allocation_policy": "custom", "webhook_url": ADDRESS, **changes})


@pytest.fixture
def pump(service) -> IndividualEnrollment:
    spec = IndividualSpec(
        registration_id="pump-042",
        mechanism=AttestationMechanism.SYMMETRIC_KEY,
        allocation_policy="custom",
        webhook_url=f"{ADDRESS}?{SECRET}",
    )
    return add_individual_enrollment(service, spec, actor=ALICE)


def kept(service) -> tuple[str, str, str]:
    entry = service.individualenrollments.get()
    return entry.webhook_url, entry.webhook_query, entry.webhook_api_version


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({}, (ADDRESS, "", "2021-10-01")),
        ({"webhook_url": f"{ADDRESS}?{SECRET}"}, (ADDRESS, SECRET, "2021-10-01")),
        ({"webhook_api_version": "2019-03-31"}, (ADDRESS, "", "2019-03-31")),
        ({"allocation_policy": "hashed", "webhook_url": "nonsense"}, ("", "", "")),
    ],
)
def test_webhook_is_kept(operator, service, given, then):
    assert post(operator, "enrollments/add/", custom_form(**given)).status_code == 302

    assert kept(service) == then
    (row,) = events(service, "enrollment.added")
    assert row.after["webhook"] == then[0]
    assert SECRET not in str(row.after)


def test_webhook_of_a_group_is_kept(operator, service):
    webhook = {"allocation_policy": "custom", "webhook_url": f"{ADDRESS}?{SECRET}"}

    post(operator, "groups/add/", group_form(primary_pem=root("Plant 7").pem, **webhook))
    shown = page(operator, "groups/g/plant-7/")

    assert service.enrollmentgroups.get().webhook_query == SECRET
    assert (HELD in shown, SECRET in shown) == (True, False)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"webhook_url": ""}, "Give the URL of the webhook"),
        ({"webhook_url": "http://hooks.example/choose"}, "is called over HTTPS"),
        ({"webhook_url": "https://elsewhere.example/"}, "elsewhere.example is not among the hosts"),
        ({"webhook_url": "https://me@hooks.example/"}, "no user name"),
        ({"webhook_url": "https://hooks.example:x/"}, "cannot be read"),
        ({"webhook_api_version": "latest"}, "is a date such as 2021-10-01"),
    ],
)
def test_webhook_is_refused(operator, service, given, sentence):
    answer = post(operator, "enrollments/add/", custom_form(**given))

    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["webhook_url"])
    assert sentence in answer.text_shown
    assert not service.individualenrollments.exists()


def test_form_names_the_hosts_or_that_there_are_none(operator, settings):
    some = page(operator, "enrollments/add/")
    settings.DPS_WEBHOOK_HOSTS = []

    assert "Hosts that may be asked: hooks.example." in some
    assert "No host may be asked before DPS_WEBHOOK_HOSTS names it." in page(operator, "groups/add/")


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
@pytest.mark.parametrize("more", [{"initial_twin": "[]"}, {"preview": "1"}], ids=["mended", "previewed"])
def test_key_that_was_typed_does_not_come_back_and_the_field_says_so(operator, more, headers):
    data = custom_form(webhook_url=f"{ADDRESS}?{SECRET}", **more)

    answer = post(operator, "enrollments/add/", data, headers=headers)

    assert answer.status_code == 422
    assert "What stood behind ? is not shown again here" in answer.text_shown
    assert f'value="{ADDRESS}"' in answer.text_shown
    assert SECRET not in answer.text_shown


def test_without_a_key_there_is_nothing_to_say_about_one(operator):
    for form in (custom_form(initial_twin="[]"), entry_form(webhook_url="?x", initial_twin="[]")):
        assert "What stood behind" not in post(operator, "enrollments/add/", form).text_shown


# --- Editing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.ADMINISTRATOR])
def test_address_is_shown_without_its_key_and_the_form_says_that_one_is_held(client, service, pump, role):
    client.force_login(a_user(role, service))

    text = page(client, "enrollments/i/pump-042/")

    assert f'value="{ADDRESS}"' in text
    assert (HELD in text, SECRET in text) == (True, False)


def test_without_a_key_the_form_claims_none(operator, service):
    post(operator, "enrollments/add/", custom_form())

    assert HELD not in page(operator, "enrollments/i/pump-042/")


@pytest.mark.parametrize(
    ("given", "query"),
    [
        pytest.param(ADDRESS, SECRET, id="as it was shown: the key is kept"),
        pytest.param(f"{ADDRESS}?code=new", "code=new", id="with another key"),
        pytest.param(f"{ADDRESS}?", "", id="with ? alone: none"),
        pytest.param("https://hooks.example/other", "", id="another address: its key is not told to it"),
    ],
)
def test_key_is_kept_with_its_address(operator, service, pump, given, query):
    data = custom_form(webhook_url=given, expected_etag=pump.etag)

    assert post(operator, "enrollments/i/pump-042/", data).status_code == 302

    assert kept(service)[:2] == (given.partition("?")[0], query)
    assert SECRET not in str([(row.before, row.after) for row in events(service, "enrollment.changed")])


def test_another_policy_forgets_the_webhook(operator, service, pump):
    data = custom_form(allocation_policy="hashed", expected_etag=pump.etag)

    post(operator, "enrollments/i/pump-042/", data)

    assert kept(service) == ("", "", "")
