"""Rows that are made and written without what Django does for each: the same rows."""

import pytest

from enrollments.models import Certificate, HeldCertificate, HistoryEvent, IndividualEnrollment
from enrollments.models.inserting import made, numbers_by, update_all
from tests.devices import enroll_keys, new_service

pytestmark = pytest.mark.django_db
MADE_ANEW = {"etag"}


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (IndividualEnrollment, {"service_id": 3, "registration_id": "a", "enabled": False}),
        (Certificate, {"subject": "CN=a", "is_ca": False}),
        (HeldCertificate, {"service_id": 3, "certificate_id": 4, "role": "device"}),
        (HistoryEvent, {"event": "x", "after": {"a": 1}}),
    ],
)
def test_a_row_that_is_made_is_what_calling_the_model_makes(model, values):
    one, other = made(model, **values), model(**values)

    held = [
        {name: value for name, value in row.__dict__.items() if name not in {"_state", *MADE_ANEW}}
        for row in (one, other)
    ]
    assert held[0] == held[1]
    states = [(row._state.adding, row._state.db, row._state.fields_cache) for row in (one, other)]
    assert states[0] == states[1]
    assert all(getattr(one, name) for name in MADE_ANEW if hasattr(other, name))


def test_what_is_made_anew_is_nobody_elses():
    one, other = made(IndividualEnrollment), made(IndividualEnrollment)

    one.initial_twin["tags"]["a"] = 1

    assert other.initial_twin["tags"] == {}
    assert one.etag != other.etag


def test_a_column_that_nobody_knows_is_refused():
    with pytest.raises(TypeError, match="IndividualEnrollment has no colour"):
        made(IndividualEnrollment, colour="red")


def test_only_the_columns_that_are_named_are_written():
    service = new_service()
    entry = enroll_keys(service, "a")
    before = IndividualEnrollment.objects.values().get()
    entry.device_id, entry.iot_edge, entry.registration_id = "x", True, "not written"
    entry.initial_twin = {"tags": {"a": True}, "properties": {"desired": {}}}

    update_all([entry], ("device_id", "iot_edge", "initial_twin", "updated_at"))

    after = IndividualEnrollment.objects.values().get()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"device_id", "iot_edge", "initial_twin", "updated_at"}
    assert after["initial_twin"]["tags"] == {"a": True}
    assert after["updated_at"] == entry.updated_at


def test_numbers_are_of_the_rows_that_are_asked_for():
    service, other = new_service(), new_service("other")
    one = enroll_keys(service, "a")
    enroll_keys(service, "b")
    enroll_keys(other, "a")

    found = numbers_by(IndividualEnrollment, "registration_key", ["a", "c"], service_id=service.pk)

    assert found == {"a": one.pk}
    assert numbers_by(IndividualEnrollment, "registration_key", []) == {}
