"""`devices=` of a dry run: its devices with what is decided before and after, by pages; `everyone=`: all examined."""

import base64
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.actions.access_policies import add_policy, change_policy
from enrollments.actions.preview import limits
from enrollments.actions.revocation import deny_device
from enrollments.actions.services import add_service, change_settings
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.models.locks import if_nobody_else
from enrollments.policy.access import AccessRight
from enrollments.service_api import dry_run, paging
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_key_group, enroll_keys, enroll_line, register
from tests.service_api.conftest import VERSION, BackEnd, error_of, keys, service_token, with_policy

pytestmark = pytest.mark.django_db
LIST = f"{VERSION}&dryRun=true&devices=all"
PATH = "/enrollmentGroups/plant-7"


@pytest.fixture(autouse=True)
def _nothing_lately(monkeypatch):
    monkeypatch.setattr(dry_run, "_LATELY", type(dry_run._LATELY)())


@pytest.fixture
def plant(service):
    """A group below an enabled root, with five devices of which one is denied."""
    plant = enroll_line(service, *(f"Pump-{number}" for number in range(5)))
    deny_device(service, "pump-4", actor=ALICE)
    return plant


def names(answer):
    assert answer.status_code == 200, answer.content
    return [one["registrationId"] for one in answer.json()["devices"]]


def pages(api, method, path, body=None, *, query=LIST, size=2, between=lambda: None, **headers):
    """Every page of the same call, as the query routes are gone through."""
    found = []
    headers["x_ms_max_item_count"] = str(size)
    while True:
        answer = api.call(method, path, body, query=query, **headers)
        assert answer["x-ms-item-type"] == "DryRunDevice"
        found.append(names(answer))
        if "x-ms-continuation" not in answer:
            return found
        headers["x_ms_continuation"] = answer["x-ms-continuation"]
        between()


def test_each_device_is_told_with_what_decides_before_and_after(api, service, plant):
    history = HistoryEvent.objects.count()

    answer = api.call("DELETE", PATH, query=LIST)

    assert answer.json()["devices"][0] == {
        "registrationId": "Pump-0",
        "effect": "stillAdmitted",
        "before": {"verdict": "admitted", "entry": "enrollment group plant-7"},
        "after": {"verdict": "admitted", "entry": "enrollment group root"},
        "nameHeldBefore": None,
        "nameHeldThrough": None,
        "admittedOtherwiseThrough": None,
    }
    assert answer.json()["devices"][-1] == {
        "registrationId": "Pump-4",
        "effect": "stillOut",
        "before": {"verdict": "disabled", "entry": "individual enrollment pump-4"},
        "after": {"verdict": "disabled", "entry": "individual enrollment pump-4"},
        "nameHeldBefore": None,
        "nameHeldThrough": None,
        "admittedOtherwiseThrough": None,
    }
    assert "x-ms-continuation" not in answer
    assert service.enrollmentgroups.count() == 2
    assert HistoryEvent.objects.count() == history, "to look is no act"


def test_without_asking_there_is_no_list(api, plant):
    answer = api.call("DELETE", PATH, query=f"{VERSION}&dryRun=true")

    assert "devices" not in answer.json()
    assert not {"x-ms-item-type", "x-ms-continuation"} & {name.lower() for name in answer.headers}


@pytest.mark.parametrize(
    ("effect", "found"),
    [
        ("refused", []),
        ("stillAdmitted", ["Pump-0", "Pump-1", "Pump-2", "Pump-3"]),
        ("stillOut", ["Pump-4"]),
        ("comesIn", []),
        ("unknown", []),
    ],
)
def test_the_devices_of_one_effect(api, plant, effect, found):
    query = f"{VERSION}&dryRun=true&devices={effect}"

    assert [name for page in pages(api, "DELETE", PATH, query=query) for name in page] == found


def test_what_a_change_adds_and_what_nothing_is_known_of_are_listed(api, service):
    enroll_key_group(service)
    deny_device(service, "never-seen", actor=ALICE)

    added = api.call("PUT", "/enrollments/a", keys("a"), query=LIST).json()["devices"]
    gone = api.call("DELETE", "/enrollments/never-seen", query=LIST).json()["devices"]

    assert [(one["registrationId"], one["effect"], one["before"]["entry"]) for one in added] == [
        ("a", "comesIn", None)
    ]
    nothing = {
        "before": None,
        "after": None,
        "nameHeldBefore": None,
        "nameHeldThrough": None,
        "admittedOtherwiseThrough": None,
    }
    assert gone == [{"registrationId": "never-seen", "effect": "unknown", **nothing}]


