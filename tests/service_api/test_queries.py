"""Queries (contract 6.6): their text, their headers, and pages that hold while others write."""

import threading

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from enrollments.actions.enrollment_groups import add_enrollment_group
from enrollments.actions.enrollments import delete_enrollments
from enrollments.actions.group_specs import GroupSpec
from enrollments.models import IndividualEnrollment, RegistrationRecord
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys, new_service, register, signs
from tests.service_api.conftest import BackEnd, error_of

pytestmark = pytest.mark.django_db

ALL = {"query": "SELECT * FROM enrollments"}


def names(answer):
    return [one["registrationId"] for one in answer.json()]


def pages(api, size=None, path="/enrollments/query", between=lambda: None):
    """Every page, as an SDK goes through them."""
    found, headers = [], {}
    if size is not None:
        headers["x_ms_max_item_count"] = str(size)
    while True:
        answer = api.post(path, ALL, **headers)
        assert answer.status_code == 200, answer.content
        found.append(answer.json())
        if "x-ms-continuation" not in answer:
            return found
        headers["x_ms_continuation"] = answer["x-ms-continuation"]
        between()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM enrollments",
        "select *",
        "SELECT *;",
        "  Select  *  From  EnrollmentGroups ",
        "*",
        "{'additional_properties': {}, 'query': 'SELECT *'}",
        "{'additional_properties': {}, 'query': \"select * from enrollments\"}",
    ],
)
def test_what_means_all(service, api, text):
    enroll_keys(service, "pump-042")

    assert names(api.post("/enrollments/query", {"query": text})) == ["pump-042"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT * FROM enrollments WHERE registrationId = 'x'",
        "SELECT registrationId FROM enrollments",
        "SELECT COUNT(*)",
        "SELECT * FROM enrollments; DROP TABLE enrollments",
        "{'additional_properties': {}, 'query': 'SELECT * FROM enrollments WHERE x'}",
        "{'query': }",
        "*" * 2000,
        "{'query': '" * 90,
    ],
)
def test_what_means_anything_else_is_refused_and_not_answered_with_all(service, api, text):
    enroll_keys(service, "pump-042")

    status, code, message = error_of(api.post("/enrollments/query", {"query": text}))

    assert (status, code) == (400, 400102)
    assert message.startswith("query")


def test_nothing_is_an_empty_list_with_its_type(api):
    for path, item_type in (
        ("/enrollments/query", "Enrollment"),
        ("/enrollmentGroups/query/", "EnrollmentGroup"),
    ):
        answer = api.post(path, ALL)

        assert answer.json() == []
        assert answer["x-ms-item-type"] == item_type
        assert "x-ms-continuation" not in answer


@pytest.fixture
def a_hundred_and_fifty(service):
    spec_of = enroll_keys(service, "first")
    IndividualEnrollment.objects.bulk_create(
        [
            IndividualEnrollment(
                service=service,
                registration_id=f"pump-{number:03}",
                registration_key=f"pump-{number:03}",
                mechanism="symmetricKey",
                primary_key=spec_of.primary_key,
                secondary_key=spec_of.secondary_key,
            )
            for number in range(149)
        ]
    )
    return ["first", *(f"pump-{number:03}" for number in range(149))]


@pytest.mark.parametrize(
    ("size", "lengths"),
    [
        (50, [50, 50, 50]),
        (1, [1] * 150),
        (None, [100, 50]),
        (149, [149, 1]),
        (150, [150]),
        (999999999, [150]),
    ],
)
def test_pages_of_every_size_hold_everything_once(api, a_hundred_and_fifty, size, lengths):
    found = pages(api, size)

    assert [len(page) for page in found] == lengths
    assert [one["registrationId"] for page in found for one in page] == a_hundred_and_fifty


def test_a_page_costs_a_fixed_number_of_queries(api, service):
    for number in range(3):
        enroll_device(service, self_signed(f"pump-{number}"), hubs=tuple(service.hubs.all()))

    def cost(size):
        with CaptureQueriesContext(
            connection,
        ) as taken:
            api.post("/enrollments/query", ALL, x_ms_max_item_count=str(size))
        return len(taken)

    assert cost(1) == cost(3)


def test_keys_are_not_even_read(api, service, a_hundred_and_fifty):
    with CaptureQueriesContext(connection) as taken:
        api.post("/enrollments/query", ALL)

    assert not [
        one["sql"] for one in taken if '"enrollments_individualenrollment"."primary_key"' in one["sql"]
    ]


