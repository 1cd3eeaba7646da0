"""Times at which switches turn by themselves: told, set, kept and dropped, also by clients that know of none."""

from datetime import UTC, timedelta

import pytest
from django.db import DatabaseError
from django.utils import timezone

from enrollments.actions.access_policies import add_policy
from enrollments.actions.enrollment_groups import disable_enrollment_group, enable_enrollment_group
from enrollments.actions.enrollments import disable_enrollment, enable_enrollment
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.policy.access import AccessRight
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_keys, register
from tests.service_api.conftest import VERSION, error_of, keys, with_policy
from tests.service_api.test_enrollments import put_again, signing

pytestmark = pytest.mark.django_db
DRY = f"{VERSION}&dryRun=true"


def text(at):
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


class Kind:
    """An entry of either kind, by its path; acts of somebody in the portal."""

    def __init__(self, service, name):
        self.service, self.is_group = service, name == "group"
        if self.is_group:
            enroll_ca(service, root("Plant"), "plant")
            self.path, self.collection, self.member = (
                "/enrollmentGroups/plant",
                "/enrollmentGroups",
                "enrollmentGroups",
            )
            self.event = "group"
        else:
            enroll_keys(service, "plant")
            self.path, self.collection, self.member = "/enrollments/plant", "/enrollments", "enrollments"
            self.event = "enrollment"

    def disable(self, **times):
        act = disable_enrollment_group if self.is_group else disable_enrollment
        act(self.service, "plant", actor=ALICE, reason="audit", **times)

    def enable(self, **times):
        act = enable_enrollment_group if self.is_group else enable_enrollment
        act(self.service, "plant", actor=ALICE, **times)

    @property
    def now(self):
        rows = self.service.enrollmentgroups if self.is_group else self.service.individualenrollments
        return rows.get()

    @property
    def stands(self):
        return self.now.enabled, self.now.switches_at


@pytest.fixture(params=["individual", "group"])
def kind(request, service):
    return Kind(service, request.param)


def put(api, kind, *, condition="", **members):
    """By a client that hands back all that it was told."""
    body = api.get(kind.path).json()
    return api.put(kind.path, {**body, **members}, If_Match=condition or body["etag"])


def last_row():
    return HistoryEvent.objects.exclude(event="keys.revealed").order_by("-id").first()


# --- Told ------------------------------------------------------------------------------------------------


def test_what_is_scheduled_is_told(api, service, kind, database_clock):
    at = database_clock.ahead(hours=1)
    unscheduled = api.get(kind.path).json()
    kind.disable(until=at)

    one = api.get(kind.path).json()
    (listed,) = api.post(f"{kind.collection}/query", {"query": "SELECT *"}).json()

    assert not {"switchesAt", "scheduleReason"} & unscheduled.keys()
    for told in (one, listed):
        assert (told["provisioningStatus"], told["switchesAt"], told["scheduleReason"]) == (
            "disabled",
            text(at),
            "audit",
        )


def test_a_reason_that_nobody_gave_is_not_told(api, kind, database_clock):
    kind.enable(until=database_clock.ahead(hours=1))

    told = api.get(kind.path).json()

    assert ("switchesAt" in told, "scheduleReason" in told) == (True, False)


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "not recorded"])
def test_what_is_due_is_not_told_any_more(api, kind, database_clock, monkeypatch, recorded):
    at = database_clock.ahead(hours=1)
    kind.disable(at=at)
    if not recorded:
        monkeypatch.setattr(HistoryEvent.objects, "create", _full)
    database_clock.set_to(at)

    told = api.get(kind.path).json()

    assert (told["provisioningStatus"], "switchesAt" in told) == ("disabled", False)


def _full(*_args, **_kwargs):
    raise DatabaseError("disk full")


def test_telling_of_times_costs_no_query(api, service, database_clock, django_assert_max_num_queries):
    for number in range(20):
        enroll_keys(service, f"pump-{number}")

    def queries():
        with django_assert_max_num_queries(100) as counted:
            answer = api.post("/enrollments/query", {"query": "SELECT *"})
        return len(counted.captured_queries), sum("switchesAt" in one for one in answer.json())

    queries()  # what is read once
    before = queries()
    for number in range(20):
        disable_enrollment(
            service, f"pump-{number}", at=database_clock.ahead(hours=1), actor=ALICE, reason="x"
        )

    assert queries() == (before[0], 20)


