"""Bulk operations (contract 6.7): each mode, each error with its entry, and nothing done where the whole is wrong."""

import pytest

from enrollments.models import EnrollmentGroup, HistoryEvent, IndividualEnrollment
from tests.certificates import root
from tests.devices import enroll_keys
from tests.service_api.conftest import error_of, keys
from tests.service_api.test_enrollments import signing

pytestmark = pytest.mark.django_db


def run(api, mode, *entries, path="/enrollments", member="enrollments"):
    answer = api.post(path, {"mode": mode, member: list(entries)})
    assert answer.status_code == 200, answer.content
    return answer.json()


def told(result):
    return [(one["registrationId"], one["errorCode"]) for one in result["errors"]]


def creating(*entries, **members):
    return {"mode": "create", "enrollments": list(entries), **members}


DONE = {"isSuccessful": True, "errors": []}


def test_create(api):
    assert run(api, "create", keys("a"), keys("b")) == DONE
    assert IndividualEnrollment.objects.count() == 2

    result = run(api, "create", keys("b"), keys("c"))

    assert result["isSuccessful"] is False
    assert told(result) == [("b", 409201)]
    assert all(one["errorStatus"] for one in result["errors"])
    assert IndividualEnrollment.objects.count() == 3


def test_update(api, service):
    etag = enroll_keys(service, "a").etag
    enroll_keys(service, "b")

    result = run(
        api,
        "update",
        keys("a", etag=etag, deviceId="one"),
        keys("b", deviceId="two"),
        keys("nobody", etag="x"),
        keys("nobody"),
    )

    # As recorded: without an etag nothing that exists is changed.
    assert told(result) == [("b", 409201), ("nobody", 404201), ("nobody", 404201)]
    assert list(IndividualEnrollment.objects.order_by("pk").values_list("device_id", flat=True)) == [
        "one",
        "",
    ]


def test_update_changes_whatever_is_there_where_the_etag_is_an_older_one(api, service):
    enroll_keys(service, "a")

    assert run(api, "update", keys("a", etag="older", deviceId="one")) == DONE
    assert run(api, "update", keys("a", etag="*", deviceId="two")) == DONE


def test_update_if_the_etag_fits(api, service):
    etag = enroll_keys(service, "a").etag

    first = run(api, "updateIfMatchETag", keys("a", etag=f'"{etag}"', deviceId="one"))
    second = run(api, "updateIfMatchETag", keys("a", etag=etag, deviceId="two"))
    third = run(api, "updateIfMatchETag", keys("a", deviceId="three"))

    assert first == DONE
    assert told(second) == [("a", 412001)]
    assert told(third) == [("a", 409201)]
    assert IndividualEnrollment.objects.get().device_id == "one"


def test_delete(api, service):
    enroll_keys(service, "a")

    result = run(api, "delete", {"registrationId": "A", "etag": "older"}, keys("nobody"))

    assert told(result) == [("nobody", 404201)]
    assert not IndividualEnrollment.objects.exists()


def test_what_is_wrong_with_one_is_told_of_that_one(api):
    result = run(api, "create", keys("a", iotHubs=["nowhere"]), keys("b"), {"registrationId": "c"})

    assert told(result) == [("a", 400104), ("c", 400100)]
    assert "iotHubs" in result["errors"][0]["errorStatus"]
    assert "attestation is missing" in result["errors"][1]["errorStatus"]
    assert IndividualEnrollment.objects.get().registration_id == "b"


def test_groups(api):
    def do(mode, *groups):
        return run(api, mode, *groups, path="/enrollmentGroups/", member="enrollmentGroups")

    ca = root("Plant CA")
    assert do("create", signing("a", ca=ca)) == DONE
    conflict = do("create", signing("a", ca=ca), signing("b", ca=ca))
    assert [(one["enrollmentGroupId"], one["errorCode"]) for one in conflict["errors"]] == [
        ("a", 409202),
        ("b", 409203),
    ]
    assert do("update", signing("a", ca=ca, etag="*", provisioningStatus="disabled")) == DONE
    assert EnrollmentGroup.objects.get().enabled is False
    assert do("delete", {"enrollmentGroupId": "a"}) == DONE


def test_each_entry_has_its_row(api):
    before = HistoryEvent.objects.count()

    run(api, "create", keys("a"), keys("b"), keys("a"))

    rows = HistoryEvent.objects.order_by("pk")[before:]
    assert [(row.event, row.subject_name) for row in rows] == [
        ("enrollment.added", "a"),
        ("enrollment.added", "b"),
    ]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        pytest.param({"mode": "create"}, "enrollments is missing", id="no entries"),
        pytest.param({"enrollments": [keys("a")]}, "mode is missing", id="no mode"),
        pytest.param(creating(keys("a"), mode="Create"), "mode must be one of", id="case of a mode"),
        pytest.param(creating(), "at least one", id="none"),
        pytest.param(creating(*(keys(f"p{n}") for n in range(11))), "at most 10", id="eleven"),
        pytest.param({"mode": "create", "enrollments": {}}, "enrollments must be a list", id="no list"),
        pytest.param(creating("a"), "enrollments[0] must be a JSON object", id="a name"),
        pytest.param(creating(keys("a"), {}), "enrollments[1].registrationId", id="nameless"),
        pytest.param(creating(keys("a"), keys("b_")), "enrollments[1].registrationId", id="form of a name"),
        pytest.param(creating(keys("a"), Mode=1), "Mode is not known", id="typing error"),
    ],
)
def test_where_the_whole_is_wrong_nothing_is_done(api, body, named):
    status, _code, message = error_of(api.post("/enrollments", body))

    assert status == 400
    assert named in message
    assert not IndividualEnrollment.objects.exists()
