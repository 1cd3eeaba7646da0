"""The way back in: an administrator who can sign in, and a history that says how that came about."""

import pytest
from django.contrib.auth.models import User

from enrollments.actions.api_tokens import add_api_token
from enrollments.actions.people import add_person, role_in, set_active
from enrollments.actions.sign_in import LockedOut, WrongPassword, sign_in
from enrollments.models import ApiToken, HistoryEvent
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from tests.devices import ALICE, new_service
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db
RESTORE = ("restore_administrator", "admin", "--reason", "password lost")
ADDRESS = "192.0.2.9"


def can_sign_in(password: str) -> bool:
    return sign_in("admin", password, address=ADDRESS).get_username() == "admin"


def test_password_that_was_lost_is_replaced_and_locks_are_forgotten():
    _, old = add_person("admin", role=Role.ADMINISTRATOR, service=None, actor=ALICE)
    for _ in range(5):
        with pytest.raises(WrongPassword):
            sign_in("admin", "guess", address=ADDRESS)
    with pytest.raises(LockedOut):
        sign_in("admin", old, address=ADDRESS)

    password = json_of(*RESTORE)["password"]

    assert can_sign_in(password)
    with pytest.raises(WrongPassword):
        sign_in("admin", old, address="192.0.2.10")


def test_somebody_who_lost_the_role_or_was_deactivated_has_it_back():
    add_person("other", role=Role.ADMINISTRATOR, service=None, actor=ALICE)
    add_person("admin", role=Role.VIEWER, service=None, actor=ALICE)
    set_active("admin", False, actor=ALICE)

    password = json_of(*RESTORE)["password"]

    assert can_sign_in(password)
    assert role_in(User.objects.get(username="admin"), None) is Role.ADMINISTRATOR


def test_somebody_who_was_deactivated_is_made_one_where_there_is_no_administrator_at_all():
    """By what was done to the database past dpsportal: this command is for that hour as well."""
    add_person("admin", role=Role.VIEWER, service=None, actor=ALICE)
    User.objects.update(is_active=False)

    assert can_sign_in(json_of(*RESTORE)["password"])


def test_administrator_is_added_where_there_is_nobody():
    assert "shown this once" in printed_by(*RESTORE)
    assert role_in(User.objects.get(), None) is Role.ADMINISTRATOR


def test_history_says_who_and_why_and_no_password():
    password = json_of(*RESTORE)["password"]

    row = HistoryEvent.objects.get(event="person.added")
    assert (row.way, row.reason) == ("command line", "password lost")
    assert password not in str(list(HistoryEvent.objects.values()))


def test_name_that_cannot_be_one_is_refused():
    code, sentence = refusal_of("restore_administrator", "no spaces allowed", "--reason", "x")

    assert code == 1
    assert sentence
    assert not User.objects.exists()


@pytest.mark.parametrize(("options", "left"), [((), 0), (("--keep-tokens",), 1)])
def test_tokens_end_with_the_password_unless_they_are_to_be_kept(options, left):
    user, _ = add_person("admin", role=Role.ADMINISTRATOR, service=None, actor=ALICE)
    add_api_token(new_service(), user, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)

    told = json_of(*RESTORE, *options)

    assert (told["tokens_ended"], told["tokens_kept"]) == (1 - left, left)
    assert ApiToken.objects.count() == left
    row = HistoryEvent.objects.filter(event="person.password_changed").latest("pk")
    assert row.after == {"tokens_ended": 1 - left, "tokens_kept": left}


def test_what_becomes_of_tokens_is_printed_where_there_are_any():
    user, _ = add_person("admin", role=Role.ADMINISTRATOR, service=None, actor=ALICE)
    assert "API tokens" not in printed_by(*RESTORE)
    add_api_token(new_service(), user, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)

    assert "API tokens     1 ended, 0 kept" in printed_by(*RESTORE)