# --- Set -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["enabled", "disabled"])
@pytest.mark.parametrize("before", [True, False], ids=["was enabled", "was disabled"])
def test_a_change_sets_the_time(api, kind, database_clock, status, before):
    at = database_clock.ahead(hours=1)
    if not before:
        kind.disable()
    rows = HistoryEvent.objects.exclude(event="keys.revealed").count()

    answer = put(api, kind, provisioningStatus=status, switchesAt=text(at), scheduleReason="ticket 7")

    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert (told["provisioningStatus"], told["switchesAt"], told["scheduleReason"]) == (
        status,
        text(at),
        "ticket 7",
    )
    assert kind.stands == (status == "enabled", at)
    assert kind.now.scheduled_by == "provisioningserviceowner"
    row = last_row()
    assert HistoryEvent.objects.exclude(event="keys.revealed").count() == rows + 1
    assert row.after["until"] == f"{at:%Y-%m-%d %H:%M:%S} UTC"
    turned = before != (status == "enabled")
    assert row.event == f"{kind.event}.{status if turned else 'changed'}"


@pytest.mark.parametrize("status", ["enabled", "disabled"])
def test_what_is_set_happens_by_itself_in_the_name_of_who_set_it(api, kind, database_clock, status):
    at = database_clock.ahead(hours=1)
    put(api, kind, provisioningStatus=status, switchesAt=text(at), scheduleReason="ticket 7")
    database_clock.set_to(at)

    told = api.get(kind.path).json()

    assert told["provisioningStatus"] == ("disabled" if status == "enabled" else "enabled")
    (row,) = HistoryEvent.objects.filter(way="schedule")
    assert (row.actor_name, row.reason) == ("provisioningserviceowner", "ticket 7")


@pytest.mark.parametrize("status", ["enabled", "disabled"])
def test_an_entry_is_added_for_a_time(api, service, database_clock, status):
    at = database_clock.ahead(hours=1)
    times = {"provisioningStatus": status, "switchesAt": text(at)}

    device = api.put("/enrollments/a", keys("a", **times))
    group = api.put("/enrollmentGroups/a", signing("a", **times))

    for answer in (device, group):
        assert (answer.status_code, answer.json()["switchesAt"]) == (200, text(at))
    assert service.individualenrollments.get().switches_at == service.enrollmentgroups.get().switches_at == at


@pytest.mark.parametrize(
    ("typed", "as_told"),
    [
        ("{day}T14:00:00Z", "{day}T14:00:00Z"),
        ("{day}T16:00:00+02:00", "{day}T14:00:00Z"),
        ("{day}T14:00:00.987654Z", "{day}T14:00:00Z"),
        ("{day}T14:00Z", "{day}T14:00:00Z"),
    ],
)
def test_a_time_is_taken_in_any_zone_and_told_in_utc_in_whole_seconds(api, kind, typed, as_told):
    day = f"{timezone.now() + timedelta(days=3):%Y-%m-%d}"

    answer = put(api, kind, switchesAt=typed.format(day=day))

    assert answer.json()["switchesAt"] == as_told.format(day=day)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"switchesAt": "2020-01-01T00:00:00Z"}, "switchesAt: That time has passed"),
        ({"switchesAt": "2999-01-01T00:00:00Z"}, "switchesAt: Nothing can be scheduled more than ten years"),
        ({"switchesAt": "2030-05-03T14:00:00"}, "switchesAt: say in which zone"),
        ({"switchesAt": "tomorrow"}, "switchesAt: give a time such as"),
        ({"switchesAt": ""}, "switchesAt: give a time such as"),
        ({"switchesAt": "0001-01-01T00:00:00+14:00"}, "switchesAt: give a time such as"),
        ({"switchesAt": "9999-12-31T23:59:59-14:00"}, "switchesAt: give a time such as"),
        ({"switchesAt": 1900000000}, "switchesAt must be a string"),
        ({"switchesAt": "{later}", "scheduleReason": "x" * 501}, "scheduleReason: The reason may be 500"),
        ({"switchesAt": "{later}", "provisioningStatus": "-"}, "switchesAt: say with provisioningStatus"),
        ({"scheduleReason": "why"}, "scheduleReason: it says why the switch turns at a time"),
    ],
)
@pytest.mark.parametrize("adds", [True, False], ids=["add", "change"])
def test_what_cannot_be_scheduled_is_refused_and_nothing_is_changed(api, kind, members, sentence, adds):
    body = api.get(kind.path).json()
    if adds:
        body = keys("new") if not kind.is_group else signing("new")
    later = text(timezone.now() + timedelta(days=1))
    body = {**body, "provisioningStatus": "enabled"}
    body.update({name: later if value == "{later}" else value for name, value in members.items()})
    if body["provisioningStatus"] == "-":
        del body["provisioningStatus"]
    rows = HistoryEvent.objects.count()
    condition = {} if adds else {"If_Match": "*"}

    answer = api.put(f"{kind.collection}/{'new' if adds else 'plant'}", body, **condition)

    status, _code, message = error_of(answer)
    assert status == 400
    assert sentence in message
    assert (kind.stands, HistoryEvent.objects.count()) == ((True, None), rows)


