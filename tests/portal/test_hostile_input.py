"""What strangers and stale pages send: a clear answer, nothing changed, never a 500."""

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import User

from enrollments.actions.enrollment_groups import change_enrollment_group
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.hubs import HubSpec, link_hub
from enrollments.actions.people import add_person, remove_person
from enrollments.models import (
    EnrollmentGroup,
    IndividualEnrollment,
    LinkedHub,
    ProvisioningService,
    Slot,
)
from enrollments.policy.roles import Role
from enrollments.portal import entry_choosing
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_keys, new_service

pytestmark = pytest.mark.django_db
BASE = "/services/plant/"


def signed_in(client, role: Role, name: str = "someone"):
    user, _ = add_person(name, role=role, service=None, actor=ALICE)
    client.force_login(user)
    client.raise_request_exception = False
    return client


@pytest.fixture
def admin(client, service):
    return signed_in(client, Role.ADMINISTRATOR)


@pytest.mark.parametrize(
    "path",
    [
        "enrollments/i/%00/",
        "groups/g/%00/",
        "registrations/%00/",
        "hubs/1/devices/%00/",
        "attempts/?q=%00",
        "enrollments/?q=%00",
    ],
)
def test_nul_in_an_address_is_a_bad_request(admin, path):
    assert admin.get(BASE + path).status_code == 400


@pytest.mark.parametrize("path", ["/people/p/%00/", "/people/?q=%00"])
def test_nul_in_an_address_of_people_is_a_bad_request(admin, path):
    assert admin.get(path).status_code == 400


@pytest.mark.parametrize("page", ["attempts/", "registrations/", "history/", "enrollments/?sort=created&"])
@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "x", ""])
def test_place_in_a_list_that_does_not_exist_is_the_first_page(admin, page, moment):
    separator = "" if "?" in page else "?"

    assert admin.get(f"{BASE}{page}{separator}after={moment}~1").status_code == 200


@pytest.mark.parametrize("path", ["hubs/{}/", "hubs/{}/devices/x/", "attempts/{}/"])
def test_row_number_beyond_every_database_is_not_found(admin, path):
    assert admin.get(BASE + path.format("9" * 30)).status_code == 404


@pytest.mark.parametrize(
    "wanted", ["foo", "?", "#", "portal:sign-in", "//evil.example/", "https://evil.example/", "/ok/"]
)
def test_sign_in_leads_to_our_own_addresses_only(client, wanted):
    _, password = add_person("someone", role=Role.VIEWER, service=None, actor=ALICE)
    form = {"username": "someone", "password": password, "next": wanted}

    answers = [
        client.get("/sign-in/", {"next": wanted}),
        client.post("/sign-in/", form),
        client.get("/sign-in/", form),
    ]

    assert [answer.status_code for answer in answers] == [200, 302, 302]
    assert {answer["Location"] for answer in answers[1:]} == {"/ok/" if wanted == "/ok/" else "/"}


def test_what_was_posted_without_a_session_is_not_where_sign_in_returns_to(client, service):
    assert client.post(f"{BASE}enrollments/delete/")["Location"] == "/sign-in/"
    assert client.get(f"{BASE}enrollments/")["Location"].endswith(f"?next={BASE}enrollments/")


def test_hub_that_an_entry_chooses_cannot_be_unlinked(admin, service):
    """Without it the entry would choose none, and that means all."""
    hub = link_hub(service, HubSpec(name="eu", host_name="eu.example"), actor=ALICE)
    enroll_ca(service, root("Root A"), "pinned", hubs=(hub,))

    answer = admin.post(f"{BASE}hubs/{hub.pk}/unlink/", {"reason": ""}, follow=True)

    assert b"group pinned" in answer.content
    assert LinkedHub.objects.filter(pk=hub.pk).exists()


def test_stale_click_does_not_let_in_what_was_put_there_since(admin, service):
    group = enroll_ca(service, root("Root A"), "plant-7", enabled=False)
    seen = ProvisioningService.epoch_of(service.pk)
    spec = GroupSpec(certificates={Slot.PRIMARY: root("Root B").parsed}, enabled=False)
    change_enrollment_group(service, "plant-7", spec, expected_etag=group.etag, actor=ALICE)

    stale = admin.post(f"{BASE}groups/g/plant-7/enable/", {"epoch": seen})
    shown = EnrollmentGroup.objects.get()
    now = ProvisioningService.epoch_of(service.pk)
    fresh = admin.post(f"{BASE}groups/g/plant-7/enable/", {"epoch": now})

    assert (stale.status_code, shown.enabled) == (409, False)
    assert (fresh.status_code, EnrollmentGroup.objects.get().enabled) == (302, True)


