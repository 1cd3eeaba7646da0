"""Where the key of the installation does not fit what is stored: the forms of entries open, and can shut out (R16)."""

import pytest
from cryptography.fernet import Fernet

from enrollments.models import HistoryEvent
from enrollments.policy.roles import Role
from tests.certificates import root
from tests.devices import enroll_ca, enroll_key_group, enroll_keys
from tests.factories import a_service, a_user, an_individual
from tests.portal.entry_forms import entry_form, group_form, page, post, post_once

pytestmark = pytest.mark.django_db
HOOK = "https://hooks.example/pick?code=s3cr3tcode"


def with_keys(service):
    return enroll_keys(service, "a"), "enrollments/i/a/", entry_form


def with_group_keys(service):
    return enroll_key_group(service, "a"), "groups/g/a/", group_form


def with_webhook(service):
    entry = an_individual(service, "a", allocation_policy="custom", webhook_url=HOOK)
    return entry, "enrollments/i/a/", entry_form


@pytest.fixture
def service():
    return a_service()


@pytest.fixture(params=[with_keys, with_group_keys, with_webhook])
def edited(request, client, service, settings):
    """The entry, the path of its form, and the form as it stands on that page."""
    settings.DPS_WEBHOOK_HOSTS = ["hooks.example"]
    entry, path, form = request.param(service)
    client.force_login(a_user(Role.OPERATOR, service))
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()
    shown = {
        "mechanism": entry.mechanism,
        "allocation_policy": entry.allocation_policy,
        "webhook_url": entry.webhook_url,
        "expected_etag": entry.etag,
    }
    return entry, path, form(**shown)


def now(entry):
    return type(entry).objects.without_secrets().get()


def test_the_form_opens(client, edited):
    entry, path, _form = edited

    text = page(client, path)

    assert entry.etag in text
    assert ("A key is held with this address" in text) is bool(entry.webhook_url)


def test_it_disables(client, edited):
    entry, path, form = edited

    answer = post_once(client, path, {**form, "enabled": "no", "reason": "stolen"})

    assert answer.status_code == 302
    assert not now(entry).enabled
    row = HistoryEvent.objects.latest("pk")
    assert (row.reason, row.after) == ("stolen", {"status": "disabled"})


def test_the_keys_of_a_predecessor_are_in_the_way_of_nothing(client, service, settings):
    group = enroll_ca(service, root("Plant CA"), "a", predecessor=enroll_key_group(service, "old"))
    client.force_login(a_user(Role.OPERATOR, service))
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()
    assert group.etag in page(client, "groups/g/a/")
    form = group_form(mechanism=group.mechanism, expected_etag=group.etag, predecessor="old")

    answer = post_once(client, "groups/g/a/", {**form, "enabled": "no", "reason": "stolen"})

    assert answer.status_code == 302
    left = service.enrollmentgroups.without_secrets().by_group_id("a")
    assert (left.enabled, left.predecessor_name) == (False, "old")
    assert HistoryEvent.objects.latest("pk").after == {"status": "disabled"}


def test_what_reaches_nobody_is_saved(client, edited):
    entry, path, form = edited

    answer = post_once(client, path, {**form, "initial_twin": '{"tags": {"line": 9}}'})

    assert answer.status_code == 302
    assert now(entry).initial_twin["tags"] == {"line": 9}


def test_what_may_let_somebody_in_waits_for_the_key_and_says_so(client, edited):
    """Its preview cannot be worked out, and nothing is let in on a guess."""
    entry, path, form = edited
    post_once(client, path, {**form, "enabled": "no"})

    answer = post(client, path, {**form, "enabled": "yes", "expected_etag": now(entry).etag})

    assert answer.status_code == 503
    assert "cannot be decrypted" in answer.text_shown
    assert not now(entry).enabled