def test_whoever_may_only_read_sets_no_time(service, kind):
    reader = with_policy(add_policy(service, "reader", {AccessRight.ENROLLMENT_READ}, actor=ALICE))

    answer = put(reader, kind, switchesAt=text(timezone.now() + timedelta(days=1)))

    assert (answer.status_code, kind.stands) == (403, (True, None))


# --- Kept, and dropped --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["disable until", "disable at", "enable until"])
def test_what_is_handed_back_as_it_was_told_stays(api, service, kind, database_clock, way):
    """Also by clients that know of no times, and hand back members that they do not know."""
    act, _, how = way.partition(" ")
    getattr(kind, act)(**{how: database_clock.ahead(hours=1)})
    before, by, epoch = kind.stands, kind.now.scheduled_by, ProvisioningService.epoch_of(service.pk)

    same = put(api, kind, condition="*")
    unchanged = ProvisioningService.epoch_of(service.pk)
    twin = put(api, kind, initialTwin={"tags": {"line": 4}})

    assert (same.status_code, twin.status_code, unchanged) == (200, 200, epoch)
    assert (kind.stands, kind.now.scheduled_by) == (before, by)
    assert last_row().after.keys() == {"initial_twin"}


@pytest.mark.parametrize("condition", ["", "*"])
@pytest.mark.parametrize(("before", "status"), [("at", "disabled"), ("until", "enabled")])
def test_who_turns_the_switch_and_hands_back_the_time_has_turned_it_for_good(
    api, kind, database_clock, before, status, condition
):
    """A device that was to be disabled next week, and is shut out today, must not come in again next week."""
    kind.disable(**{before: database_clock.ahead(hours=1)})

    answer = put(api, kind, provisioningStatus=status, condition=condition)

    assert (answer.status_code, answer.json()["provisioningStatus"]) == (200, status)
    assert "switchesAt" not in answer.json()
    assert kind.stands == (status == "enabled", None)


def test_who_gives_a_reason_of_their_own_means_the_time(api, kind, database_clock):
    at = database_clock.ahead(hours=1)
    kind.disable(at=at)

    put(api, kind, provisioningStatus="disabled", scheduleReason="recalled until then")

    assert (*kind.stands, kind.now.schedule_reason) == (False, at, "recalled until then")


@pytest.mark.parametrize("mode", ["*", "update"])
def test_a_time_of_an_older_version_does_not_come_back(api, kind, database_clock, mode):
    """Read when it was to be disabled in an hour, answered when it is to be in two: then open in an hour it is not."""
    kind.disable(at=database_clock.ahead(hours=1))
    body = {**api.get(kind.path).json(), "provisioningStatus": "disabled"}
    kind.disable(at=database_clock.ahead(hours=2))
    before, rows = kind.stands, HistoryEvent.objects.count()

    if mode == "*":
        code = error_of(api.put(kind.path, body, If_Match="*"))[1]
    else:
        answer = api.post(kind.collection, {"mode": "update", kind.member: [body]})
        code = answer.json()["errors"][0]["errorCode"]

    assert code == 412001
    assert (kind.stands, HistoryEvent.objects.count()) == (before, rows)


def test_a_new_time_on_whatever_is_there_needs_no_version(api, kind, database_clock):
    at = database_clock.ahead(hours=3)
    body = api.get(kind.path).json()
    del body["etag"]

    answer = api.put(kind.path, {**body, "switchesAt": text(at)}, If_Match="*")

    assert (answer.status_code, kind.stands) == (200, (True, at))


