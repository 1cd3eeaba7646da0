"""R17 at once: installation and service keep an administrator, whoever takes the right from whom at the same time."""

import threading
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection

from enrollments.actions import people
from enrollments.errors import Conflict
from enrollments.models import HistoryEvent, Membership
from enrollments.policy.roles import Role
from tests.devices import ALICE
from tests.factories import a_service
from tests.tables import refused_rows

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 30
BOTH = ("anna", "bert")


def at_once(act: Callable[[str], object]) -> dict[str, Conflict]:
    """Of both, each in a thread of its own; who was refused, and how."""
    together = threading.Barrier(len(BOTH))
    refused: dict[str, Conflict] = {}

    def put_out(name: str) -> None:
        try:
            together.wait(PATIENCE)
            act(name)
        except Conflict as problem:
            refused[name] = problem
        finally:
            connection.close()

    threads = [threading.Thread(target=put_out, args=(name,)) for name in BOTH]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    return refused


def administrators(service) -> list[str]:
    left = Membership.objects.filter(service=service, role=Role.ADMINISTRATOR.value, user__is_active=True)
    return list(left.values_list("user__username", flat=True))


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

    refused = at_once(act)

    assert administrators(None) == [*refused]
    assert [type(one) for one in refused.values()] == [people.LastAdministrator]
    # What the one did, and that the other was refused.
    assert HistoryEvent.objects.count() == rows + 2
    assert len(refused_rows()) == 1


@pytest.mark.parametrize("role", [None, Role.OPERATOR], ids=["taking the role", "demoting"])
@pytest.mark.parametrize(
    ("by", "refusal"),
    [
        pytest.param(lambda name: name, people.LastAdministrator, id="themselves"),
        pytest.param(lambda name: BOTH[name == BOTH[0]], people.NotAdministrator, id="each the other"),
    ],
)
def test_r17_of_two_administrators_of_a_service_who_put_out_at_once_one_stays(role, by, refusal):
    service = a_service("plant")
    for name in BOTH:
        people.add_person(name, role=Role.ADMINISTRATOR, service=service, actor=ALICE)
    rows = HistoryEvent.objects.count()

    refused = at_once(
        lambda name: people.set_role_in_service(
            name, role, service=service, by=User.objects.get(username=by(name)), actor=ALICE
        )
    )

    assert administrators(service) == [*refused]
    assert [type(one) for one in refused.values()] == [refusal]
    # What the one did, and that the other was refused.
    assert HistoryEvent.objects.count() == rows + 2
    assert len(refused_rows()) == 1
