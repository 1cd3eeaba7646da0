"""The history of one thing as a tab of its page: what is in it, what is not, and that it outlives the thing."""

import html
import re
from pathlib import Path

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from enrollments.actions.access_policies import AccessPolicy
from enrollments.actions.api_tokens import add_api_token
from enrollments.actions.ca_certificates import delete_ca_certificate
from enrollments.actions.enrollments import delete_enrollments, disable_enrollment
from enrollments.actions.hubs import HubSpec, link_hub, unlink_hub
from enrollments.actions.revocation import delete_registration, deny_device
from enrollments.audit.events import Event
from enrollments.audit.record import Subject, record
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from enrollments.portal.history_words import REFUSED_ON, SUBJECT_KINDS
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, register, upload_ca
from tests.factories import a_service, a_user, an_individual
from tests.portal.history_pages import a_row, shown
from tests.portal.world import a_world, signed_in_as

PLANT = "/services/plant"
SOURCES = Path(__file__).parents[2] / "enrollments"


@pytest.fixture
def plant(db: None) -> ProvisioningService:
    """A device that was admitted through its group, denied, deleted, and enrolled anew; and another beside it."""
    service = a_service("plant")
    ca = root("Plant CA")
    enroll_ca(service, ca, "plant-7")
    for name in ("pump-042", "pump-043"):
        register(service, ca.leaf(name))
    deny_device(service, "pump-042", actor=ALICE, reason="stolen")
    delete_registration(service, "pump-042", actor=ALICE)
    delete_enrollments(service, ["pump-042"], actor=ALICE)
    an_individual(service, "PUMP-042")
    return service


@pytest.fixture
def administrator(client: Client, plant: ProvisioningService) -> Client:
    client.force_login(a_user(Role.ADMINISTRATOR, None, "root"))
    return client


def told(client: Client, url: str, **query: str) -> list[tuple[str, str]]:
    return [(row.event, row.subject_name) for row in shown(client, f"{PLANT}{url}", **query)]


def test_individual_enrollment_has_what_was_done_to_it_and_to_former_ones_of_its_name(administrator):
    assert told(administrator, "/enrollments/i/pump-042/history/") == [
        ("enrollment.added", "PUMP-042"),
        ("enrollment.deleted", "pump-042"),
        ("enrollment.added_disabled", "pump-042"),
    ]


def test_device_has_everything_under_its_registration_id(administrator):
    events = [event for event, _ in told(administrator, "/registrations/Pump-042/history/")]

    assert events == [
        "enrollment.added",
        "enrollment.deleted",
        "registration.deleted",
        "enrollment.added_disabled",
        "device.assigned",
    ]


def test_group_hub_and_policy_have_their_own(administrator, plant):
    hub = plant.hubs.get()
    policy = AccessPolicy.objects.get(service=plant)

    assert told(administrator, "/groups/g/plant-7/history/") == [("group.added", "plant-7")]
    assert told(administrator, f"/hubs/{hub.pk}/history/") == [("hub.linked", hub.name)]
    assert told(administrator, f"/policies/p/{policy.name}/history/") == [("policy.added", policy.name)]
    assert administrator.get(f"{PLANT}/hubs/999999/history/").status_code == 404


def test_person_has_what_they_did_and_what_was_done_to_them(administrator, plant):
    administrator.post("/people/add/", {"username": "bob", "where": "everywhere", "role": "viewer"})
    disable_enrollment(plant, "pump-042", actor=ALICE)

    did = shown(administrator, "/people/p/alice/history/")
    done_to = shown(administrator, "/people/p/bob/changes/")

    assert {(row.actor_kind, row.actor_name) for row in did} == {("user", "alice")}
    assert "enrollment.disabled" in {row.event for row in did}
    assert {(row.subject_kind, row.subject_name) for row in done_to} <= {("User", "bob")}


@pytest.mark.parametrize(
    ("page", "tab"),
    [
        ("/services/plant/enrollments/i/PUMP-042/", "/services/plant/enrollments/i/PUMP-042/history/"),
        ("/services/plant/groups/g/plant-7/", "/services/plant/groups/g/plant-7/history/"),
        ("/services/plant/registrations/pump-043/", "/services/plant/registrations/pump-043/history/"),
        ("/people/p/root/", "/people/p/root/history/"),
        ("/people/p/root/", "/people/p/root/changes/"),
    ],
)
def test_pages_and_their_histories_lead_to_each_other(administrator, page, tab):
    assert f'href="{tab}"' in administrator.get(page).content.decode()
    text = administrator.get(tab).content.decode()
    assert f'href="{page}"' in text
    assert f'href="{tab}" aria-current="page"' in text


