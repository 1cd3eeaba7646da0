"""Whoever is shut out while their request waits for its turn does nothing by it any more (R12, R17)."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from enrollments.actions import deleting, people
from enrollments.actions.api_tokens import add_api_token
from enrollments.models import ApiToken, Membership
from enrollments.models.locks import change_lock
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Right, Role
from enrollments.portal.forms_people import EVERYWHERE
from enrollments.transfer import work
from tests.certificates import root
from tests.devices import ALICE, register
from tests.factories import a_group, a_service, a_user
from tests.portal.addresses import ADDRESSES
from tests.portal.real_requests import GETS, POSTS, Request, request_of
from tests.portal.test_access import BOOKS, newest, rows_since, sent
from tests.portal.world import Somebody, World, a_world, signed_in_as
from tests.tables import changed_tables, refused_rows, tables

ShutOut = Callable[[User], Any]
PATIENCE = 30
# Of what people keep for themselves no more is asked than whether they are let in.
ONES_OWN = {
    name
    for name in POSTS
    if name.endswith(("history-seen", "history-view-save", "history-view-rename", "history-view-delete"))
}
# It says how long the history is and its last hash: nothing is done, and nothing of the history is told.
ONLY_TELLS = {"history-checkpoint-download", "installation-checkpoint-download"}
# This one says so itself, and leaves its own row.
OF_ITS_OWN = {"service-person-role": 409, "service-role-take-away": 409}


def without_role(user: User) -> None:
    Membership.objects.filter(user=user).delete()


def deactivated(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def removed(user: User) -> None:
    User.objects.filter(pk=user.pk).delete()


BOTH = (without_role, deactivated)
DEEDS = [
    pytest.param(address, method, shut_out, id=f"{method}-{address.name}-{shut_out.__name__}")
    for method, table in (("GET", GETS), ("POST", POSTS))
    for address in ADDRESSES
    if address.name in table and address.right is not None and address.name not in ONLY_TELLS
    for shut_out in BOTH
    if address.name not in ONES_OWN or shut_out is deactivated
]


@dataclass
class AtFirstTurn:
    """Before the first transaction of a request begins, which a lock may make wait, this is done by somebody else."""

    do: Callable[[], object]
    stood: dict[str, Any] = field(default_factory=dict)
    is_done: bool = False

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not self.is_done and sql.startswith("SAVEPOINT"):
            self.is_done = True
            self.do()
            self.stood = tables()
        return execute(sql, params, many, context)


def sent_late(request: Request, who: Somebody, shut_out: ShutOut) -> tuple[int, AtFirstTurn]:
    at = AtFirstTurn(lambda: shut_out(who.user))
    with connection.execute_wrapper(at):
        return sent(request, who.client), at


@pytest.fixture
def world(db: None, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("enrollments.portal.views.imports.work_in_background", work.work_on)
    return a_world()


@pytest.mark.parametrize(("address", "method", "shut_out"), DEEDS)
def test_r12_nothing_is_done_for_whoever_was_shut_out_meanwhile(world, address, method, shut_out):
    who = signed_in_as(Role.ADMINISTRATOR, world.service if address.of_service else None, "eve")
    people.add_person("adam", role=Role.ADMINISTRATOR, service=None, actor=ALICE)
    request, rows = request_of(world, address, method, who), newest()

    status, at = sent_late(request, who, shut_out)

    assert at.is_done
    assert status == OF_ITS_OWN.get(address.name, 403)
    assert rows_since(rows) == ["action.refused"]
    assert changed_tables(at.stood) <= BOOKS


def test_page_says_so_and_the_row_says_what_was_tried(world):
    who = signed_in_as(Role.OPERATOR, world.service, "eve")
    address = next(one for one in ADDRESSES if one.name == "enrollment-disable")
    request = request_of(world, address, "POST", who)

    with connection.execute_wrapper(AtFirstTurn(lambda: without_role(who.user))):
        answer = request.sent_by(who.client)

    assert "it needs the right to change entries" in answer.content.decode()
    (row,) = refused_rows()
    assert (row.actor_name, row.subject_name) == ("eve", "keyed-001")
    assert row.after == {"tried": f"POST {request.url}"}


@pytest.mark.parametrize("shut_out", [removed, deactivated])
def test_r12_no_administrator_is_made_by_who_is_none_any_more(world, shut_out):
    who = signed_in_as(Role.ADMINISTRATOR, None, "eve")
    people.add_person("adam", role=Role.ADMINISTRATOR, service=None, actor=ALICE)
    given = {"where": EVERYWHERE, "role": "administrator"}

    status, _ = sent_late(Request("POST", "/people/p/somebody/role/", given), who, shut_out)

    assert status == 403
    assert not Membership.objects.filter(user__username="somebody", role=Role.ADMINISTRATOR.value).exists()


def test_r17_token_of_another_stays_where_who_revokes_it_administers_no_more(world):
    who = signed_in_as(Role.ADMINISTRATOR, world.service, "eve")
    owner = a_user(Role.VIEWER, world.service, "owner")
    rights = [AccessRight.ENROLLMENT_READ]
    token, _ = add_api_token(world.service, owner, "theirs", rights, days=1, actor=ALICE)
    url = f"/services/plant/tokens/revoke/?token={token.pk}"

    def demoted(user: User) -> None:
        Membership.objects.filter(user=user).update(role=Role.VIEWER.value)

    assert sent_late(Request("POST", url, {}), who, demoted)[0] == 403
    assert ApiToken.objects.filter(pk=token.pk).exists()


def test_r17_token_opens_no_more_than_the_role_that_its_owner_has_by_then(world):
    who = signed_in_as(Role.ADMINISTRATOR, world.service, "eve")
    given = {"name": "late", "rights": ["EnrollmentWrite"], "days": "30"}

    def demoted(user: User) -> None:
        Membership.objects.filter(user=user).update(role=Role.VIEWER.value)

    assert sent_late(Request("POST", "/services/plant/tokens/add/", given), who, demoted)[0] == 422
    assert not ApiToken.objects.exists()


def test_r12_of_several_transactions_none_is_made_after_the_role_is_gone(world, monkeypatch):
    """What the first of them denied stays: it was allowed."""
    service, upper = world.service, root("Upper")
    lower = upper.intermediate("Lower")
    a_group(service, "upper", ca=upper)
    group = a_group(service, "lower", ca=lower)
    for number in range(5):
        register(service, lower.leaf(f"line-{number}"))
    user, really, taken = a_user(Role.OPERATOR, service, "eve"), deleting.change_lock, []
    still_may = partial(people.require_person, user.pk, Right.CHANGE_ENTRIES, service)

    def locking(*args: Any, **kwargs: Any) -> Any:
        taken.append(1)
        if len(taken) == 2:
            without_role(user)
        return really(*args, **kwargs)

    monkeypatch.setattr(deleting, "change_lock", locking)
    monkeypatch.setattr(deleting, "DENIED_AT_ONCE", 2)

    with pytest.raises(people.ShutOut):
        deleting.delete_and_deny(service, [group], actor=replace(ALICE, still_may=still_may))

    assert service.enrollmentgroups.filter(pk=group.pk).exists()
    assert service.individualenrollments.filter(registration_id__startswith="line-").count() == 2


@pytest.mark.parametrize("place", ["here", "everywhere"])
def test_r17_giving_up_ones_own_role_is_done_and_recorded(world, place):
    service = world.service if place == "here" else None
    who = signed_in_as(Role.ADMINISTRATOR, service, "eve")
    people.add_person("adam", role=Role.ADMINISTRATOR, service=service, actor=ALICE)
    url = "/services/plant/people/p/eve/take-away/" if service else "/people/p/eve/take-away/?where=*"
    rows = newest()

    assert sent(Request("POST", url, {}), who.client) == 302
    assert rows_since(rows) == ["person.role_changed"]


def test_own_password_and_signing_out_need_no_role(world):
    who = signed_in_as(Role.VIEWER, world.service, "eve")
    without_role(who.user)
    new = "correct horse battery staple"
    given = {"current": who.password, "password": new, "again": new}
    rows = newest()

    assert sent(Request("POST", "/password/", given), who.client) == 302
    assert sent_late(Request("POST", "/sign-out/", {}), who, deactivated)[0] == 302
    assert rows_since(rows) == ["person.password_changed", "person.signed_out"]


@pytest.mark.django_db(transaction=True)
def test_r12_who_shuts_somebody_out_is_answered_when_what_they_were_doing_is_done():
    service = a_service("plant")
    user, order = a_user(Role.OPERATOR, service, "eve"), []
    a_user(Role.ADMINISTRATOR)
    began, deactivates = threading.Event(), threading.Event()

    def act() -> None:
        try:
            with change_lock(service):
                people.require_person(user.pk, Right.CHANGE_ENTRIES, service)
                began.set()
                deactivates.wait(PATIENCE)
                # As long as whoever does not wait would take, and more.
                threading.Event().wait(0.5)
                order.append("done")
        finally:
            connection.close()

    thread = threading.Thread(target=act)
    thread.start()
    assert began.wait(PATIENCE)
    deactivates.set()
    people.set_active("eve", False, actor=ALICE)
    order.append("shut out")
    thread.join(PATIENCE)

    assert order == ["done", "shut out"]
    with change_lock(service), pytest.raises(people.ShutOut):
        people.require_person(user.pk, Right.CHANGE_ENTRIES, service)
