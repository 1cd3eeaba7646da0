"""What every route leaves in the history, done and refused, for every right of a policy and every role (R15, R17)."""

from dataclasses import dataclass
from itertools import product

import pytest

from enrollments.actions.access_counts import write_down_failures
from enrollments.actions.access_policies import add_policy
from enrollments.actions.api_tokens import add_api_token
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.openapi.routes import Route
from enrollments.policy.access import AccessRight, rights_within
from enrollments.policy.roles import Right, Role
from tests.devices import ALICE
from tests.factories import a_user
from tests.service_api.conftest import BackEnd, error_of, with_policy
from tests.service_api.every_route import ROUTES, ask, fill
from tests.tables import changed_tables, tables

pytestmark = pytest.mark.django_db

# By operation; those that are not here only read.
ROWS = {
    "putEnrollment": ["enrollment.disabled"],
    "deleteEnrollment": ["enrollment.deleted"],
    "getEnrollmentKeys": ["keys.revealed"],
    "bulkEnrollments": ["enrollment.deleted"],
    "putEnrollmentGroup": ["group.disabled"],
    "deleteEnrollmentGroup": ["group.deleted"],
    "getEnrollmentGroupKeys": ["keys.revealed"],
    "bulkEnrollmentGroups": ["group.deleted"],
    "deleteRegistration": ["registration.deleted"],
}
SHOW_KEYS = {"getEnrollmentKeys", "getEnrollmentGroupKeys"}
# Their answer has the keys of what was there before, for those who may see them.
TELL_KEYS = {"putEnrollment", "putEnrollmentGroup"}
# The history, and when a token was used.
BOOKS = {"HistoryEvent", "UnsealedEvent", "HistorySeal", "ApiToken"}


@dataclass(frozen=True)
class Holder:
    """Somebody with a credential for one right: a policy, or a person with a token and a role."""

    right: AccessRight
    role: Role | None = None
    everywhere: bool = False

    def __str__(self) -> str:
        return f"{self.right.value}-{self.role or 'policy'}{'-everywhere' * self.everywhere}"

    def may(self, route: Route) -> bool:
        if self.right.value != route.right:
            return False
        if self.role is not None and self.right not in rights_within(self.role):
            return False
        return self.sees_keys or route.operation.name not in SHOW_KEYS

    def rows(self, route: Route) -> list[str]:
        told = self.sees_keys and route.operation.name in TELL_KEYS
        return [*ROWS.get(route.operation.name, []), *["keys.revealed"] * told]

    @property
    def sees_keys(self) -> bool:
        return self.role is None or Right.REVEAL_KEYS in self.role.rights

    def back_end(self, service: ProvisioningService) -> BackEnd:
        """A token is as an administrator was given it whose role has changed since: it gives what that one reaches."""
        if self.role is None:
            return with_policy(add_policy(service, str(self), [self.right], actor=ALICE))
        user = a_user(Role.ADMINISTRATOR, None if self.everywhere else service, str(self))
        _, text = add_api_token(service, user, "laptop", [self.right], days=1, actor=ALICE)
        user.memberships.update(role=self.role.value)
        return BackEnd(f"Bearer {text}")


HOLDERS = [
    Holder(right, role, everywhere)
    for right in AccessRight
    for role, everywhere in [(None, False), *product(Role, (False, True))]
]
DONE = [
    pytest.param(route, holder, id=f"{route.operation.name}-{holder}")
    for route, holder in product(ROUTES, HOLDERS)
    if holder.may(route)
]


def newest() -> int:
    return HistoryEvent.objects.latest("pk").pk


def rows_since(pk: int) -> list[str]:
    return list(HistoryEvent.objects.filter(pk__gt=pk).order_by("pk").values_list("event", flat=True))


def test_rows_are_expected_of_routes_that_there_are():
    assert {*ROWS, *SHOW_KEYS} <= {route.operation.name for route in ROUTES}


@pytest.mark.parametrize(("route", "holder"), DONE)
def test_r15_r17_what_a_right_allows_is_done_and_leaves_its_rows(service, route, holder):
    fill(service)
    back_end = holder.back_end(service)
    before, rows = tables(), newest()

    answer = ask(back_end, route)

    assert answer.status_code in (200, 204)
    assert rows_since(rows) == holder.rows(route)
    assert (changed_tables(before) <= BOOKS) is (route.operation.name not in {*ROWS} - SHOW_KEYS)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation.name)
def test_r15_r17_what_no_right_allows_changes_nothing_and_leaves_one_row(service, route):
    fill(service)
    for holder in HOLDERS:
        # Where a role is held makes no difference to what is done, and is tried there.
        if holder.may(route) or holder.everywhere:
            continue
        back_end = holder.back_end(service)
        before, rows = tables(), newest()

        assert error_of(ask(back_end, route))[:2] == (403, 403002)

        assert rows_since(rows) == ["action.refused"]
        assert HistoryEvent.objects.latest("pk").actor_name == str(holder)
        assert changed_tables(before) <= BOOKS


@pytest.mark.usefixtures("time_stands_still")
def test_r15_whoever_is_not_let_in_is_counted_and_changes_nothing(service):
    """Who has proven nothing is nobody: the first has its row, the others are counted until the window has ended."""
    fill(service)
    before, rows = tables(), newest()

    for route in ROUTES:
        assert ask(BackEnd("Bearer dpst_nobody"), route).status_code in (401, 429)

    assert rows_since(rows) == []
    write_down_failures()
    assert rows_since(rows) == ["token.authentication_failed"]
    assert changed_tables(before) <= {*BOOKS, "SignInFailures"}
