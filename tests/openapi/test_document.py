"""The document is valid, complete and true. That answers are as declared is held by every test of the two APIs."""

import json
from dataclasses import replace

import pytest
from django.http import JsonResponse
from openapi_spec_validator import OpenAPIV31SpecValidator

from dpsportal.device_urls import urlpatterns as device_patterns
from enrollments.device_api import urls as device_urls
from enrollments.openapi import routes as routes_module
from enrollments.openapi.document import DIALECT, document
from enrollments.openapi.routes import Undeclared, routes
from enrollments.service_api import urls as service_urls
from tests.openapi.conformance import check_answer, operation_of, problems_with

# What the listener serves beside the two APIs: for load balancers, and the document itself.
NO_PART_OF_AN_API = {"healthz", "readyz", "openapi.json"}


def operations():
    return [
        pytest.param(path, method, operation, id=f"{method} {path}")
        for path, item in document()["paths"].items()
        for method, operation in item.items()
    ]


each_operation = pytest.mark.parametrize(("path", "method", "operation"), operations())


def test_document_is_valid_openapi_3_1():
    assert [error.message for error in OpenAPIV31SpecValidator(document()).iter_errors()] == []
    assert document()["openapi"].startswith("3.1.")
    assert document()["jsonSchemaDialect"] == DIALECT


def test_a_document_that_is_wrong_would_be_noticed():
    wrong = json.loads(json.dumps(document()))
    wrong["components"]["schemas"]["Error"]["properties"]["message"]["type"] = "text"

    assert list(OpenAPIV31SpecValidator(wrong).iter_errors())


def test_every_path_of_the_listener_is_declared_or_known_to_be_no_part_of_an_api():
    alone = {str(one.pattern) for one in device_patterns if not hasattr(one, "url_patterns")}
    included = [one.url_patterns for one in device_patterns if hasattr(one, "url_patterns")]

    assert alone == NO_PART_OF_AN_API
    assert included == [service_urls.urlpatterns, device_urls.urlpatterns]


def test_a_route_without_a_declaration_is_an_error(monkeypatch):
    def nothing(request, caller, name): ...

    pattern = service_urls._path("enrollments/{registrationId}/nothing", GET=nothing)
    monkeypatch.setattr(routes_module.service_urls, "urlpatterns", [pattern])

    with pytest.raises(Undeclared, match=r"GET /enrollments/\{registrationId\}/nothing"):
        list(routes())


def test_each_operation_has_a_name_of_its_own():
    names = [route.operation.name for route in routes()]

    assert len(names) == len(set(names)) == 18


@each_operation
def test_examples_are_as_their_schemas_say(path, method, operation):
    contents = [operation.get("requestBody", {}), *operation["responses"].values()]
    for content in [one["content"]["application/json"] for one in contents if "content" in one]:
        if "example" in content:
            assert problems_with(content["schema"], content["example"]) == []
    for parameter in operation["parameters"]:
        if "example" in parameter:
            assert problems_with(parameter["schema"], parameter["example"]) == []


@each_operation
def test_each_operation_says_what_every_call_may_meet(path, method, operation):
    assert {"400", "401", "404", "429", "500"} <= operation["responses"].keys()
    assert operation["security"]
    for answer in operation["responses"].values():
        assert "x-ms-request-id" in answer["headers"]


def test_rights_stand_with_the_operations_that_need_them():
    assert operation_of("PUT", "/enrollments/x")["security"] == [
        {"accessPolicy": ["EnrollmentWrite"]},
        {"apiToken": ["EnrollmentWrite"]},
    ]


def _answer(**changed):
    body = {"errorCode": 404201, "trackingId": "x", "message": "x", "timestampUtc": "2026-01-01T00:00:00Z"}
    answer = JsonResponse({**body, **changed}, status=404)
    answer["x-ms-request-id"] = "3f0c9e4e-6a1c-4b53-9f0b-3c1b1d9f7d11"
    answer["x-ms-error-code"] = "404201"
    return answer


def test_an_answer_that_is_declared_passes():
    check_answer("GET", "/enrollments/x", _answer())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda answer: setattr(answer, "status_code", 418), id="status"),
        pytest.param(lambda answer: answer.headers.pop("x-ms-error-code"), id="header"),
        pytest.param(lambda answer: setattr(answer, "content", _answer(errorCode=404202).content), id="code"),
        pytest.param(lambda answer: setattr(answer, "content", _answer(extra=1).content), id="member"),
    ],
)
def test_an_answer_that_is_not_declared_is_noticed(change):
    answer = _answer()
    change(answer)

    with pytest.raises(AssertionError):
        check_answer("GET", "/enrollments/x", answer)


def test_a_declaration_is_what_the_document_tells(monkeypatch):
    view = next(iter(device_urls.urlpatterns)).callback.methods["PUT"]
    monkeypatch.setattr(view, "operation", replace(view.operation, summary="Something else"))

    made = document.__wrapped__()

    assert (
        made["paths"]["/{idScope}/registrations/{registrationId}/register"]["put"]["summary"]
        == "Something else"
    )