@pytest.mark.parametrize(("before", "stays"), [("at", True), ("until", False)])
def test_null_drops_what_is_scheduled(api, kind, database_clock, before, stays):
    at = database_clock.ahead(hours=1)
    kind.disable(**{before: at})

    answer = put_again(api, kind.path, switchesAt=None)

    assert (answer.status_code, "switchesAt" in answer.json()) == (200, False)
    assert kind.stands == (stays, None)
    row = last_row()
    assert (row.event, row.before, row.after) == (
        f"{kind.event}.changed",
        {"until": f"{at:%Y-%m-%d %H:%M:%S} UTC", "schedule_reason": "audit"},
        {"until": None, "schedule_reason": None},
    )
    database_clock.set_to(at)
    assert api.get(kind.path).json()["provisioningStatus"] == ("enabled" if stays else "disabled")


# --- Why ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [1, 2], ids=["same time", "another time"])
def test_another_reason_is_carried_out_and_recorded_by_whom(api, kind, database_clock, hours):
    kind.disable(until=database_clock.ahead(hours=1))
    etag = kind.now.etag

    put(api, kind, switchesAt=text(database_clock.ahead(hours=hours)), scheduleReason="other")

    assert kind.stands == (False, database_clock.ahead(hours=hours))
    assert (kind.now.scheduled_by, kind.now.schedule_reason) == ("provisioningserviceowner", "other")
    assert kind.now.etag != etag
    row = last_row()
    assert (row.event, row.actor_name, row.reason) == (
        f"{kind.event}.changed",
        "provisioningserviceowner",
        "other",
    )
    assert (row.before["schedule_reason"], row.after["schedule_reason"]) == ("audit", "other")


def test_a_reason_that_is_left_out_stays_and_an_empty_one_ends_it(api, kind, database_clock):
    at = database_clock.ahead(hours=1)
    kind.disable(until=at)
    rows = HistoryEvent.objects.exclude(event="keys.revealed").count()

    put(api, kind, scheduleReason=None)

    assert kind.now.schedule_reason == "audit"
    assert HistoryEvent.objects.exclude(event="keys.revealed").count() == rows

    put(api, kind, scheduleReason="")

    assert (*kind.stands, kind.now.schedule_reason) == (False, at, "")
    row = last_row()
    assert (row.before, row.after, row.reason) == (
        {"schedule_reason": "audit"},
        {"schedule_reason": None},
        "",
    )


def test_the_reason_of_a_shut_out_is_that_of_its_row_and_is_told_when_it_ends_early(
    api, kind, database_clock
):
    """Whoever reads the history learns why, also after the entry has forgotten it."""
    at = database_clock.ahead(hours=1)

    put(api, kind, provisioningStatus="disabled", switchesAt=text(at), scheduleReason="stolen by Bob")

    shut_out = last_row()
    assert (shut_out.event, shut_out.reason) == (f"{kind.event}.disabled", "stolen by Bob")
    assert shut_out.after["schedule_reason"] == "stolen by Bob"

    put(api, kind, initialTwin={"tags": {"line": 4}})

    assert last_row().reason == ""  # the twin was not changed because of that

    put(api, kind, provisioningStatus="enabled")

    assert last_row().event == f"{kind.event}.enabled"
    assert last_row().before["schedule_reason"] == "stolen by Bob"


def test_an_entry_that_is_added_for_a_time_has_the_reason_in_its_row(api, database_clock):
    at = text(database_clock.ahead(hours=1))
    times = {"provisioningStatus": "disabled", "switchesAt": at, "scheduleReason": "not delivered yet"}

    for path, body in (
        ("/enrollments/a", keys("a", **times)),
        ("/enrollmentGroups/a", signing("a", **times)),
    ):
        assert api.put(path, body).status_code == 200

    rows = HistoryEvent.objects.filter(event__endswith=".added_disabled").order_by("pk")
    assert [row.reason for row in rows] == ["not delivered yet"] * 2
    assert {row.after["schedule_reason"] for row in rows} == {"not delivered yet"}


# --- Several at once, and looking at it first ---------------------------------------------------------------


def test_a_bulk_sets_times_and_tells_of_each_that_is_wrong(api, service, database_clock):
    at, passed = database_clock.ahead(hours=1), database_clock.ahead(hours=-1)
    for name in ("a", "b"):
        enroll_keys(service, name)

    def item(name, when):
        return keys(name, etag="*", provisioningStatus="disabled", switchesAt=text(when), scheduleReason="x")

    answer = api.post("/enrollments", {"mode": "update", "enrollments": [item("a", at), item("b", passed)]})
    made = api.post("/enrollments", {"mode": "create", "enrollments": [item("c", at)]})

    assert [(one["registrationId"], one["errorCode"]) for one in answer.json()["errors"]] == [("b", 400104)]
    assert made.json()["isSuccessful"]
    rows = service.individualenrollments.order_by("registration_key")
    assert list(rows.values_list("enabled", "switches_at")) == [(False, at), (True, None), (False, at)]
    told = HistoryEvent.objects.filter(subject_name__in=["a", "c"], event__contains="disabled")
    assert {row.reason for row in told} == {"x"}


