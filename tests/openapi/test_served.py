"""Where the document is served, and that serving it costs little."""

import json

import pytest
from django.test import Client

from enrollments.openapi.document import document
from enrollments.openapi.version import project_version
from enrollments.openapi.views import _made
from tests.devices import new_service
from tests.service_api.conftest import error_of


@pytest.fixture
def _device_listener(settings):
    settings.ROOT_URLCONF = "dpsportal.device_urls"
    settings.MIDDLEWARE = ["dpsportal.request_log.RequestLogMiddleware"]


@pytest.fixture(params=["device", "portal"])
def listener(request):
    if request.param == "device":
        request.getfixturevalue("_device_listener")
    return request.param


def test_both_listeners_serve_it_to_anybody(listener):
    """And without the database, which no test here can reach but the last."""
    answer = Client().get("/openapi.json")

    told = answer.json()
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json; charset=utf-8"
    assert answer["Content-Length"] == str(len(answer.content))
    assert told["info"]["version"] == project_version()
    assert told["paths"] == json.loads(json.dumps(document()["paths"]))
    assert told["servers"][0]["url"] == ("/" if listener == "device" else "https://localhost:8443")


def test_it_is_made_once_and_asked_for_again_for_nothing(listener):
    first = Client().get("/openapi.json")
    made = _made.cache_info().misses

    again = Client().get("/openapi.json", headers={"If-None-Match": first["ETag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert _made.cache_info().misses == made
    assert first["Cache-Control"] == "no-cache"
    assert Client().get("/openapi.json", headers={"If-None-Match": '"x"'}).status_code == 200


def test_head_is_told_the_length(listener):
    answer = Client().head("/openapi.json")

    assert answer.content == b""
    assert int(answer["Content-Length"]) > 50_000


@pytest.mark.usefixtures("_device_listener")
def test_other_methods_are_refused_with_the_error_body():
    answer = Client().post("/openapi.json")

    assert error_of(answer)[:2] == (405, 405001)
    assert answer["Allow"] == "GET, HEAD"


def test_nothing_of_this_installation_is_in_it(db, settings):
    service = new_service("secret-plant")

    text = json.dumps(document())

    assert service.id_scope not in text
    assert service.name not in text
    assert str(settings.DPS_DATA_DIR) not in text