def test_history_of_what_is_gone_says_so_and_does_not_lead_to_it(administrator, plant):
    delete_enrollments(plant, ["PUMP-042"], actor=ALICE)

    text = administrator.get(f"{PLANT}/enrollments/i/pump-042/history/").content.decode()

    assert "It is not there any more." in text
    assert f'href="{PLANT}/enrollments/i/pump-042/"' not in text


def test_filter_and_export_of_a_tab_are_those_of_the_object(administrator):
    answer = administrator.get(f"{PLANT}/groups/g/plant-7/history/", {"event": "shuts-out", "kind": "User"})

    assert [row.event.event for row in answer.context["rows"]] == []
    assert answer.context["exports"][2]["url"] == (
        f"{PLANT}/history/export/?format=jsonl&event=shuts-out&subject=%3Dplant-7&kind=EnrollmentGroup"
    )
    text = answer.content.decode()
    assert 'name="subject"' not in text
    assert "I have seen this" not in text


def test_rows_lead_to_their_actor_and_their_object(administrator):
    answer = administrator.get(f"{PLANT}/history/")
    (row,) = (
        row
        for row in answer.context["rows"]
        if (row.event.event, row.event.subject_name) == ("enrollment.deleted", "pump-042")
    )
    text = administrator.get(row.own_url).content.decode()

    assert f'href="{PLANT}/history/?actor=user%3Aalice"' in answer.content.decode()
    assert f'href="{PLANT}/history/?actor=user%3Aalice"' in text
    assert f'href="{PLANT}/history/?kind=IndividualEnrollment&amp;subject=%3Dpump-042"' in text


def test_actor_of_any_kind_leads_to_its_own_rows(administrator, plant):
    for kind in ("schedule", "comet"):
        a_row(plant, f"by-{kind}", timezone.now(), actor_kind=kind, actor_name=f"a {kind}")

        (row,) = [
            one
            for one in administrator.get(f"{PLANT}/history/").context["rows"]
            if one.event.actor_kind == kind
        ]
        found = administrator.get(row.actor_url).context["rows"]

        assert [one.event.subject_name for one in found] == [f"by-{kind}"]


def test_viewer_sees_in_a_tab_what_they_did_themselves(client, plant):
    client.force_login(a_user(Role.VIEWER, plant))

    assert told(client, "/groups/g/plant-7/history/") == []
    assert "What you did yourself" in client.get(f"{PLANT}/groups/g/plant-7/history/").content.decode()


def test_name_of_another_service_shows_nothing(administrator):
    lab = a_service("lab")
    an_individual(lab, "bench-1")

    assert told(administrator, "/registrations/bench-1/history/") == []
    assert HistoryEvent.objects.filter(subject_name="bench-1").exists()
    # Under the name of a device here that exists there too, either shows its own.
    an_individual(lab, "pump-042")
    assert all(
        row.service_name == "plant"
        for row in shown(administrator, f"{PLANT}/registrations/pump-042/history/")
    )


def test_tab_states_its_queries(administrator, django_assert_max_num_queries):
    administrator.get(f"{PLANT}/registrations/pump-042/history/")

    # One more than for its own rows alone: those that name it among others are merged with them.
    with django_assert_max_num_queries(12):
        administrator.get(f"{PLANT}/registrations/pump-042/history/")


def test_ca_certificate_has_its_own_also_when_it_is_deleted(administrator, plant):
    upload_ca(plant, root("Other CA"), "other-ca")
    page, tab = f"{PLANT}/ca-certificates/c/other-ca/", f"{PLANT}/ca-certificates/c/other-ca/history/"

    assert f'href="{tab}"' in administrator.get(page).content.decode()
    assert f'href="{page}"' in administrator.get(tab).content.decode()

    delete_ca_certificate(plant, "other-ca", actor=ALICE, reason="sold")

    events = [event for event, _ in told(administrator, "/ca-certificates/c/Other-CA/history/")]
    assert events == ["ca_certificate.deleted", "ca_certificate.added"]
    assert f'href="{page}"' not in administrator.get(tab).content.decode()


