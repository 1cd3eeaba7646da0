"""What a newer version keeps is shown by an older one, which knows less: pages, commands and answers do not fail."""

import pytest
from django.db import connection
from django.test import Client

from enrollments.actions.api_tokens import add_api_token
from enrollments.actions.kept_attempts import tracking_id_of_latest
from enrollments.actions.people import role_in
from enrollments.actions.refused_again import ADDED_UP_FOR, record_refused_again
from enrollments.models import HistoryEvent, RefusedAgain, RegistrationAttempt, RegistrationRecord
from enrollments.policy.access import AccessRight
from enrollments.policy.reasons import Reason
from enrollments.policy.roles import Role
from enrollments.policy.unknown import Unknown, known
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, register
from tests.factories import a_user
from tests.management.calls import json_of, printed_by
from tests.portal.test_past import now

pytestmark = pytest.mark.django_db
OF_ANOTHER = "(of a version that this one does not know)"


def write(table, **values):
    """As another version would: past all that this one checks."""
    columns = ", ".join(f'"{name}" = %s' for name in values)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table._meta.db_table} SET {columns}", list(values.values()))


@pytest.fixture
def refused(plant):
    """A device that was let in, and one that fails since another entry holds its name."""
    first, second = root("A"), root("B")
    enroll_ca(plant, first, "a")
    enroll_ca(plant, second, "b")
    assert register(plant, first.leaf("pump-1")).outcome == "assigned"
    assert register(plant, second.leaf("pump-1")).outcome == "failed"
    assert register(plant, first.leaf("pump-2")).outcome == "assigned"
    return plant


def test_what_is_unknown_is_itself_and_no_member():
    assert known(Reason, "admitted") is Reason.ADMITTED
    other = known(Reason, "moon_phase")
    assert isinstance(other, Unknown)
    assert (other, other.value, other.in_words) == ("moon_phase", "moon_phase", f"moon_phase {OF_ANOTHER}")
    assert other not in set(Reason)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "attempts/",
        "attempts/{pk}/",
        "registrations/",
        "registrations/pump-1/",
        "storms/?window=24h",
        "explain/?registration_id=pump-2",
        "history/",
    ],
)
def test_pages_show_what_another_version_kept_of_attempts_and_records(auditor, refused, path):
    write(RegistrationAttempt, reason="moon_phase", outcome="eclipsed", entry_kind="tribe")
    write(RegistrationRecord, reason="moon_phase", status="failed")
    pk = RegistrationAttempt.objects.latest("pk").pk

    answer = auditor.get(f"/services/plant/{path.format(pk=pk)}")

    assert answer.status_code == 200
    if path.startswith(("attempts", "registrations/pump", "explain")):
        assert f"oon_phase {OF_ANOTHER}" in answer.content.decode()


def test_an_attempt_of_another_version_is_explained_by_the_command(refused):
    write(RegistrationAttempt, reason="moon_phase", outcome="eclipsed", entry_kind="tribe")
    tracking_id = tracking_id_of_latest(RegistrationAttempt.objects.latest("pk"))

    assert f"eclipsed (moon_phase {OF_ANOTHER})" in printed_by(
        "explain", "--service", "plant", "--tracking-id", tracking_id
    )
    told = json_of("explain", "--service", "plant", "--tracking-id", tracking_id)
    assert (told["verdict"], told["reason"]) == ("eclipsed", "moon_phase")


def test_a_record_of_another_version_is_shown_by_the_command(refused):
    write(RegistrationAttempt, reason="moon_phase", outcome="eclipsed")
    write(RegistrationRecord, reason="moon_phase", status="failed")

    assert f"moon_phase {OF_ANOTHER}" in printed_by("registrations", "show", "pump-1", "--service", "plant")


@pytest.fixture
def unveiled(plant):
    return HistoryEvent.objects.create(
        at=plant.created_at,
        event="moon.unveiled",
        service_id=plant.pk,
        service_name="plant",
        actor_kind="user",
        actor_name="alice",
        way="telepathy",
        subject_kind="Moon",
        subject_name="io",
    )


def test_a_row_of_another_version_is_in_the_history(auditor, plant, unveiled):
    page = auditor.get("/services/plant/history/").content.decode()
    assert f"moon.unveiled {OF_ANOTHER}" in page
    assert auditor.get(f"/services/plant/history/rows/{unveiled.pk}/").status_code == 200


def test_such_a_row_is_exported(auditor, plant, unveiled):
    for format in ("csv", "jsonl", "xlsx"):
        answer = auditor.get("/services/plant/history/export/", {"format": format})
        assert len(b"".join(answer.streaming_content)) > 100


def test_an_unknown_role_opens_nothing_and_is_shown(admin, plant):
    bob = a_user(Role.OPERATOR, plant, "bob")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE enrollments_membership SET role = 'astronomer' WHERE user_id = %s", [bob.pk])
    client = Client()
    client.force_login(bob)

    assert role_in(bob, plant) is None
    assert client.get("/services/plant/").status_code == 404
    assert client.get("/").status_code == 200
    assert f"Astronomer {OF_ANOTHER}".lower() in admin.get("/services/plant/people/").content.decode().lower()
    client.force_login(a_user(Role.ADMINISTRATOR, None, "chief"))
    assert "astronomer" in client.get("/people/p/bob/").content.decode()
    assert client.get("/people/p/bob/take-away/?where=plant").status_code == 200


def test_an_unknown_right_gives_nothing(admin, plant):
    user = a_user(Role.OPERATOR, plant, "bob")
    token, _ = add_api_token(plant, user, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    token.rights = ["EnrollmentRead", "MoonWrite"]

    assert token.access_rights == {AccessRight.ENROLLMENT_READ}


def test_what_was_refused_again_by_an_unknown_way_is_told(plant):
    at = plant.created_at - 2 * ADDED_UP_FOR
    RefusedAgain.objects.create(
        key="x",
        service=plant,
        actor_kind="user",
        actor_name="bob",
        way="telepathy",
        what="GET /",
        count=2,
        started_at=at,
        last_at=at,
    )

    assert record_refused_again(ended_before=plant.created_at) == 1

    assert HistoryEvent.objects.latest("pk").way == "telepathy"


def test_the_past_names_a_cause_of_another_version(auditor, refused, unveiled):
    answer = auditor.get("/services/plant/back-in-time/", {"at": now(), "registration_id": "pump-1"})
    assert answer.status_code == 200
