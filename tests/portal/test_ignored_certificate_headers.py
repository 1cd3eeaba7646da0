"""Requests with a certificate in a header that is not believed: counted by the listener, shown to whom it concerns."""

import json
import logging

import pytest
from django.db import DatabaseError
from django.test import Client

from dpsportal import certificate_headers
from dpsportal.request_log import JsonLineFormatter
from enrollments.models import IgnoredCertificateHeader
from enrollments.policy.roles import Role
from tests.factories import a_service, a_user

NOTICE = "carried a client certificate in a header that is not believed"
# As the listener sets it for a request that had such headers.
CARRYING = {
    "dps.listener": "portal",
    "dps.listener_name": "portal",
    "dps.ignored_certificate_headers": ("Client-Cert", "X-Client-Cert"),
    "REMOTE_ADDR": "198.51.100.7",
}


def page_for(role: Role, *, everywhere: bool) -> str:
    client = Client()
    client.force_login(a_user(role, None if everywhere else a_service("plant")))
    return client.get("/").content.decode()


def test_a_request_counts_once_however_many_such_headers_it_has(client, db):
    client.get("/healthz", **CARRYING)

    row = IgnoredCertificateHeader.objects.get()
    assert (row.listener, row.header, row.count, row.last_address) == (
        "portal",
        "Client-Cert",
        1,
        "198.51.100.7",
    )


def test_a_request_without_counts_nothing(client, db):
    client.get("/healthz")

    assert not IgnoredCertificateHeader.objects.exists()


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "in a service"])
def test_administrators_of_the_installation_are_told_and_nobody_else(client, db, role, everywhere):
    client.get("/healthz", **CARRYING)

    told = NOTICE in page_for(role, everywhere=everywhere)

    assert told is (everywhere and role is Role.ADMINISTRATOR)


def test_the_notice_says_how_many_and_where_the_last_came_from(client, db):
    for _ in range(3):
        client.get("/healthz", **CARRYING)

    page = " ".join(page_for(Role.ADMINISTRATOR, everywhere=True).split())

    assert f"3 requests in the last 7 days {NOTICE}" in page
    assert "198.51.100.7" in page
    assert "on the portal listener" in page
    assert "docs/behind-a-proxy.md" in page


def test_nothing_counted_shows_nothing(db):
    assert NOTICE not in page_for(Role.ADMINISTRATOR, everywhere=True)


def test_the_notice_costs_one_query(db, client, django_assert_num_queries):
    client.force_login(a_user(Role.ADMINISTRATOR))
    client.get("/healthz", **CARRYING)

    with django_assert_num_queries(7):
        client.get("/")


def test_a_count_that_fails_is_told_and_the_request_goes_on(client, db, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(certificate_headers, "count_ignored_certificate_header", fail)

    assert client.get("/healthz", **CARRYING).status_code == 200
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "A request with Client-Cert, X-Client-Cert could not be counted."


@pytest.mark.parametrize(
    ("extra", "logged"), [(CARRYING, ["Client-Cert", "X-Client-Cert"]), ({}, None)], ids=["with", "without"]
)
def test_the_log_line_names_the_headers(client, db, caplog, extra, logged):
    with caplog.at_level(logging.INFO, "dpsportal.requests"):
        client.get("/healthz", **extra)

    (line,) = [JsonLineFormatter().format(record) for record in caplog.records]
    assert json.loads(line).get("ignored_certificate_headers") == logged
