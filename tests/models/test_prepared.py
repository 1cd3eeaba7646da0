"""Prepared queries answer what Django's own do, whoever asks, with whatever values."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import Q, QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.models import HubDevice, IndividualEnrollment, LinkedHub
from enrollments.models.prepared import Prepared, update_row
from tests.devices import enroll_keys, new_service

made: list[str] = []


@Prepared
def named(service: int, name: str) -> "QuerySet[IndividualEnrollment]":
    made.append("named")
    return IndividualEnrollment.objects.filter(service=service, registration_key=name).select_related(
        "service"
    )


@Prepared
def among(
    service: int, names: list[str], since: object, enabled: bool
) -> "QuerySet[IndividualEnrollment, str]":
    made.append("among")
    asked = Q(service=service, registration_key__in=names, created_at__gte=since, enabled=enabled)
    found = IndividualEnrollment.objects.filter(asked).order_by("registration_key")
    return found.values_list("registration_key", flat=True)


@pytest.fixture
def service(db):
    made.clear()
    return new_service()


def test_rows_are_those_of_the_query_with_what_was_joined(service, django_assert_num_queries):
    key = enroll_keys(service, "pump-042").primary_key
    with django_assert_num_queries(1):
        found = named.one(service.pk, "pump-042")
        assert found.service.name == service.name

    assert found == IndividualEnrollment.objects.get()
    assert found.primary_key == key
    assert named(service.pk, "pump-43") == []
    assert named.one(service.pk, "pump-43") is None


def test_it_is_made_once_for_each_form(service):
    """Lists are filled up to powers of two: three names are asked about as four."""
    names = [f"pump-{n}" for n in range(6)]
    for name in names:
        enroll_keys(service, name, enabled=name != "pump-3")
    past = timezone.now() - timedelta(hours=1)

    for length in range(1, 7):
        wanted = [name for name in names[:length] if name != "pump-3"]
        assert among(service.pk, names[:length], past, enabled=True) == wanted
        assert among(service.pk, names[:length], past, enabled=False) == [*names[3:4]][: max(0, length - 3)]
    assert among(service.pk, names, timezone.now() + timedelta(hours=1), enabled=True) == []
    # 1, 2, 4 and 8, both ways; unless an earlier test of this process had them made.
    assert made.count("among") <= 8


def test_text_of_a_statement_is_the_same_for_all_values(service):
    """What the database prepares it need not prepare again; and no value becomes a part of the statement."""
    hostile = "x' OR 1=1 --%s"
    with CaptureQueriesContext(connection):
        assert named(service.pk, hostile) == []
    statements = []

    def noted(execute, sql, params, many, context):
        statements.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(noted):
        named(service.pk, hostile)
        named(service.pk, "pump-042")

    assert statements[0][0] == statements[1][0]
    assert hostile in statements[0][1]
    assert hostile not in statements[0][0]


@pytest.mark.django_db(transaction=True)
def test_threads_ask_over_their_own_connections():
    service = new_service("threads")
    for number in range(8):
        enroll_keys(service, f"pump-{number}")
    named(service.pk, "pump-0")
    found, start = {}, threading.Barrier(8)

    def ask(number):
        try:
            start.wait()
            found[number] = [named.one(service.pk, f"pump-{number}").registration_id for _ in range(50)]
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {number: [f"pump-{number}"] * 50 for number in range(8)}


def test_update_writes_the_named_fields_alone(service):
    hub = LinkedHub.objects.get(service=service)
    row = HubDevice.objects.create(
        hub=hub, device_id="pump-042", device_key="pump-042", registration_key="pump-042"
    )
    row.primary_key, row.twin, row.iot_edge = "a secret", {"tags": {"a": 1}}, True

    assert update_row(row, ("primary_key", "twin"))

    stored = HubDevice.objects.get()
    assert (stored.primary_key, stored.twin, stored.iot_edge) == ("a secret", {"tags": {"a": 1}}, False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT primary_key FROM enrollments_hubdevice")
        assert "a secret" not in cursor.fetchone()[0]


def test_update_of_a_row_that_is_gone_says_so(service):
    hub = LinkedHub.objects.get(service=service)
    row = HubDevice.objects.create(
        hub=hub, device_id="pump-042", device_key="pump-042", registration_key="pump-042"
    )
    HubDevice.objects.all().delete()
    row.pk = row.pk or 1

    assert not update_row(row, ("iot_edge",))


@Prepared
def in_role(service: int, role: str) -> "QuerySet[IndividualEnrollment, str]":
    found = IndividualEnrollment.objects.filter(service=service, registration_key=role).exclude(
        device_id="%s it's"
    )
    return found.values_list("registration_key", flat=True)


def test_what_never_changes_is_part_of_the_statement_on_postgresql(service):
    """So that one plan is good for all values, and indexes that leave something out are known to fit."""
    enroll_keys(service, "pump-042")

    for _ in range(2):
        assert in_role(service.pk, "pump-042") == ["pump-042"]

    (compiled,) = in_role._compiled.values()
    constants = [one for one in compiled._parameters if isinstance(one, str)]
    if connection.vendor == "postgresql":
        assert "'%%s it''s'" in compiled._sql
        assert constants == []
    else:
        assert constants == ["%s it's"]
