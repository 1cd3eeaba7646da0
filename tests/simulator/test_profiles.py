"""Each profile on the wire: what it sends, insists on, waits for and gives up on."""

import json
import re
import time
from pathlib import Path

import pytest

from enrollments.attestation.symmetric_key import check_token, key_bytes, read_token
from enrollments.models.enrollments import new_symmetric_key
from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import HOUR, SharedKey
from enrollments.simulator.profiles import PROFILES
from tests.simulator.test_client import (
    ACCEPTED,
    ASSIGNED,
    BROKEN,
    OPERATION,
    THROTTLED,
    UNAUTHORIZED,
    run,
    told,
)

KEY = new_symmetric_key()
PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"
EVERY_PROFILE = pytest.mark.parametrize("name", PROFILES)
JSON_TYPE = {"Content-Type": "application/json; charset=utf-8"}
STATE = {"registrationId": "pump-1", "status": "assigning"}
DISABLED = (
    200,
    {
        "operationId": "5.op",
        "status": "disabled",
        "registrationState": {"registrationId": "pump-1", "status": "disabled"},
    },
    {},
)
FULL_STATE = {"registrationId": "pump-1", "status": "assigned", "assignedHub": "hub", "deviceId": "p1"}


def register(service, name, *answers, registration_id="pump-1", **pace):
    device = Device(registration_id, SharedKey(KEY), PROFILES[name])
    answers = [(status, body, {**JSON_TYPE, **headers}) for status, body, headers in answers]
    return run(service, *answers, device=device, **pace)


@pytest.fixture(autouse=True)
def least_jitter(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: low)


@EVERY_PROFILE
def test_what_the_service_really_answers_suits_every_profile(service, name):
    still = (202, {**OPERATION, "registrationState": STATE}, {"Retry-After": "3"})
    done = (200, {"operationId": "5.op", "status": "assigned", "registrationState": FULL_STATE}, {})

    result, _ = register(service, name, ACCEPTED, still, done)

    assert (result.outcome, result.hub, result.device_id, result.profile) == (
        Outcome.ASSIGNED,
        "hub",
        "p1",
        name,
    )


SENT = {
    "plain": ("0ne0000ABCD%2Fregistrations%2FPump%3A1", ["sr", "sig", "se"], None, HOUR),
    "node": ("0ne0000ABCD/registrations/Pump:1", ["sr", "sig", "skn", "se"], "registration", HOUR),
    "csharp": (
        "0ne0000ABCD%2Fregistrations%2FPump%3A1",
        ["sr", "sig", "se", "skn"],
        "registration",
        24 * HOUR,
    ),
    "java": ("0ne0000ABCD/registrations/Pump:1", ["sr", "sig", "se", "skn"], "", HOUR),
    "c": ("0ne0000ABCD%2fregistrations%2fPump%3a1", ["sr", "sig", "se", "skn"], "registration", 2400),
    "edge": ("0ne0000abcd%2Fregistrations%2Fpump%3A1", ["sr", "sig", "se", "skn"], "registration", 30),
}


@EVERY_PROFILE
def test_the_token_is_spelled_as_that_client_spells_it_and_proves_the_key(service, name):
    resource, order, key_name, life = SENT[name]
    before = int(time.time())

    register(service, name, UNAUTHORIZED, registration_id="Pump:1")

    headers = {header.lower(): value for header, value in service.requests[0][2].items()}
    fields = [part.split("=", 1) for part in headers["authorization"].split(" ")[1].split("&")]
    assert [field for field, _ in fields] == order
    assert dict(fields)["sr"] == resource
    assert dict(fields).get("skn") == key_name
    assert before + life <= int(dict(fields)["se"]) <= time.time() + life
    check_token(
        read_token(headers["authorization"]),
        id_scope="0ne0000ABCD",
        registration_id="Pump:1",
        keys=[key_bytes(KEY)],
        now=time.time(),
    )


@EVERY_PROFILE
def test_every_poll_carries_the_token_of_the_registration(service, name):
    register(service, name, ACCEPTED, ASSIGNED)

    put, get = ({key.lower(): value for key, value in one[2].items()} for one in service.requests[:2])
    assert put["authorization"] == get["authorization"]