def test_hub_that_was_unlinked_keeps_its_tab_for_those_who_may_see_its_rows(administrator, plant):
    hub = link_hub(plant, HubSpec(name="north", host_name="north.example"), actor=ALICE)
    unlink_hub(plant, hub.pk, actor=ALICE)
    url = f"/hubs/{hub.pk}/history/"
    others = link_hub(a_service("other"), HubSpec(name="south", host_name="south.example"), actor=ALICE)

    assert told(administrator, url) == [("hub.unlinked", "north"), ("hub.linked", "north")]
    text = administrator.get(f"{PLANT}{url}").content.decode()
    assert f"{PLANT}/hubs/{hub.pk}/devices/" not in text

    viewer = Client()
    viewer.force_login(a_user(Role.VIEWER, plant, "vera"))
    assert viewer.get(f"{PLANT}{url}").status_code == 404
    assert administrator.get(f"{PLANT}/hubs/{others.pk}/history/").status_code == 404


# Of each kind that the history is about, where it is looked at, and the history that this leads to.
LEADS = {
    "IndividualEnrollment": ("enrollments/i/keyed-001/", "enrollments/i/keyed-001/history/"),
    "EnrollmentGroup": ("groups/g/keyed-group/", "groups/g/keyed-group/history/"),
    "RegistrationRecord": ("registrations/keyed-001/", "registrations/keyed-001/history/"),
    "HubDevice": ("hubs/{hub_pk}/devices/{device_id}/", "registrations/keyed-001/history/"),
    "QuietPeriod": ("storms/", "registrations/"),
    "LinkedHub": ("hubs/{hub_pk}/devices/", "hubs/{hub_pk}/history/"),
    "CaCertificate": ("ca-certificates/c/{ca_name}/", "ca-certificates/c/{ca_name}/history/"),
    "AccessPolicy": ("policies/p/{policy_name}/", "policies/p/{policy_name}/history/"),
    "ApiToken": ("tokens/", "history/?kind=ApiToken&amp;subject=%3D"),
    "ProvisioningService": ("settings/", "history/?kind=ProvisioningService&amp;subject=%3Dplant"),
    "import": ("imports/{import_pk}/", "history/?kind=import&amp;subject=%3D"),
    "User": ("people/", "history/?kind=User"),
}
# They have no page.
NOT_LOOKED_AT = {"encryption key", "export", "history", "action"}


def test_each_kind_of_object_leads_to_its_history(db):
    world = a_world()
    who = signed_in_as(Role.ADMINISTRATOR, None, "anna")
    add_api_token(world.service, who.user, "nightly", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    client = who.client
    for page, history in LEADS.values():
        text = client.get(f"{PLANT}/{page.format(**world.values)}").content.decode()

        assert f'href="{PLANT}/{history.format(**world.values)}' in text, page
    assert LEADS.keys() | NOT_LOOKED_AT == SUBJECT_KINDS.keys() - REFUSED_ON.keys()


def test_each_kind_that_rows_are_about_has_words_of_its_own():
    named = set(re.findall(r'\bSubject\("([^"]+)"', "".join(map(Path.read_text, SOURCES.rglob("*.py")))))
    recorded = {"IndividualEnrollment", "CaCertificate", "import", "export", "User"}

    assert named >= {"import", "export"}
    assert named | recorded <= SUBJECT_KINDS.keys()


def test_import_leads_to_rows_of_its_list_alone(db):
    world = a_world()
    client = signed_in_as(Role.ADMINISTRATOR, None, "anna").client
    run = world.service.imports.get()
    with transaction.atomic():
        for name, pk in ((run.list_name, run.pk), ("other.csv", run.pk + 1)):
            subject = Subject("import", name, str(pk))
            record(Event.IMPORT_ENDED, subject=subject, actor=ALICE, service=world.service)
    text = client.get(f"{PLANT}/imports/{run.pk}/").content.decode()
    (link,) = re.findall(r'href="([^"]*history/\?kind=import[^"]*)"', text)

    rows = client.get(html.unescape(link)).context["rows"]

    assert [row.event.subject_id for row in rows] == [str(run.pk)]
