"""Who is refused and goes on, with invented addresses or with forms, leaves few rows, which tell of all (R14, R15)."""

import pytest
from django.test import Client

from enrollments.actions import refused_again
from enrollments.models import ProvisioningService
from enrollments.policy.roles import Role
from enrollments.portal.refused_acts import _FEW, _SEEN
from tests.factories import a_service, a_user
from tests.portal.addresses import ADDRESSES
from tests.portal.world import signed_in_as
from tests.tables import refused_rows

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("entries")]


@pytest.fixture
def stranger(plant: ProvisioningService) -> Client:
    return signed_in_as(Role.ADMINISTRATOR, a_service("lab"), "stranger").client


@pytest.mark.parametrize(
    "path",
    [
        "/services/plant/registrations/xxx{}/deny/",
        "/services/plant/enrollments/i/xxx{}/disable/",
        "/services/plant/groups/g/xxx{}/disable/",
        "/services/plant/policies/p/xxx{}/",
        "/services/plant/attempts/9{}/",
        "/services/plant/hubs/9{}/unlink/",
        "/people/p/xxx{}/",
        "/people/p/xxx{}/history/",
    ],
)
def test_looks_at_what_is_not_there_leave_a_row_of_their_route(viewer, path):
    statuses = {viewer.get(path.format(number)).status_code for number in range(30)}

    assert statuses == {403}
    (row,) = refused_rows()
    assert row.actor_name == "some-viewer"
    assert refused_again.RefusedAgain.objects.get().count == 29
    assert "xxx" not in refused_again.RefusedAgain.objects.get().what


def test_looks_at_what_is_there_leave_a_row_for_each(viewer):
    for _ in range(3):
        for name in ("pump-1", "pump-2", "PUMP-1"):
            assert viewer.get(f"/services/plant/registrations/{name}/deny/").status_code == 403
        assert viewer.get("/services/plant/groups/g/plant-7/disable/").status_code == 403

    assert [row.subject_name for row in refused_rows()] == ["pump-1", "pump-2", "plant-7"]
    assert not refused_again.RefusedAgain.objects.exists()


def test_rows_do_not_tell_whether_there_is_somebody_of_this_name(viewer):
    """Who sees no people must not learn of them by how far apart the places of their own rows are."""
    a_user(Role.ADMINISTRATOR, username="anna")
    viewer.get("/people/p/nobody/")

    def left_by(name):
        before = len(refused_rows())
        viewer.get(f"/people/p/{name}/")
        return len(refused_rows()) - before

    assert left_by("anna") == left_by("somebody") == 0


def test_acts_of_a_stranger_are_all_told_and_leave_few_rows(stranger, plant):
    for number in range(25):
        path = f"/services/plant/enrollments/i/pump-{number}/disable/"
        assert stranger.post(path).status_code == 404

    (row,) = refused_rows()
    assert (row.service_name, row.subject_name) == (
        "plant",
        "POST /services/plant/enrollments/i/pump-0/disable/",
    )
    counted = refused_again.RefusedAgain.objects.get()
    assert (counted.service, counted.what, counted.count) == (
        plant,
        "POST /services/plant/enrollments/i/<registration_id>/disable/",
        24,
    )


def test_a_flood_of_names_of_services_is_bounded_and_tells_none_apart(stranger, monkeypatch):
    monkeypatch.setattr(refused_again, "MOST_APART", 5)
    for number in range(5):
        stranger.post(f"/services/xxx{number}/settings/change/")

    def left_by(name):
        before = len(refused_rows())
        stranger.post(f"/services/{name}/settings/change/")
        return len(refused_rows()) - before

    assert left_by("xxx-next") == 1, "the one that stands for all that are beyond"
    assert left_by("plant") == left_by("nowhere") == 0


def test_another_act_and_another_person_have_rows_of_their_own(stranger):
    other = signed_in_as(Role.VIEWER, ProvisioningService.objects.get(name="lab"), "other").client
    for client in (stranger, stranger, other):
        for act in ("settings/change/", "enrollments/add/"):
            client.post(f"/services/plant/{act}")

    assert len(refused_rows()) == 4


def test_whoever_sees_the_history_of_the_service_reads_of_all(stranger, plant):
    for _ in range(4):
        stranger.post("/services/plant/settings/change/")
    refused_again.RefusedAgain.objects.update(
        started_at=refused_rows()[0].at - refused_again.ADDED_UP_FOR, last_at=refused_rows()[0].at
    )
    auditor = signed_in_as(Role.AUDITOR, plant, "eve").client

    page = auditor.get("/services/plant/history/").content.decode()

    assert page.count("POST /services/plant/settings/change/") >= 2
    assert refused_rows()[-1].after["times"] == 3


def test_everything_that_addresses_name_is_invented_unless_it_is_known_to_be_there():
    """A name that the path itself takes few values of, or an object that everybody with a role sees."""
    named = {name for one in ADDRESSES for name in one.parameters} - {"service_name"}

    assert named >= {*_SEEN, *_FEW}