@pytest.mark.parametrize(
    ("name", "path", "put_has", "get_has", "lacks"),
    [
        ("plain", "Pump%3A1", {"Content-Type", "User-Agent", "Accept"}, {"User-Agent"}, {"UserAgent"}),
        (
            "node",
            "Pump:1",
            {"Content-Type", "User-Agent", "Accept", "Request-Id"},
            {"Content-Type", "Content-Length", "Request-Id"},
            {"UserAgent"},
        ),
        ("csharp", "Pump%3A1", {"Content-Type", "User-Agent"}, {"User-Agent"}, {"Accept", "Request-Id"}),
        ("java", "Pump:1", {"User-Agent", "authorization"}, {"Content-Type"}, {"Authorization"}),
        ("c", "Pump%3A1", {"UserAgent", "Accept", "Connection"}, {"UserAgent"}, {"User-Agent"}),
        ("edge", "Pump:1", {"Content-Type", "Accept"}, {"Accept"}, {"User-Agent", "UserAgent"}),
    ],
)
def test_headers_and_paths_are_those_of_that_client(service, name, path, put_has, get_has, lacks):
    register(service, name, ACCEPTED, ASSIGNED, registration_id="Pump:1")

    (_, put_path, put, _), (_, get_path, get, _) = service.requests
    assert put_path.startswith(f"/0ne0000ABCD/registrations/{path}/register?api-version=")
    assert get_path.startswith(f"/0ne0000ABCD/registrations/{path}/operations/5.op?api-version=")
    assert put_has <= set(put)
    assert get_has <= set(get)
    assert not lacks & (set(put) | set(get))


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("plain", "2021-06-01"),
        ("node", "2019-03-31"),
        ("csharp", "2019-03-31"),
        ("java", "2019-03-31"),
        ("c", "2021-06-01"),
        ("edge", "2021-06-01"),
    ],
)
def test_the_version_is_that_of_the_client_on_every_call(service, name, version):
    register(service, name, ACCEPTED, ASSIGNED)

    assert [re.search("api-version=(.*)", path)[1] for _, path, _, _ in service.requests] == [version] * 2


def test_node_polls_with_a_body_and_a_request_id_of_its_own_each_time(service):
    register(service, "node", ACCEPTED, ASSIGNED)

    (_, _, put, _), (_, _, get, body) = service.requests
    assert body == b"{}"
    assert put["Request-Id"] != get["Request-Id"]


@pytest.mark.parametrize("name", [name for name in PROFILES if name != "node"])
def test_the_others_poll_without_a_body(service, name):
    register(service, name, ACCEPTED, ASSIGNED)

    assert service.requests[1][3] == b""


@EVERY_PROFILE
def test_the_body_names_the_device_and_nothing_else(service, name):
    register(service, name, UNAUTHORIZED)

    body = service.requests[0][3]
    assert json.loads(body) == {"registrationId": "pump-1"}
    assert (b"\n" in body) == (name == "csharp")


@pytest.mark.parametrize(
    ("name", "waits"),
    [
        ("plain", {None: 2, "1": 1, "0": 1, "7": 7, "301": 300, "soon": 2}),
        ("node", {None: 2, "1": 1, "0": 0, "7": 7, "301": 301, "soon": 2}),
        ("csharp", {None: 2, "1": 2, "0": 2, "7": 7, "301": 301, "soon": 2}),
        ("java", {None: 2, "1": 2, "0": 2, "7": 7, "301": 2, "soon": 2}),
        ("c", {None: 1, "1": 1, "0": 1, "7": 7, "301": 300, "soon": 1}),
        ("edge", {None: 5, "1": 5, "0": 5, "7": 5, "301": 5, "soon": 5}),
    ],
)
def test_the_wait_is_computed_as_that_client_computes_it(service, name, waits):
    for text, expected in waits.items():
        headers = {} if text is None else {"Retry-After": text}

        _, waited = register(service, name, (202, OPERATION, headers), DISABLED, longest_wait=1000)

        assert waited == [expected], text


def test_only_csharp_adds_up_to_five_seconds_by_chance(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)

    waits = {name: profile.waiting.seconds(3) for name, profile in PROFILES.items()}

    assert waits == {"plain": 3, "node": 3, "csharp": 8, "java": 3, "c": 3, "edge": 5}


DIRECTLY = (200, OPERATION, {"Retry-After": "3"})


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("plain", Outcome.ERROR),
        ("node", Outcome.DISABLED),
        ("csharp", Outcome.ERROR),
        ("java", Outcome.DISABLED),
        ("c", Outcome.DISABLED),
        ("edge", Outcome.ERROR),
    ],
)
def test_some_take_200_for_202_when_they_register(service, name, outcome):
    result, _ = register(service, name, DIRECTLY, DISABLED)

    assert result.outcome is outcome
    assert ("200" in result.detail) == (outcome is Outcome.ERROR)


BARE = (202, OPERATION, {})
HALF = (202, {**OPERATION, "registrationState": {"status": "assigning"}}, {})
NO_HUB = (200, {"operationId": "5.op", "status": "assigned", "registrationState": STATE}, {})
HALF_DONE = told("assigned", assignedHub="hub", deviceId="p1")
NO_STATE = (200, {"operationId": "5.op", "status": "assigned"}, {})


