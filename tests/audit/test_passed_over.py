"""A database that takes a row of the history and does not keep it, in silence: the change does not happen (R15)."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import DatabaseError, connection
from django.test import Client

from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.services import change_settings
from enrollments.models import HistoryEvent
from enrollments.models.inserting import NotWritten
from enrollments.policy.roles import Role
from tests.audit.histories import execute
from tests.audit.tampering import EVENT, ON_SQLITE
from tests.devices import ALICE, enroll_keys
from tests.factories import a_user
from tests.tables import tables

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def passed_over() -> Iterator[None]:
    """Rows of one actor."""
    if ON_SQLITE:
        execute(
            f"CREATE TRIGGER harmless BEFORE INSERT ON {EVENT} WHEN NEW.actor_name = 'alice' "
            "BEGIN SELECT RAISE(IGNORE); END"
        )
    else:
        execute(
            "CREATE FUNCTION harmless() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.actor_name = 'alice' THEN RETURN NULL; END IF; RETURN NEW; END $$"
        )
        execute(f"CREATE TRIGGER harmless BEFORE INSERT ON {EVENT} FOR EACH ROW EXECUTE FUNCTION harmless()")
    try:
        yield
    finally:
        execute("DROP TRIGGER harmless" if ON_SQLITE else f"DROP TRIGGER harmless ON {EVENT}")
        if not ON_SQLITE:
            execute("DROP FUNCTION harmless()")


def disabled(service):
    disable_enrollment(service, "key-1", actor=ALICE)


def set_anew(service):
    change_settings(service, {"proof_of_possession": True}, actor=ALICE)


@pytest.mark.parametrize("act", [disabled, set_anew])
def test_nothing_changes_where_the_row_is_passed_over(service, act):
    enroll_keys(service, "key-1")
    before = tables()

    with passed_over(), pytest.raises(NotWritten, match=r"passed over \d+ new rows? of " + EVENT):
        act(service)

    assert tables() == before
    assert issubclass(NotWritten, DatabaseError)
    act(service)
    last = HistoryEvent.objects.order_by("pk").last()
    assert last.event in ("enrollment.disabled", "service.changed")


def test_page_fails_and_shows_nothing_where_the_row_is_passed_over(service):
    """Keys are shown once that is written down."""
    client = Client(raise_request_exception=False)
    client.force_login(a_user(Role.ADMINISTRATOR, None, "alice"))
    address = f"/services/{service.name}/policies/p/provisioningserviceowner/keys/"
    with passed_over():
        answer = client.post(address)

    assert answer.status_code == 500
    assert connection.in_atomic_block is False
    assert client.post(address).status_code == 200
