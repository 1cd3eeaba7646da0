"""A storm: devices that never stop, bounded in number and in time, against a service that answers as it is told."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from enrollments.simulator.client import Device, Endpoint, Outcome, Pace
from enrollments.simulator.credentials import SharedKey, TpmKeys
from enrollments.simulator.exchanges import Unreachable
from enrollments.simulator.storm import Storm, Tally
from enrollments.simulator.virtual_tpm import VirtualTpm
from tests.live import free_port
from tests.simulator.test_client import ACCEPTED, OPERATION, THROTTLED, UNAUTHORIZED, told
from tests.simulator.test_tpm_registration import challenge
from tests.simulator.tpm_blobs import blob_for

KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
RESTLESS = [Device(f"storm-{number}", SharedKey(KEY)) for number in range(3)]


def blow(endpoint, devices=RESTLESS, **options) -> Storm:
    storm = Storm(
        devices,
        endpoint,
        **{"polite": False, "in_flight": 2, "seconds": 0.6, "healthy_pace": Pace(0.01), **options},
    )
    storm.run(lambda text: None)
    return storm


def test_devices_come_back_at_once_whatever_they_are_told(service):
    service.will_answer(THROTTLED)

    report = blow(service.endpoint).tally.as_json()

    assert report["requests"] == len(service.requests) > 20
    assert report["statuses"] == {"429": report["requests"]}
    assert report["outcomes"]["429 429001"]["requests"] == report["requests"]
    assert report["largest_retry_after"] == 7
    assert {path.split("/")[3] for _, path, _, _ in service.requests} == {
        one.registration_id for one in RESTLESS
    }


def test_polite_devices_come_back_after_retry_after(service):
    service.will_answer(THROTTLED)

    report = blow(service.endpoint, polite=True).tally.as_json()

    assert report["requests"] == len(RESTLESS)


def test_a_restless_device_polls_to_the_outcome_and_begins_anew(service):
    service.will_answer(ACCEPTED, ACCEPTED, told("disabled"), ACCEPTED, told("assigned"), UNAUTHORIZED)

    report = blow(service.endpoint, RESTLESS[:1]).tally.as_json()

    assert [method for method, _, _, _ in service.requests[:7]] == [
        "PUT",
        "GET",
        "GET",
        "PUT",
        "GET",
        "PUT",
        "PUT",
    ]
    assert {"202 assigning", "200 disabled", "200 assigned", "401 401002"} == set(report["outcomes"])
    assert report["outcomes"]["202 assigning"]["requests"] == 3


def test_no_more_requests_are_in_flight_than_are_allowed(service):
    service.will_answer(THROTTLED)
    now, most, lock = 0, 0, threading.Lock()
    answer = service.server.RequestHandlerClass.do_PUT

    def counted(handler):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        answer(handler)
        with lock:
            now -= 1

    service.server.RequestHandlerClass.do_PUT = counted

    blow(service.endpoint, in_flight=2)

    assert most == 2


@pytest.mark.parametrize("in_flight", [1, 50])
def test_a_storm_ends_by_itself_when_its_time_is_over(service, in_flight):
    service.will_answer((202, OPERATION, {"Retry-After": "300"}))
    started = time.monotonic()

    storm = blow(service.endpoint, polite=True, in_flight=in_flight)

    assert 0.5 < storm.tally.seconds < time.monotonic() - started < 10


def test_a_storm_lasts_an_hour_at_most(service):
    assert Storm(RESTLESS, service.endpoint, polite=False, in_flight=1, seconds=1e9)._seconds == 3600


def test_healthy_devices_are_measured_beside_the_storm_and_not_in_it(service, monkeypatch):
    monkeypatch.setattr("enrollments.simulator.storm.HEALTHY_PAUSE", 0.1)
    service.will_answer(UNAUTHORIZED)
    healthy = [Device(f"healthy-{number}", None) for number in range(2)]

    storm = blow(service.endpoint, healthy=healthy)

    results = storm.healthy.results
    assert {one.registration_id for one in results} == {"healthy-0", "healthy-1"}
    assert {one.outcome for one in results} == {Outcome.UNAUTHORIZED}
    asked_by_healthy = sum("healthy-" in path for _, path, _, _ in service.requests)
    assert len(results) == asked_by_healthy <= 14
    assert storm.tally.requests == len(service.requests) - asked_by_healthy


def test_a_tpm_in_a_storm_takes_every_challenge(service):
    tpm = VirtualTpm.new()
    service.will_answer(
        challenge(blob_for(tpm)), UNAUTHORIZED, challenge(blob_for(tpm)), ACCEPTED, told("disabled")
    )

    report = blow(service.endpoint, [Device("storm-0", TpmKeys(tpm))]).tally.as_json()

    assert report["outcomes"]["401 challenge"]["requests"] == 2
    assert report["outcomes"]["401 401002"]["requests"] == 1
    signed = ["Authorization" in headers for _, _, headers, _ in service.requests[:5]]
    assert signed == [False, True, False, True, True]


def test_a_challenge_for_another_tpm_is_counted_as_what_it_is(service):
    service.will_answer(challenge(blob_for(VirtualTpm.new())))

    report = blow(service.endpoint, [Device("storm-0", TpmKeys(VirtualTpm.new()))]).tally.as_json()

    assert set(report["outcomes"]) == {"401 tpm_credential_seed_unreadable"}


def test_where_nobody_answers_the_storm_does_not_spin(service):
    nobody = Endpoint("127.0.0.1", free_port(), "0ne0000ABCD", service.ca_file)

    tally = blow(nobody).tally

    assert tally.nobody_answered
    assert 0 < tally.requests < 40


def test_a_device_that_loses_its_answer_begins_anew(service, monkeypatch):
    service.will_answer(ACCEPTED)

    def lost(*args):
        raise Unreachable("lost")

    monkeypatch.setattr("enrollments.simulator.exchanges.Conversation.poll", lost)

    report = blow(service.endpoint, RESTLESS[:1]).tally.as_json()

    assert report["outcomes"]["202 assigning"]["requests"] == len(service.requests) >= 2
    assert report["statuses"]["unreachable"] >= 1


def test_ctrl_c_ends_a_storm_and_leaves_its_figures(service):
    service.will_answer(THROTTLED)
    storm = Storm(RESTLESS, service.endpoint, polite=False, in_flight=2, seconds=60)

    def interrupt(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storm.run(interrupt)

    assert storm.tally.requests == len(service.requests) > 0
    assert threading.active_count() < 10


def test_what_breaks_in_a_thread_is_not_lost(service, monkeypatch):
    service.will_answer((202, OPERATION, {}))
    monkeypatch.setattr(Tally, "add", lambda *args, **kwargs: 1 / 0)
    started = time.monotonic()

    with pytest.raises(ZeroDivisionError):
        blow(service.endpoint, seconds=60)

    assert time.monotonic() - started < 10


def test_the_table_has_every_answer_with_its_figures():
    tally = Tally(seconds=2)
    for number in range(1, 101):
        tally.add("202", "assigning", number / 1000, 3)
    tally.add("429", "429001", 0.5, 40)
    tally.add("202", "assigning", 0.05, 3)
    tally.add("unreachable", "", 1.0)

    text = tally.as_text()

    lines = [line.split() for line in text.splitlines()]
    assert ["202", "assigning", "101", "50", "ms", "95", "ms"] in lines
    assert ["429", "429001", "1", "500", "ms", "500", "ms"] in lines
    assert ["429", "1"] in lines
    assert ["unreachable", "1"] in lines
    assert text.endswith("103 requests in 2.0 s: 51.5 per second. The largest Retry-After was 40 s.")
    assert not tally.nobody_answered


def test_a_storm_without_a_retry_after_says_so():
    tally = Tally(seconds=1)
    tally.add("401", "401002", 0.1)

    assert tally.as_text().endswith("Nobody sent a Retry-After.")
    assert tally.as_json()["largest_retry_after"] is None


def test_interrupted_while_it_begins_nobody_goes_on(service, monkeypatch):
    """Ctrl-C may come while the devices are still being set to work."""
    service.will_answer(THROTTLED)
    submit = ThreadPoolExecutor.submit

    def interrupted(pool, *work):
        begun = submit(pool, *work)
        if len(pool._threads) > 1:
            raise KeyboardInterrupt
        return begun

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)

    with pytest.raises(KeyboardInterrupt):
        blow(service.endpoint, seconds=30)

    so_far = len(service.requests)
    time.sleep(0.1)
    assert len(service.requests) == so_far