def test_deletion_that_was_outrun_while_it_waited_for_the_lock_deletes_nothing(admin, service, monkeypatch):
    group = enroll_ca(service, root("Root A"), "plant-7")
    url = f"{BASE}groups/delete/?entry={group.pk}"
    epoch = ProvisioningService.epoch_of(service.pk)
    really = entry_choosing.carry_out

    def outrun(*args, **kwargs):
        service.raise_epoch()
        return really(*args, **kwargs)

    monkeypatch.setattr(entry_choosing, "carry_out", outrun)
    answer = admin.post(url, {"epoch": epoch, "reason": ""})

    assert (answer.status_code, answer["Location"]) == (302, url)
    assert EnrollmentGroup.objects.exists()


def test_what_is_gone_already_is_said_to_be_gone(admin, service):
    answer = admin.post(f"{BASE}groups/delete/?entry=4711", {"epoch": 0}, follow=True)

    assert b"gone already" in answer.content


@pytest.mark.parametrize("way", ["get", "post"])
def test_r16_entry_is_disabled_without_the_key_that_decrypts_its_keys(admin, service, settings, way):
    enroll_keys(service, "key-1")
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()

    answer = getattr(admin, way)(f"{BASE}enrollments/i/key-1/disable/")

    assert answer.status_code == (200 if way == "get" else 302)
    assert IndividualEnrollment.objects.filter(enabled=False).exists() is (way == "post")


def test_r16_keys_that_cannot_be_read_are_said_to_be_so(admin, service, settings):
    enroll_keys(service, "key-1")
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()

    answer = admin.post(f"{BASE}enrollments/i/key-1/keys/")

    assert answer.status_code == 503
    assert b"DPS_ENCRYPTION_KEY" in answer.content


def test_r17_viewer_does_not_inherit_the_rows_of_a_former_person_of_that_name(client, service):
    add_person("root", role=Role.ADMINISTRATOR, service=None, actor=ALICE)
    enroll_ca(service, root("Root A"), enabled=False)
    former = signed_in(client, Role.OPERATOR, "reuse")
    former.post(f"{BASE}groups/g/root-a/enable/")
    own = former.get(f"{BASE}history/").content.decode()
    remove_person("reuse", actor=ALICE)

    viewer = signed_in(client, Role.VIEWER, "reuse")
    inherited = viewer.get(f"{BASE}history/").content.decode()

    assert "root-a" in own
    assert "root-a" not in inherited


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "ａｄｍｉｎ", "É", "ADMİN", "a b", "a/b", "x" * 151])
def test_name_that_could_be_mistaken_is_refused(admin, name):
    answer = admin.post("/people/add/", {"username": name, "role": "viewer", "where": ""})

    assert answer.status_code == 422
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    "host", ["ev il", "a..b", "-a.example", "a_b", "x;drop", "hub\u202e.example", "hub.example/"]
)
def test_host_name_that_is_none_is_refused(admin, service, host):
    form = {"name": "another", "host_name": host, "allocation_weight": 1, "latency_ms": 0}

    assert admin.post(f"{BASE}hubs/add/", form).status_code == 422
    assert LinkedHub.objects.count() == 1


def test_r1_host_name_of_another_service_is_not_told(admin, service):
    ProvisioningService.objects.filter(pk=new_service("other").pk).update(host_name="secret.example")

    page = admin.get(f"{BASE}settings/").content.decode()
    version = page.split('name="version" value="')[1].split('"')[0]
    form = {
        "host_name": "secret.example",
        "allocation_policy": "hashed",
        "retry_after_seconds": 3,
        "longest_retry_after_seconds": 300,
        "device_registrations_per_minute": 12,
        "registrations_per_minute": 10000,
        "attempts_kept_days": 30,
        "version": version,
    }
    answer = admin.post(f"{BASE}settings/change/", form)

    assert answer.status_code == 422
    assert "cannot be used: choose another" in answer.content.decode()
    assert "already exists" not in answer.content.decode()