def test_a_bulk_is_listed_as_a_whole(api, service, plant):
    body = {"mode": "create", "enrollments": [keys("a"), keys("b"), keys("pump-4")]}

    found = pages(api, "POST", "/enrollments", body)
    told = api.call("POST", "/enrollments", body, query=LIST).json()

    assert found == [["a", "b"], ["Pump-4"]]
    assert [one["effect"] for one in told["devices"]] == ["comesIn", "comesIn", "stillOut"]
    assert [one["registrationId"] for one in told["errors"]] == ["pump-4"]


def test_pages_hold_everything_once(api, plant):
    assert pages(api, "DELETE", PATH, size=2) == [["Pump-0", "Pump-1"], ["Pump-2", "Pump-3"], ["Pump-4"]]
    assert pages(api, "DELETE", PATH, size=5) == [[f"Pump-{number}" for number in range(5)]]


def test_devices_that_come_and_go_do_not_move_a_page(api, service, plant, monkeypatch):
    """Nor does it matter which process answers: none remembers what another has worked out."""
    coming = iter(["Pump-00", "Pump-35"])

    def come_and_go():
        register(service, plant.leaf(next(coming)))
        service.registrations.filter(registration_key="pump-1").delete()
        monkeypatch.setattr(dry_run, "_LATELY", type(dry_run._LATELY)())

    found = pages(api, "DELETE", PATH, between=come_and_go)

    assert found == [["Pump-0", "Pump-1"], ["Pump-2", "Pump-3"], ["Pump-35", "Pump-4"]]


def test_pages_are_worked_out_once_and_their_queries_do_not_grow(api, service, plant, monkeypatch):
    worked_out = []
    real = dry_run._worked_out
    monkeypatch.setattr(
        dry_run, "_worked_out", lambda *how, **more: worked_out.append(1) or real(*how, **more)
    )
    first = api.call("DELETE", PATH, query=LIST, x_ms_max_item_count="1")

    def cost(size):
        with CaptureQueriesContext(connection) as taken:
            api.call(
                "DELETE",
                PATH,
                query=LIST,
                x_ms_max_item_count=size,
                x_ms_continuation=first["x-ms-continuation"],
            )
        return len(taken)

    # Which service, who calls (three times, with each service and policy), the epoch, the group, what decisions read.
    assert cost("1") == cost("4") == 11
    assert worked_out == [1]


def test_a_page_on_another_epoch_is_refused_and_that_is_told(api, service, plant):
    first = api.call("DELETE", PATH, query=LIST, x_ms_max_item_count="2")
    deny_device(service, "somebody", actor=ALICE)

    answer = api.call("DELETE", PATH, query=LIST, x_ms_continuation=first["x-ms-continuation"])

    assert error_of(answer)[:2] == (412, 412002)
    assert api.call("DELETE", PATH, query=LIST).json()["epoch"] > first.json()["epoch"]


def test_the_act_goes_by_the_epoch_of_the_list(api, service, plant):
    epoch = api.call("DELETE", PATH, query=LIST).json()["epoch"]

    assert api.call("DELETE", PATH, query=f"{VERSION}&epoch={epoch}").status_code == 204


def test_an_entry_that_was_changed_otherwise_is_not_told_of_from_memory(api, service, plant):
    etag = api.get(PATH).json()["etag"]
    assert api.call("DELETE", PATH, query=LIST, If_Match=etag).status_code == 200
    service.enrollmentgroups.filter(group_key="plant-7").update(etag="another")

    assert error_of(api.call("DELETE", PATH, query=LIST, If_Match=etag))[:2] == (412, 412001)


# --- Continuations ----------------------------------------------------------------------------------


def first_continuation(api, method="DELETE", path=PATH, body=None, query=LIST, **headers):
    return api.call(method, path, body, query=query, x_ms_max_item_count="1", **headers)["x-ms-continuation"]


def test_a_continuation_belongs_to_its_call(api, service, plant):
    enroll_keys(service, "a")
    enroll_keys(service, "b")
    token = first_continuation(api)
    group = api.get(PATH).json()
    disabled = {**group, "provisioningStatus": "disabled"}
    bulk = {"mode": "delete", "enrollmentGroups": [{"enrollmentGroupId": "plant-7"}]}
    of_bulk = first_continuation(api, "POST", "/enrollmentGroups", bulk)

    for method, path, body, query, headers, given in (
        ("DELETE", "/enrollmentGroups/root", None, LIST, {}, token),
        ("DELETE", PATH, None, LIST, {"If_Match": "*"}, token),
        ("DELETE", PATH, None, LIST.replace("all", "stillAdmitted"), {}, token),
        ("DELETE", PATH, None, f"{LIST}&everyone=true", {}, token),
        ("PUT", PATH, disabled, LIST, {"If_Match": "*"}, token),
        ("POST", "/enrollmentGroups", bulk, LIST, {}, token),
        ("DELETE", PATH, None, LIST, {}, of_bulk),
        ("POST", "/enrollmentGroups", {**bulk, "mode": "update"}, LIST, {}, of_bulk),
        ("POST", "/enrollmentGroups/query", {"query": "*"}, VERSION, {}, token),
    ):
        answer = api.call(method, path, body, query=query, x_ms_continuation=given, **headers)
        assert error_of(answer)[:2] == (400, 400103), (method, path, query)