def test_what_is_there_throughout_comes_once_whatever_is_written_meanwhile(api, service, a_hundred_and_fifty):
    """Between any two pages: one is deleted that was told, one that was not, one is changed, one is added."""
    turn = iter(range(1000))
    gone, added = set(), []

    def write():
        number = next(turn)
        for victim in (f"pump-{number:03}", f"pump-{148 - number:03}"):
            if victim not in gone:
                delete_enrollments(service, [victim], actor=ALICE)
                gone.add(victim)
        added.append(enroll_keys(service, f"new-{number}").registration_id)
        api.put(
            "/enrollments/first",
            {"registrationId": "first", "attestation": {"type": "symmetricKey"}, "deviceId": f"d{number}"},
            If_Match="*",
        )

    found = [one["registrationId"] for page in pages(api, 10, between=write) for one in page]

    assert len(found) == len(set(found))
    assert set(a_hundred_and_fifty) - gone <= set(found)
    assert set(found) <= set(a_hundred_and_fifty) | set(added)


@pytest.mark.django_db(transaction=True)
def test_the_same_with_writers_that_do_not_wait(api, service, a_hundred_and_fifty):
    stop = threading.Event()

    def write(number):
        turn = 0
        try:
            while not stop.is_set():
                name = f"w{number}-{turn}"
                enroll_keys(service, name)
                delete_enrollments(service, [name], actor=ALICE)
                turn += 1
        finally:
            connection.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    try:
        found = [one["registrationId"] for page in pages(BackEnd(api.authorization), 7) for one in page]
    finally:
        stop.set()
        for writer in writers:
            writer.join()

    assert len(found) == len(set(found))
    assert [name for name in found if not name.startswith("w")] == a_hundred_and_fifty


@pytest.mark.parametrize("size", ["0", "-1", "many", "1.5", "١", "9" * 30])
def test_page_sizes_that_are_none(api, size):
    status, _code, message = error_of(api.post("/enrollments/query", ALL, x_ms_max_item_count=size))

    assert status == 400
    assert message.startswith("x-ms-max-item-count")


def first_continuation(api, path="/enrollments/query"):
    return api.post(path, ALL, x_ms_max_item_count="1")["x-ms-continuation"]


def test_a_continuation_belongs_to_its_query(api, service, a_hundred_and_fifty):
    ca, other = root("One"), root("Two")
    enroll_ca(service, ca, "one")
    enroll_ca(service, other, "two")
    for name in ("a", "b"):
        register(service, ca.leaf(name))
    of_enrollments = first_continuation(api)
    of_records = first_continuation(api, "/registrations/one/query")

    for path, token in (
        ("/enrollmentGroups/query", of_enrollments),
        ("/registrations/one/query", of_enrollments),
        ("/registrations/two/query", of_records),
        ("/enrollments/query", of_records),
    ):
        assert error_of(api.post(path, ALL, x_ms_continuation=token))[:2] == (400, 400103)
    (last,) = api.post("/registrations/one/query", x_ms_continuation=of_records).json()
    assert last["registrationId"] == "b"


@pytest.mark.parametrize(
    "tamper",
    [
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: "x" + token,
        lambda token: token.partition(":")[0],
        lambda token: "W10=",
        lambda token: "é",
    ],
)
def test_a_continuation_that_was_not_given_out_is_refused(api, a_hundred_and_fifty, tamper):
    token = tamper(first_continuation(api))

    assert error_of(api.post("/enrollments/query", ALL, x_ms_continuation=token))[:2] == (400, 400103)


def test_nothing_of_another_service_is_told(api, service):
    other = new_service("lab")
    service.host_name = "dps.example"
    service.save()
    enroll_keys(other, "theirs")
    add_enrollment_group(
        other, GroupSpec(group_id="theirs", certificates={"primary": root("Lab").parsed}), actor=ALICE
    )

    assert api.post("/enrollments/query", ALL).json() == []
    assert api.post("/enrollmentGroups/query", ALL).json() == []


def test_records_of_a_group_need_no_body(api, service):
    ca = root("One")
    enroll_ca(service, ca, "one")
    register(service, ca.leaf("a"))

    for body in (None, {}, ALL):
        assert names(api.post("/registrations/one/query", body)) == ["a"]


@pytest.mark.parametrize("reason", ["not_enrolled", "key_unproven", "no_valid_path"])
def test_record_of_a_device_that_was_refused_while_it_was_being_assigned_is_told(api, service, reason):
    """Its entry was deleted while a webhook or a remote hub was asked: no cause that a hub has."""
    entry = enroll_keys(service, "pump-042")
    register(service, signs(service, "pump-042", entry.primary_key), "pump-042")
    RegistrationRecord.objects.update(status="failed", substatus="", reason=reason)

    answer = api.get("/registrations/pump-042")

    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert (told["status"], told["errorCode"]) == ("failed", 400209)
