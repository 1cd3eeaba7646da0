"""The page says what the document says, to anybody, and loads nothing from elsewhere."""

import re

import pytest
from django.test import Client

from enrollments.openapi.document import document
from enrollments.openapi.reading import reading
from enrollments.policy.roles import Role
from tests.factories import a_user

SERVER = "https://localhost:8443"


@pytest.fixture
def page():
    answer = Client().get("/docs/api/")
    assert answer.status_code == 200
    return answer.content.decode()


def test_nobody_has_to_sign_in_and_the_database_is_not_asked(page):
    assert "API reference" in page


def test_every_operation_with_its_codes_and_every_model_is_on_it(page):
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            assert f'id="{operation["operationId"]}"' in page, f"{method} {path}"
            assert path in page
    for name, model in document()["components"]["schemas"].items():
        assert f'id="model-{name}"' in page
        for member in model.get("properties", {}):
            assert member in page
    codes = set(re.findall(r"- `(\d+)`", str(document())))
    assert len(codes) > 20
    assert {code for code in codes if f">{code}<" not in page} == set()


def test_every_link_within_the_page_leads_somewhere_and_no_id_stands_twice(page):
    ids = re.findall(r'\bid="([^"]+)"', page)

    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) - set(ids) == set()


def test_nothing_is_inline_and_nothing_comes_from_other_hosts(page):
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon\w+=\"", page)
    sources = re.findall(r'<(?:script|link|img|use)[^>]*(?:src|href)="([^"]+)"', page)
    assert sources
    assert [source for source in sources if not source.startswith("/")] == []


def test_examples_call_the_listener_with_the_examples_of_the_document():
    shown = {one.anchor: one for group in reading(SERVER).groups for one in group.operations}

    assert shown["register"].curl.startswith(
        "curl -X PUT 'https://localhost:8443/0ne12345678/registrations/pump-042/register?api-version=2021-10-01'"
    )
    assert '"registrationId": "pump-042"' in shown["putEnrollment"].curl
    assert all("{" not in one.curl.splitlines()[0] for one in shown.values())


def test_who_is_signed_in_finds_it_in_the_navigation(db):
    client = Client()
    client.force_login(a_user(Role.VIEWER))

    assert 'href="/docs/api/"' in client.get("/").content.decode()
    assert 'aria-current="page"' in client.get("/docs/api/").content.decode()
