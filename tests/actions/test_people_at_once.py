"""R17 at once: the installation keeps an administrator, whoever takes the right from whom at the same time."""

import threading

import pytest
from django.db import connection

from enrollments.actions import people
from enrollments.models import HistoryEvent, Membership
from enrollments.policy.roles import Role
from tests.devices import ALICE

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 30
BOTH = ("anna", "bert")


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(
            lambda name: people.set_role(name, Role.VIEWER, service=None, actor=ALICE), id="demoting"
        ),
        pytest.param(
            lambda name: people.set_role(name, None, service=None, actor=ALICE), id="taking the role"
        ),
        pytest.param(lambda name: people.set_active(name, False, actor=ALICE), id="deactivating"),
        pytest.param(lambda name: people.remove_person(name, actor=ALICE), id="removing"),
    ],
)
def test_r17_of_two_administrators_who_put_each_other_out_at_once_one_stays(act):
    for name in BOTH:
        people.add_person(name, role=Role.ADMINISTRATOR, service=None, actor=ALICE)
    rows = HistoryEvent.objects.count()
    together = threading.Barrier(len(BOTH))
    refused: list[str] = []

    def put_out(name: str) -> None:
        try:
            together.wait(PATIENCE)
            act(name)
        except people.LastAdministrator:
            refused.append(name)
        finally:
            connection.close()

    threads = [threading.Thread(target=put_out, args=(name,)) for name in BOTH]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()

    left = Membership.objects.filter(
        service=None, role=Role.ADMINISTRATOR.value, user__is_active=True
    ).values_list("user__username", flat=True)
    assert list(left) == refused
    assert HistoryEvent.objects.count() == rows + 1