@pytest.fixture
def line(service, database_clock):
    ca = root("Plant", not_before=database_clock.ahead(days=-1))
    enroll_ca(service, ca, "plant")
    for number in range(2):
        register(service, ca.leaf(f"pump-{number}", not_before=database_clock.ahead(days=-1)))


def effects(told):
    return {effect: found["devices"] for effect, found in told["effects"].items() if found["devices"]}


def state(service):
    rows = service.enrollmentgroups.values_list("enabled", "switches_at", "etag")
    return ProvisioningService.epoch_of(service.pk), HistoryEvent.objects.count(), list(rows)


def dry(api, bulk, **members):
    body = {**api.get("/enrollmentGroups/plant").json(), **members}
    if bulk:
        return api.call(
            "POST", "/enrollmentGroups", {"mode": "update", "enrollmentGroups": [body]}, query=DRY
        )
    return api.call("PUT", "/enrollmentGroups/plant", body, query=DRY, If_Match="*")


@pytest.mark.parametrize("bulk", [False, True], ids=["single", "bulk"])
@pytest.mark.parametrize(
    ("was", "status", "now", "then"),
    [
        pytest.param(True, "enabled", {"stillAdmitted": 2}, {"refused": 2}, id="enabled until"),
        pytest.param(True, "disabled", {"refused": 2}, {"stillAdmitted": 2}, id="disabled until"),
        pytest.param(False, "disabled", {"stillOut": 2}, {"comesIn": 2}, id="disabled for good, now until"),
        pytest.param(False, "enabled", {"comesIn": 2}, {"stillOut": 2}, id="disabled, now enabled until"),
    ],
)
def test_a_dry_run_tells_also_what_holds_at_the_time(
    api, service, line, database_clock, bulk, was, status, now, then
):
    if not was:
        disable_enrollment_group(service, "plant", actor=ALICE)
    at, before = database_clock.ahead(hours=1), state(service)

    told = dry(api, bulk, provisioningStatus=status, switchesAt=text(at)).json()

    assert effects(told) == now
    assert [(one["at"], effects(one), one["known"]) for one in told["then"]] == [(text(at), then, 2)]
    assert state(service) == before


def test_a_dry_run_of_dropping_tells_who_stays_in(api, service, line, database_clock):
    at = database_clock.ahead(hours=1)
    disable_enrollment_group(service, "plant", at=at, actor=ALICE)

    told = dry(api, False, switchesAt=None, scheduleReason=None).json()

    assert [(one["at"], effects(one)) for one in told["then"]] == [(text(at), {"comesIn": 2})]


def test_a_dry_run_of_another_time_tells_of_both(api, service, line, database_clock):
    first, second = database_clock.ahead(hours=1), database_clock.ahead(hours=2)
    disable_enrollment_group(service, "plant", at=first, actor=ALICE)

    told = dry(api, False, switchesAt=text(second)).json()

    assert [(one["at"], effects(one)) for one in told["then"]] == [
        (text(first), {"comesIn": 2}),
        (text(second), {"stillOut": 2}),
    ]


def test_a_dry_run_in_which_no_time_changes_tells_of_none(api, service, line, database_clock):
    disable_enrollment_group(service, "plant", at=database_clock.ahead(hours=1), actor=ALICE)

    assert dry(api, False).json()["then"] == []


def test_a_dry_run_of_deleting_tells_who_comes_in_when_another_group_is_enabled(api, service, database_clock):
    top = root("Top")
    line = top.intermediate("Line")
    enroll_ca(service, top, "top")
    enroll_ca(service, line, "line")
    register(service, line.leaf("pump-1"))
    at = database_clock.ahead(hours=1)
    disable_enrollment_group(service, "top", until=at, actor=ALICE)
    disable_enrollment_group(service, "line", actor=ALICE)

    told = api.call("DELETE", "/enrollmentGroups/line", query=DRY).json()

    assert effects(told) == {"stillOut": 1}
    assert [(one["at"], effects(one)) for one in told["then"]] == [(text(at), {"comesIn": 1})]
    assert [one["through"] for one in told["then"][0]["below"]] == [["enrollment group top"]]


