"""`manage.py first_start`."""

import pytest
from django.contrib.auth.models import User

from enrollments.actions.people import has_right
from enrollments.actions.services import add_service
from enrollments.audit.actor import Actor, Way
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.policy.roles import Right
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db
GIVEN = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _no_administrator_in_the_environment(monkeypatch):
    for variable in ("DPS_ADMIN_USERNAME", "DPS_ADMIN_PASSWORD", "DPS_ADMIN_PASSWORD_FILE"):
        monkeypatch.delenv(variable, raising=False)


def test_a_new_installation_gets_an_administrator_a_service_and_a_hub():
    told = json_of("first_start")

    admin = User.objects.get()
    service = ProvisioningService.objects.get()
    assert (admin.username, admin.check_password(told["password"])) == ("admin", True)
    assert has_right(admin, Right.ADMINISTER, None)
    assert told["services"] == {"local": service.id_scope}
    assert [hub.kind for hub in service.hubs.all()] == ["builtin"]
    assert {row.actor_kind for row in HistoryEvent.objects.all()} == {"cli"}


def test_where_back_ends_call_is_said(settings):
    settings.DPS_DEVICE_BIND = "localhost:8443"

    assert json_of("first_start")["service_endpoints"] == {"local": "https://localhost:8443"}
    assert "Service API    https://localhost:8443" in printed_by("first_start")


def test_the_second_start_changes_nothing_and_shows_no_password():
    first = json_of("first_start")
    rows = HistoryEvent.objects.count()

    second = printed_by("first_start")

    assert HistoryEvent.objects.count() == rows
    assert (User.objects.count(), ProvisioningService.objects.count()) == (1, 1)
    assert "Password" not in second
    assert first["password"] not in second
    assert first["portal"] in second


def test_a_given_password_is_used_and_not_printed(monkeypatch):
    monkeypatch.setenv("DPS_ADMIN_USERNAME", "alice")
    monkeypatch.setenv("DPS_ADMIN_PASSWORD", GIVEN)

    text = printed_by("first_start")

    assert User.objects.get(username="alice").check_password(GIVEN)
    assert "alice" in text
    assert GIVEN not in text


def test_the_password_may_come_from_a_file(monkeypatch, tmp_path):
    (tmp_path / "password").write_text(f"{GIVEN}\n")
    monkeypatch.setenv("DPS_ADMIN_PASSWORD_FILE", str(tmp_path / "password"))

    printed_by("first_start")

    assert User.objects.get().check_password(GIVEN)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("DPS_ADMIN_PASSWORD", "short", "DPS_ADMIN_PASSWORD cannot be used"),
        ("DPS_ADMIN_USERNAME", "not a name!", "DPS_ADMIN_USERNAME cannot be used"),
        ("DPS_ADMIN_PASSWORD_FILE", "/no/such/file", "DPS_ADMIN_PASSWORD_FILE cannot be read"),
        ("DPS_ADMIN_PASSWORD_FILE", "/dev/null", "which is empty"),
    ],
)
def test_what_cannot_be_used_is_refused_by_the_name_of_its_variable(monkeypatch, variable, value, sentence):
    monkeypatch.setenv(variable, value)

    code, said = refusal_of("first_start")

    assert code == 1
    assert sentence in said
    assert not User.objects.exists()


def test_where_somebody_exists_nobody_is_made():
    User.objects.create_user("bob")

    told = json_of("first_start")

    assert told["administrator"] is None
    assert User.objects.count() == 1


def test_where_a_service_exists_none_is_made():
    add_service("plant", actor=Actor("user", "alice", Way.PORTAL))

    assert list(json_of("first_start")["services"]) == ["plant"]