def test_a_continuation_of_a_change_tells_its_keys_apart_and_does_not_hold_them(api, service, plant):
    """Of two sets of keys the one is not the other's page; and who reads the continuation learns nothing of them."""
    enroll_key_group(service)
    first, second = (keys("a", attestation=symmetric(letter)) for letter in "xy")
    two = {"mode": "create", "enrollments": [first, keys("b")]}
    token = first_continuation(api, "POST", "/enrollments", two)

    answer = api.call(
        "POST",
        "/enrollments",
        {**two, "enrollments": [second, keys("b")]},
        query=LIST,
        x_ms_continuation=token,
    )

    assert error_of(answer)[:2] == (400, 400103)
    assert symmetric("x")["symmetricKey"]["primaryKey"][:20] not in paging.signing.b64_decode(
        token.split(":")[0].encode()
    ).decode("latin-1")


def symmetric(letter):
    key = base64.b64encode(letter.encode() * 64).decode()
    return {"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}


@pytest.mark.parametrize("token", ["x", "W10=", "é", "W10:x:y"])
def test_a_continuation_that_was_not_given_out_is_refused(api, plant, token):
    assert error_of(api.call("DELETE", PATH, query=LIST, x_ms_continuation=token))[:2] == (400, 400103)


@pytest.mark.parametrize("size", ["0", "-1", "many", "1.5", "١", "9" * 30])
def test_page_sizes_that_are_none(api, plant, size):
    assert error_of(api.call("DELETE", PATH, query=LIST, x_ms_max_item_count=size))[:2] == (400, 400102)


def test_more_than_a_page_holds_are_never_told_at_once(api, plant, monkeypatch):
    monkeypatch.setattr(paging, "LARGEST_PAGE", 3)
    monkeypatch.setattr(paging, "DEFAULT_PAGE", 2)

    assert len(names(api.call("DELETE", PATH, query=LIST, x_ms_max_item_count="999999999"))) == 3
    assert len(names(api.call("DELETE", PATH, query=LIST))) == 2


def test_nothing_of_another_service_is_told_nor_gone_on_with(api, service, plant):
    lab = add_service("lab", actor=ALICE)
    change_settings(service, {"host_name": "dps.example"}, actor=ALICE)
    change_settings(lab, {"host_name": "lab.example"}, actor=ALICE)
    other = root("Lab")
    enroll_ca(lab, other, "plant-7")
    register(lab, other.leaf("theirs-1"))
    token = first_continuation(api)
    owner = lab.access_policies.get()
    theirs = BackEnd(service_token(owner.primary_key, owner.name, resource="lab.example"), host="lab.example")

    assert names(theirs.call("DELETE", PATH, query=LIST)) == ["theirs-1"]
    assert "theirs-1" not in names(api.call("DELETE", PATH, query=LIST))
    assert error_of(theirs.call("DELETE", PATH, query=LIST, x_ms_continuation=token))[:2] == (400, 400103)


# --- Rights -----------------------------------------------------------------------------------------


def a_back_end(service, *rights):
    return with_policy(add_policy(service, "some", rights, actor=ALICE))


def test_names_of_devices_are_told_to_whoever_may_look_them_up(service, plant):
    """The numbers go with the right of the act; the list needs that to read records as well."""
    writer = a_back_end(service, AccessRight.ENROLLMENT_WRITE)

    numbers, listed = (writer.call("DELETE", PATH, query=query) for query in (f"{VERSION}&dryRun=true", LIST))

    assert numbers.status_code == 200
    assert error_of(listed)[:2] == (403, 403002)
    assert "RegistrationStatusRead" in error_of(listed)[2]


def test_who_may_look_records_up_may_not_rehearse_for_that(service, plant):
    reader = a_back_end(service, AccessRight.REGISTRATION_STATUS_READ, AccessRight.ENROLLMENT_READ)

    assert error_of(reader.call("DELETE", PATH, query=LIST))[:2] == (403, 403002)


def test_both_rights_give_the_list(service, plant):
    both = a_back_end(service, AccessRight.ENROLLMENT_WRITE, AccessRight.REGISTRATION_STATUS_READ)

    assert len(names(both.call("DELETE", PATH, query=LIST))) == 5


def test_a_right_that_is_taken_while_it_is_worked_out_hands_nothing_out(
    service, owner, api, plant, monkeypatch
):
    """R12."""
    real = dry_run._worked_out

    def taking_it(*how, **more):
        told = real(*how, **more)
        change_policy(
            service,
            owner.name,
            rights=[AccessRight.ENROLLMENT_WRITE],
            enabled=True,
            expected_etag=owner.etag,
            actor=ALICE,
        )
        return told

    monkeypatch.setattr(dry_run, "_worked_out", taking_it)

    assert error_of(api.call("DELETE", PATH, query=LIST))[:2] == (403, 403002)


@pytest.mark.parametrize(
    ("rights", "query", "what"),
    [
        pytest.param(
            [AccessRight.ENROLLMENT_WRITE],
            LIST,
            "devices of a dry run of DELETE below /enrollmentgroups/",
            id="who may do it and may not know the devices",
        ),
        pytest.param(
            [AccessRight.REGISTRATION_STATUS_READ],
            LIST,
            "dry run of DELETE below /enrollmentgroups/",
            id="who may know the devices and may not do it",
        ),
        pytest.param(
            [AccessRight.REGISTRATION_STATUS_READ],
            f"{VERSION}&dryRun=true",
            "dry run of DELETE below /enrollmentgroups/",
            id="the numbers",
        ),
    ],
)
def test_r15_a_refused_dry_run_is_recorded_as_the_look_that_it_is(service, plant, rights, query, what):
    """Nothing would have been changed: a row an hour, that names no attempt at the act."""
    some = a_back_end(service, *rights)

    for path in (PATH, PATH, "/enrollmentGroups/root"):
        assert error_of(some.call("DELETE", path, query=query))[:2] == (403, 403002)

    row = HistoryEvent.objects.get(event="action.refused")
    assert (row.actor_name, row.subject_kind, row.subject_name, row.after) == ("some", "action", what, None)


@pytest.mark.parametrize(
    "asked", ["dryrun=true", "dryRun=false", "dryRun=true&dryRun=false", "dryRun=", "x=1"]
)
def test_r15_what_might_have_been_the_act_is_recorded_as_one(service, plant, asked):
    reader = a_back_end(service, AccessRight.REGISTRATION_STATUS_READ)

    for _ in range(2):
        assert reader.call("DELETE", PATH, query=f"{VERSION}&{asked}").status_code == 403

    rows = HistoryEvent.objects.filter(event="action.refused")
    assert [(row.subject_name, row.after) for row in rows] == [("plant-7", {"tried": f"DELETE {PATH}"})] * 2


# --- Everyone ---------------------------------------------------------------------------------------


@pytest.fixture
def apart(service, monkeypatch):
    """Three devices that share with nobody what lies above them, of which there is time for one at a glance."""
    monkeypatch.setattr(limits, "MAX_CLASSES", 1)
    ca = root("Plant")
    enroll_ca(service, ca, "plant-7")
    for number in range(3):
        register(service, ca.intermediate(f"Line {number}").leaf(f"pump-{number}"))


def test_all_devices_are_examined_for_whoever_asks(api, apart):
    glance = api.call("DELETE", PATH, query=LIST).json()
    everyone = api.call("DELETE", PATH, query=f"{LIST}&everyone=true").json()
    numbers = api.call("DELETE", PATH, query=f"{VERSION}&dryRun=true&everyone=true").json()

    assert (glance["notExamined"], len(glance["devices"])) == (2, 1)
    assert (everyone["notExamined"], len(everyone["devices"])) == (0, 3)
    assert numbers == {name: value for name, value in everyone.items() if name != "devices"}


def test_from_when_on_attempts_were_looked_at(api, apart, service, monkeypatch):
    monkeypatch.setattr(limits, "MAX_ATTEMPTS", 2)
    second = service.attempts.order_by("-last_at")[1].last_at

    glance = api.call("DELETE", PATH, query=LIST).json()
    everyone = api.call("DELETE", PATH, query=f"{LIST}&everyone=true").json()

    assert (glance["attemptsSince"], "attemptsSince" in everyone) == (second.isoformat(), False)


def test_all_are_examined_for_one_at_a_time_and_that_is_said(api, plant):
    with if_nobody_else(Path(settings.DPS_DATA_DIR) / "examining-all"):
        busy = api.call("DELETE", PATH, query=f"{LIST}&everyone=true")
        glance = api.call("DELETE", PATH, query=LIST)

    assert error_of(busy)[:2] == (429, 429002)
    assert error_of(busy)[2].endswith("ask again when it is done.")
    assert int(busy["Retry-After"]) == 10
    assert glance.status_code == 200
    assert api.call("DELETE", PATH, query=f"{LIST}&everyone=true").status_code == 200


def test_the_bulk_of_a_dry_run_examines_all_too(api, apart):
    bulk = {"mode": "delete", "enrollmentGroups": [{"enrollmentGroupId": "plant-7"}]}

    told = api.call("POST", "/enrollmentGroups", bulk, query=f"{LIST}&everyone=true").json()

    assert (told["notExamined"], len(told["devices"])) == (0, 3)


# --- Times to come ----------------------------------------------------------------------------------


@pytest.fixture
def for_an_hour(api, plant):
    """The group, to be disabled for an hour."""
    until = timezone.now().replace(microsecond=0) + timedelta(hours=1)
    group = api.get(PATH).json()
    text = until.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**group, "provisioningStatus": "disabled", "switchesAt": text}


