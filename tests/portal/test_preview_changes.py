"""Previews of settings and of CA certificates: each has a list with an address, pages, and an export."""

import csv
import html
import re

import pytest
from cryptography.fernet import Fernet

from enrollments.actions.ca_certificates import make_verification_code
from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.preview import limits
from enrollments.actions.schedule import as_text
from enrollments.actions.services import change_settings
from enrollments.models import CaCertificate, HistoryEvent, ProvisioningService
from enrollments.policy.roles import Role
from enrollments.portal import previews
from tests.certificates import root
from tests.devices import (
    ALICE,
    demand_proof,
    derived_key,
    enroll_ca,
    enroll_key_group,
    prove,
    register,
    signs,
    upload_ca,
)
from tests.factories import a_service, a_user
from tests.portal.test_settings import entered

pytestmark = pytest.mark.django_db
CA = root("Plant CA")
CHANGE = "/services/plant/settings/change/"


@pytest.fixture
def plant():
    """Three devices of a group with keys, and three below a CA of which nobody has proven to have the key."""
    service = a_service("plant")
    group = enroll_key_group(service, "line-9")
    enroll_ca(service, CA, "plant-7")
    for number in range(3):
        name = f"press-{number}"
        key = derived_key(group.primary_key, name)
        assert register(service, signs(service, name, key), name).outcome == "assigned"
        assert register(service, CA.leaf(f"pump-{number}")).outcome == "assigned"
    service.refresh_from_db()
    return service


@pytest.fixture
def admin(client, plant):
    client.force_login(a_user(Role.ADMINISTRATOR, plant))
    return client


def words(text):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())


def addresses(text):
    return [html.unescape(one) for one in re.findall(r'href="(/services/plant/preview/[^"]+)"', text)]


def state():
    return (
        list(ProvisioningService.objects.values()),
        list(CaCertificate.objects.values()),
        HistoryEvent.objects.exclude(event="exported").count(),
    )


def asked_to_let_keys_in(admin, plant):
    change_settings(plant, {"symmetric_key_groups": False}, actor=ALICE)
    plant.refresh_from_db()
    return admin.post(CHANGE, entered(plant, symmetric_key_groups="on"))


def asked_for_no_proof(admin, plant):
    demand_proof(plant)
    return admin.post(CHANGE, entered(plant, symmetric_key_groups="on"))


def asked_to_verify(admin, plant):
    demand_proof(plant)
    row = make_verification_code(plant, upload_ca(plant, CA).name, actor=ALICE)
    given = {"proof_pem": CA.leaf(row.code).pem, "etag": row.etag}
    return admin.post("/services/plant/ca-certificates/c/plant-ca/verify/", given)


def asked_to_delete(admin, plant):
    prove(plant, CA)
    demand_proof(plant)
    return admin.get("/services/plant/ca-certificates/c/plant-ca/delete/")


QUESTIONS = [
    pytest.param(
        asked_to_let_keys_in, "press", "comes_in", "let groups with symmetric keys admit", id="keys on"
    ),
    pytest.param(asked_for_no_proof, "pump", "comes_in", "demand no proof of possession", id="no proof"),
    pytest.param(asked_to_verify, "pump", "comes_in", "verify CA certificate plant-ca", id="verify"),
    pytest.param(asked_to_delete, "pump", "refused", "delete CA certificate plant-ca", id="delete"),
]


@pytest.mark.parametrize(("ask", "devices", "effect", "change"), QUESTIONS)
def test_the_devices_of_a_question_are_in_a_list_and_an_export(admin, plant, ask, devices, effect, change):
    asked = ask(admin, plant)
    names, before = [f"{devices}-{number}" for number in range(3)], state()

    page, export = addresses(asked.content.decode())
    listed = admin.get(page).content.decode()
    table = list(csv.reader(b"".join(admin.get(export).streaming_content).decode().splitlines()))

    assert asked.status_code == 200
    assert f"Preview: {change}" in words(listed)
    assert re.findall(r'<th scope="row"><a[^>]*>([\w-]+)<', listed) == names
    assert [row[:2] for row in table[1:]] == [[name, effect] for name in names]
    assert HistoryEvent.objects.latest("pk").after == {"change": change}
    assert state()[:2] == before[:2]


@pytest.mark.parametrize(("ask", "devices", "effect", "change"), QUESTIONS)
def test_the_list_has_pages_of_one_effect(admin, plant, ask, devices, effect, change, monkeypatch):
    monkeypatch.setattr(previews.page_of, "__defaults__", (2,))
    page, _ = addresses(ask(admin, plant).content.decode())

    first = admin.get(f"{page}&effect={effect}").content.decode()
    second = admin.get(html.unescape(re.search(r'rel="next" href="([^"]+)"', first)[1])).content.decode()
    none = admin.get(f"{page}&effect=still_admitted").content.decode()

    assert [f"{devices}-{number}/" in first for number in range(3)] == [True, True, False]
    assert re.findall(r'<th scope="row"><a[^>]*>([\w-]+)<', second) == [f"{devices}-2"]
    assert "No device that is known is among these." in none