@pytest.mark.parametrize(
    ("name", "answers", "said"),
    [
        ("node", [ACCEPTED, NO_STATE], "SyntaxError: the answer assigned has no registrationState"),
        ("csharp", [ACCEPTED, NO_STATE], "TransportException: .* no registrationState"),
        ("csharp", [(202, {"operationId": "5.op"}, {})], "TransportException: .* has no status"),
        ("java", [ACCEPTED, HALF], "ClientException: the registrationState has no registrationId"),
        (
            "java",
            [ACCEPTED, HALF_DONE],
            "ClientException: the registrationState has no registrationId",
        ),
        ("java", [ACCEPTED, NO_HUB], "ClientException: .* no registrationState.assignedHub"),
        ("c", [ACCEPTED, NO_HUB], "PARSING: .* no registrationState.assignedHub"),
        ("edge", [ACCEPTED, BARE], "InvalidData: .* no registrationState.registrationId"),
        ("edge", [ACCEPTED, told("failed", errorCode=400208)], "no registrationState.errorMessage"),
        ("edge", [ACCEPTED, told("failed", errorMessage="no")], "no registrationState.errorCode"),
        ("edge", [(401, {"message": "Unauthorized"}, {})], "the answer 401 has no errorCode|code"),
        (
            "edge",
            [(401, {"errorCode": "401002", "message": "no"}, {})],
            "the answer 401 has no errorCode|code",
        ),
    ],
)
def test_what_a_client_insists_on_is_missed_in_its_words(service, name, answers, said):
    result, _ = register(service, name, *answers)

    assert result.outcome is Outcome.ERROR
    assert re.search(said.replace("|", r"\|"), result.detail)


@pytest.mark.parametrize("name", ["node", "edge"])
def test_two_clients_insist_on_a_content_type(service, name):
    device = Device("pump-1", SharedKey(KEY), PROFILES[name])

    result, _ = run(service, (202, OPERATION, {"Content-Type": "text/plain"}), device=device)

    assert result.outcome is Outcome.ERROR
    assert "'text/plain' is not JSON" in result.detail


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("plain", ""),
        ("node", "SyntaxError: status is disabled"),
        ("csharp", "Disabled"),
        ("java", "ProvisioningDeviceClientException"),
        ("c", "PROV_DEVICE_RESULT_DISABLED"),
        ("edge", "InvalidData"),
    ],
)
def test_a_disabled_device_hears_it_in_the_words_of_its_client(service, name, said):
    result, _ = register(service, name, ACCEPTED, DISABLED)

    assert result.outcome is Outcome.DISABLED
    assert said in result.detail


@pytest.mark.parametrize("trouble", [THROTTLED, BROKEN], ids=["throttled", "broken"])
@pytest.mark.parametrize(
    ("name", "requests"), [("plain", 3), ("node", 1), ("csharp", 1), ("java", 1), ("c", 3), ("edge", 1)]
)
def test_trouble_with_the_registration_is_borne_as_that_client_bears_it(service, name, requests, trouble):
    result, _ = register(service, name, trouble)

    assert result.outcome in (Outcome.THROTTLED, Outcome.ERROR)
    assert len(service.requests) == requests


@pytest.mark.parametrize("trouble", [THROTTLED, BROKEN], ids=["throttled", "broken"])
@pytest.mark.parametrize(
    ("name", "goes_on"),
    [("plain", False), ("node", False), ("csharp", True), ("java", False), ("c", True), ("edge", False)],
)
def test_two_clients_poll_on_through_any_trouble(service, name, goes_on, trouble):
    result, _ = register(service, name, ACCEPTED, *[trouble] * 5, DISABLED)

    assert (result.outcome is Outcome.DISABLED) == goes_on
    assert (len(service.requests) == 7) == goes_on


def test_who_polls_on_ends_when_its_patience_does(service):
    result, _ = register(service, "c", ACCEPTED, THROTTLED, patience=0.3)

    assert result.outcome is Outcome.ERROR
    assert "still assigning" in result.detail


def documented() -> dict[str, dict[str, str]]:
    """The table of profiles in the documentation: by name, then by row."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text().splitlines()]
    (header,) = (row for row in rows if row[1:2] == ["plain"])
    return {
        name: {row[0]: row[column] for row in rows if len(row) == len(header)}
        for column, name in enumerate(header)
        if name
    }


LIFE = {30: "30 s", 2400: "40 min", HOUR: "1 h", 24 * HOUR: "1 day"}
TROUBLE = {
    "fails at once": "fails at once",
    "tries again a few times": "tries again, three times in all",
    "polls on": "polls on",
}


def test_the_documentation_has_the_profiles_as_they_are():
    told = documented()

    assert list(told) == list(PROFILES)
    for name, profile in PROFILES.items():
        rows = told[name]
        assert rows["api-version"] == profile.api_version
        assert rows["life of a token"] == LIFE[profile.token.seconds]
        assert rows["IDs in the path"] == ("encoded" if profile.encodes_ids else "as they are")
        assert rows["429 or 5xx when it registers"] == TROUBLE[profile.trouble_on_register.value]
        assert rows["429 or 5xx when it polls"] == TROUBLE[profile.trouble_on_poll.value]
        named = "skn" in profile.token.fields
        assert rows["`skn`"] == (
            (f"`{profile.token.skn}`" if profile.token.skn else "empty") if named else "absent"
        )