def test_the_devices_of_a_time_to_come_are_listed_as_those_of_now(api, for_an_hour):
    now = api.call("PUT", PATH, for_an_hour, query=LIST, If_Match="*").json()
    at = now["then"][0]["at"]

    then = pages(api, "PUT", PATH, for_an_hour, query=f"{LIST}&at={at}", If_Match="*")
    one = api.call("PUT", PATH, for_an_hour, query=f"{LIST}&at={at}", If_Match="*").json()

    assert [one["effect"] for one in now["devices"]] == ["refused"] * 4 + ["stillOut"]
    assert then == [["Pump-0", "Pump-1"], ["Pump-2", "Pump-3"], ["Pump-4"]]
    assert [one["effect"] for one in one["devices"]] == ["stillAdmitted"] * 4 + ["stillOut"]


@pytest.mark.parametrize("at", ["2030-05-03T14:00:00Z", "soon", ""])
def test_a_time_that_the_dry_run_does_not_tell_is_refused(api, for_an_hour, at):
    answer = api.call("PUT", PATH, for_an_hour, query=f"{LIST}&at={at}", If_Match="*")

    assert error_of(answer)[:2] == (400, 400102)


# --- What is not understood ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        "devices=everybody",
        "devices=",
        "devices=still_admitted",
        "Devices=all",
        "devices=all&devices=all",
        "everyone=1",
        "everyone=",
        "Everyone=true",
        "everyone=true&everyone=true",
        "at=2030-05-03T14:00:00Z",
    ],
)
@pytest.mark.parametrize("rehearses", ["&dryRun=true", "&dryRun=false", ""])
def test_what_is_not_understood_is_refused_and_not_done(api, plant, more, rehearses):
    before = ProvisioningService.objects.get().epoch

    answer = api.call("DELETE", PATH, query=f"{VERSION}{rehearses}&{more}")

    assert error_of(answer)[:2] == (400, 400102)
    assert ProvisioningService.objects.get().epoch == before