@pytest.mark.parametrize(
    ("query", "sentence", "devices"),
    [
        ("symmetric_key_groups=off", "let no groups with symmetric keys admit", ["press"]),
        ("proof_of_possession=on", "demand proof of possession", ["pump"]),
        (
            "symmetric_key_groups=off&proof_of_possession=on",
            "let no groups with symmetric keys admit and demand proof of possession",
            ["press", "pump"],
        ),
        ("symmetric_key_groups=on&proof_of_possession=off", "let groups", []),
    ],
)
def test_what_narrows_has_its_list_as_well(admin, plant, query, sentence, devices):
    """Nobody is asked about it, so the settings lead there."""
    before = state()

    text = admin.get(f"/services/plant/preview/?act=settings&{query}").content.decode()

    assert sentence in words(text)
    assert re.findall(r'<th scope="row"><a[^>]*>([\w-]+)<', text) == [
        f"{one}-{number}" for one in devices for number in range(3)
    ]
    assert ("will be refused" in text) is bool(devices)
    assert state() == before


@pytest.mark.parametrize("role", [Role.ADMINISTRATOR, Role.AUDITOR, Role.VIEWER])
def test_the_settings_lead_to_what_turning_each_switch_would_do(client, plant, role):
    client.force_login(a_user(role, plant))

    found = addresses(client.get("/services/plant/settings/").content.decode())

    assert found == (
        []
        if role is Role.VIEWER
        else [
            "/services/plant/preview/?act=settings&symmetric_key_groups=off",
            "/services/plant/preview/?act=settings&proof_of_possession=on",
        ]
    )
    for one in found:
        assert "3 known devices will be refused" in words(client.get(one).content.decode())


@pytest.mark.parametrize(
    ("changed", "title", "count"),
    [
        ({}, "Keep groups with symmetric keys out?", 3),
        ({"symmetric_key_groups": "on", "proof_of_possession": "on"}, "Demand proof of possession?", 3),
        ({"proof_of_possession": "on"}, "Keep groups with symmetric keys out?", 6),
    ],
)
def test_what_narrows_is_asked_once_and_told_afterwards(admin, plant, changed, title, count):
    form = entered(plant, **changed)

    asked = admin.post(CHANGE, form).content.decode()

    assert title in asked
    assert f"{count} known devices will be refused" in words(asked)
    plant.refresh_from_db()
    assert (plant.symmetric_key_groups, plant.proof_of_possession) == (True, False)
    enroll_ca(plant, root("Another CA"), "another", enabled=False)  # which outdates every preview
    mark = re.search(r'name="confirmed" value="([^"]+)"', asked)[1]

    answer = admin.post(CHANGE, {**form, "confirmed": mark}, follow=True)

    said = f"The settings are saved and hold from now on: {count} devices are refused from now on."
    assert said in words(answer.content.decode())


def test_what_touches_no_switch_is_saved_without_a_question(admin, plant):
    form = entered(plant, symmetric_key_groups="on", description="Hall 3")

    answer = admin.post(CHANGE, form, follow=True)

    assert "saved and hold from now on." in words(answer.content.decode())


def test_a_question_counts_also_whom_the_same_settings_shut_out(admin, plant):
    change_settings(plant, {"symmetric_key_groups": False}, actor=ALICE)
    plant.refresh_from_db()

    asked = words(
        admin.post(
            CHANGE, entered(plant, symmetric_key_groups="on", proof_of_possession="on")
        ).content.decode()
    )

    assert "3 known devices will come in anew through enrollment group line-9" in asked
    assert "3 known devices will be refused" in asked


def test_r16_a_ca_certificate_is_deleted_although_its_preview_cannot_be_worked_out(admin, plant, settings):
    prove(plant, CA)
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()
    url = "/services/plant/ca-certificates/c/plant-ca/delete/"

    assert "cannot be worked out, because something that is stored cannot be read" in words(
        admin.get(url).content.decode()
    )
    assert admin.post(url).status_code == 302
    assert not CaCertificate.objects.exists()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("act=settings", 422),
        ("act=settings&symmetric_key_groups=maybe", 422),
        ("act=settings&retry_after_seconds=on", 422),
        ("act=verify", 422),
        ("act=verify&ca=none", 404),
        ("act=delete&ca=none", 404),
        ("act=disable&ca=plant-ca", 422),
        ("act=verify&ca=plant-ca", 409),
    ],
)
def test_an_address_that_says_too_little_is_answered_with_a_sentence(admin, plant, query, status):
    prove(plant, CA)

    assert admin.get(f"/services/plant/preview/?{query}").status_code == status
    assert admin.get(f"/services/plant/preview/export/?{query}").status_code == status


def test_r1_a_ca_certificate_of_another_service_has_no_preview_here(admin, plant):
    upload_ca(a_service("elsewhere"), CA, "theirs")

    assert admin.get("/services/plant/preview/?act=delete&ca=theirs").status_code == 404


def test_examine_all_of_a_list_of_a_later_time_leads_to_the_list_of_that_time(
    admin, plant, database_clock, monkeypatch
):
    """The setting lets in whom a group that is to be enabled keeps out until then."""
    register(plant, CA.intermediate("Line").leaf("pump-3"))
    demand_proof(plant)
    at = database_clock.ahead(days=1)
    disable_enrollment_group(plant, "plant-7", until=at, actor=ALICE)
    monkeypatch.setattr(limits, "MAX_CLASSES", 1)
    monkeypatch.setattr(limits, "MAX_SINGLY", 0)
    query = f"act=settings&proof_of_possession=off&later={at:%Y-%m-%dT%H:%M:%SZ}"

    listed = admin.get(f"/services/plant/preview/?{query}").content.decode()
    (address,) = [one for one in addresses(listed) if "everyone=1" in one]
    every = admin.get(address).content.decode()

    assert "was not examined" in words(listed)
    assert "not examined" not in words(every)
    assert f"From {as_text(at)} on" in words(every)
    assert "Will come in anew (4)" in words(every)
    assert "everyone=1&everyone=1" not in html.unescape(every)
