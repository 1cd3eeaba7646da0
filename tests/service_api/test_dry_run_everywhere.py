"""No operation is carried out for whoever asked for a rehearsal, however that was spelled; each route is tried."""

import pytest
from django.apps import apps

from enrollments.service_api.operations import DRY_RUN
from tests.service_api.conftest import error_of
from tests.service_api.every_route import ROUTES, ask, fill

pytestmark = pytest.mark.django_db

each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation.name)


@pytest.fixture
def call(api, service):
    """One operation on what is there."""
    fill(service)
    return lambda route, query: ask(api, route, query)


def database():
    return {model: list(model.objects.order_by("pk").values()) for model in apps.get_models()}


def rehearses(route):
    return all(one in route.operation.takes for one in DRY_RUN)


def writes(route):
    """That somebody was shown keys is a row of the history."""
    return "query" not in route.path and route.method != "GET"


@each_route
def test_each_route_does_something_here_unless_it_only_reads(call, route):
    before = database()

    answer = call(route, "")

    assert answer.status_code in (200, 204), answer.content
    assert (database() != before) == writes(route)


@each_route
def test_a_dry_run_of_any_route_changes_nothing(call, route):
    before = database()

    answer = call(route, "&dryRun=true")

    if rehearses(route):
        assert (answer.status_code, answer.json()["dryRun"]) == (200, True)
    else:
        assert error_of(answer)[:2] == (400, 400102)
    assert database() == before


@each_route
@pytest.mark.parametrize(
    "query",
    [
        "dryrun=true",
        "DRYRUN=TRUE",
        "dry_run=true",
        "dry-run=true",
        "dryRun%20=true",
        "dryRun[]=true",
        "dryRun=true&dryRun=false",
        "dryRun=false&dryRun=true",
        "dryRun=false&dryrun=true",
        "dryRun=",
        "dryRun",
        "dryRun=yes",
        "dryRun=1",
        "dryRun=nonsense",
        "dryRun=true%20",
        "epoch=",
        "epoch=x",
        "epoch=-1",
        "Epoch=0",
        "epoch=0&epoch=1",
        "epoch=1&dryRun=2",
    ],
)
def test_what_cannot_be_understood_is_refused_by_any_route(call, route, query):
    before = database()

    assert error_of(call(route, f"&{query}"))[:2] == (400, 400102)
    assert database() == before


@each_route
def test_whatever_changes_something_can_be_rehearsed(route):
    reveals = route.path.endswith("/attestationmechanism")

    assert rehearses(route) == (writes(route) and not reveals)


@each_route
def test_no_route_does_anything_on_an_epoch_that_has_passed_but_shutting_out(call, route):
    before = database()

    answer = call(route, "&epoch=0")

    if route.method == "PUT" and rehearses(route):
        assert (answer.status_code, answer.json()["provisioningStatus"]) == (200, "disabled")
        return
    code = error_of(answer)[1]
    assert code == (412002 if rehearses(route) else 400102)
    assert database() == before


def test_what_has_another_name_is_no_rehearsal(call):
    """Clients send parameters that we do not know."""
    delete = next(route for route in ROUTES if route.operation.name == "deleteEnrollment")

    assert call(delete, "&x-trace=dryRun").status_code == 204