def test_of_many_times_a_dry_run_tells_three_and_counts_who_comes_at_others(api, service, database_clock):
    """A CA above five groups that are each disabled until a time of its own."""
    top = root("Top")
    enroll_ca(service, top, "top")
    for number in range(5):
        line = top.intermediate(f"Line {number}")
        enroll_ca(service, line, f"line-{number}")
        register(service, line.leaf(f"pump-{number}"))
        until = database_clock.ahead(hours=1 + number)
        disable_enrollment_group(service, f"line-{number}", until=until, actor=ALICE)
    disable_enrollment_group(service, "top", actor=ALICE)

    told = api.call("DELETE", "/enrollmentGroups/top", query=DRY).json()

    at = [text(database_clock.ahead(hours=1 + number)) for number in range(3)]
    assert effects(told) == {"stillOut": 5}
    assert [one["at"] for one in told["then"]] == at
    assert effects(told["then"][-1])["comesIn"] == 3
    assert told["moreLater"] == 2


def test_a_dry_run_of_deleting_tells_who_stays_in_past_a_bar_that_goes_with_it(api, service, database_clock):
    """Also of the bar of another entry, which the individual enrollment that is put gets round (R8)."""
    top = root("Top")
    line = top.intermediate("Line")
    enroll_ca(service, top, "top")
    enroll_ca(service, line, "line")
    leaf = line.leaf("valve-1")
    register(service, leaf)
    disable_enrollment_group(service, "line", at=database_clock.ahead(hours=1), actor=ALICE)
    at = text(database_clock.ahead(hours=1))
    own = {"x509": {"clientCertificates": {"primary": {"certificate": leaf.pem}}}, "type": "x509"}
    body = {"registrationId": "valve-1", "attestation": own}

    deleted = api.call("DELETE", "/enrollmentGroups/line", query=DRY).json()
    put = api.call("PUT", "/enrollments/valve-1", body, query=DRY).json()

    for told in (deleted, put):
        assert effects(told) == {"stillAdmitted": 1}
        (then,) = told["then"]
        assert (then["at"], effects(then)) == (at, {"comesIn": 1})
    listed = api.call("DELETE", "/enrollmentGroups/line", query=f"{DRY}&devices=comesIn&at={at}").json()[
        "devices"
    ]
    assert [(one["registrationId"], one["before"]["verdict"]) for one in listed] == [("valve-1", "disabled")]


def test_what_was_looked_at_is_set_on_that_state_alone(api, service, line, database_clock):
    at = text(database_clock.ahead(hours=1))
    disable_enrollment_group(service, "plant", actor=ALICE)
    epoch = dry(api, False, switchesAt=at).json()["epoch"]
    enroll_keys(service, "somebody")
    body, before = {**api.get("/enrollmentGroups/plant").json(), "switchesAt": at}, state(service)

    def act(on):
        query = f"{VERSION}&epoch={on}"
        return api.call("PUT", "/enrollmentGroups/plant", body, query=query, If_Match=body["etag"])

    late = act(epoch)
    assert (error_of(late)[1], state(service)) == (412002, before)
    assert act(before[0]).status_code == 200


@pytest.mark.parametrize("mode", ["put", "update"])
def test_null_of_an_older_version_drops_nothing_that_was_scheduled_since(api, kind, database_clock, mode):
    """A client that writes null for what it was not told says nothing of times."""
    body = api.get(kind.path).json()
    kind.disable(at=database_clock.ahead(days=1))
    stale = {**body, "switchesAt": None, "scheduleReason": None}

    if mode == "put":
        answer = api.put(kind.path, stale, If_Match="*")
        assert answer.status_code == 412
    else:
        answer = api.post(kind.collection, {"mode": "update", kind.member: [stale]})
        assert not answer.json()["isSuccessful"]

    assert kind.stands == (True, database_clock.ahead(days=1))


def test_who_disables_and_hands_back_the_time_without_its_reason_disables_for_good(api, kind, database_clock):
    kind.disable(at=database_clock.ahead(days=1))
    body = api.get(kind.path).json()
    body.pop("scheduleReason")

    answer = api.put(kind.path, {**body, "provisioningStatus": "disabled"}, If_Match=body["etag"])

    assert answer.status_code == 200
    assert kind.stands == (False, None)