@pytest.mark.parametrize("more", ["devices=all", "everyone=true", "everyone=false", "at=x"])
def test_whoever_asks_for_what_a_dry_run_tells_does_not_get_the_act(api, service, plant, more):
    answer = api.call("DELETE", PATH, query=f"{VERSION}&{more}")

    assert error_of(answer)[:2] == (400, 400102)
    assert "dryRun=true" in error_of(answer)[2]
    assert service.enrollmentgroups.count() == 2


@pytest.mark.parametrize("more", ["devices=all", "everyone=true", "at=x"])
def test_a_call_that_touches_no_device_takes_none_of_it(api, service, plant, more):
    for method, path, body in (
        ("DELETE", "/registrations/pump-0", None),
        ("GET", PATH, None),
        ("POST", "/enrollmentGroups/query", {"query": "*"}),
    ):
        answer = api.call(method, path, body, query=f"{VERSION}&dryRun=true&{more}")
        plain = api.call(method, path, body, query=f"{VERSION}&{more}")

        assert error_of(answer)[:2] == error_of(plain)[:2] == (400, 400102)
    assert service.registrations.filter(registration_key="pump-0").exists()


def test_a_page_size_and_a_continuation_beside_an_act_mean_nothing(api, plant):
    """Some clients send such headers with everything."""
    answer = api.call("DELETE", PATH, x_ms_max_item_count="5", x_ms_continuation="x")

    assert answer.status_code == 204
