"""Contract 1.1 to 1.7 row by row: each spelling that a client in use sends, and each that nobody may send."""

import base64
import hashlib
import hmac
import itertools
import re
import time
from urllib.parse import quote

import pytest

from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.symmetric_key import TokenMalformed, check_token, key_bytes, read_token
from enrollments.errors import AttestationError
from enrollments.models import RegistrationRecord
from tests.certificates import root, self_signed
from tests.device_api.conftest import DeviceClient
from tests.devices import enroll_ca, enroll_keys, new_service, shows, signs

pytestmark = pytest.mark.django_db

ID = "Pump-042"
KEY = base64.b64encode(b"k" * 32).decode()
OTHER_KEY = base64.b64encode(b"o" * 32).decode()
NOTHING = PresentedCredential()


def lower_hex(text: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), text)


# The column "sr text" of 1.4, and who sends it so.
RESOURCES = {
    "raw (Node, Java)": lambda name: name,
    "upper-case hex (Node with a TPM, Python, C#, Java)": lambda name: quote(name, safe=""),
    "lower-case hex (C)": lambda name: lower_hex(quote(name, safe="")),
    "all lower-cased (IoT Edge)": lambda name: quote(name.lower(), safe=""),
    "all lower-cased, lower-case hex (REST)": lambda name: lower_hex(quote(name.lower(), safe="")),
    "raw, all lower-cased": lambda name: name.lower(),
}
ORDERS = {
    "sr sig se skn": ("sr", "sig", "se", "skn"),
    "sr sig skn se": ("sr", "sig", "skn", "se"),
    "se first": ("se", "sr", "skn", "sig"),
    "backwards": ("skn", "se", "sig", "sr"),
}
POLICY_NAMES = {"absent": None, "empty": "", "named": "registration"}


def token_fields(id_scope: str, key: str = KEY, spelled=RESOURCES["raw (Node, Java)"]) -> dict[str, str]:
    resource, expiry = spelled(f"{id_scope}/registrations/{ID}"), str(int(time.time()) + 3600)
    digest = hmac.digest(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256)
    return {"sr": resource, "sig": quote(base64.b64encode(digest), safe=""), "se": expiry}


def as_header(
    fields: dict[str, str], order=("sr", "sig", "se", "skn"), scheme="SharedAccessSignature"
) -> str:
    return f"{scheme} " + "&".join(f"{name}={fields[name]}" for name in order if name in fields)


def shown(header: str) -> PresentedCredential:
    return PresentedCredential(authorization=header)


@pytest.fixture
def entry(service):
    return enroll_keys(service, ID, primary_key=KEY, secondary_key=OTHER_KEY)


@pytest.fixture
def proof(service, entry):
    return signs(service, ID, KEY)


# --- 1.4: every row -------------------------------------------------------------------------------


@pytest.mark.parametrize("spelled", RESOURCES.values(), ids=RESOURCES)
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_token_of_every_spelling_registers_with_either_key(device, service, entry, spelled, order):
    answers = []
    for key, policy_name in itertools.product((KEY, OTHER_KEY), POLICY_NAMES.values()):
        fields = token_fields(service.id_scope, key, spelled)
        if policy_name is not None:
            fields["skn"] = policy_name
        answers.append(device.register(ID, shown(as_header(fields, order))).status_code)

    assert answers == [202] * 6


@pytest.mark.parametrize("spelled", RESOURCES.values(), ids=RESOURCES)
def test_token_of_every_spelling_is_refused_with_another_key(device, service, entry, spelled):
    stranger = token_fields(service.id_scope, base64.b64encode(b"x" * 32).decode(), spelled)

    assert device.register(ID, shown(as_header(stranger))).status_code == 401


# --- 1.4: tampering -------------------------------------------------------------------------------


def test_no_character_of_a_token_can_be_exchanged():
    """Each of `sr`, `sig` and `se`, one after the other. In `sig` the last one has bits that mean nothing."""
    fields = token_fields("0neSCOPE")
    tried = 0
    for name, value in fields.items():
        ends = value.index("%3D") - 1 if name == "sig" else len(value)
        for place in range(ends):
            changed = value[:place] + ("7" if value[place] != "7" else "1") + value[place + 1 :]
            with pytest.raises(AttestationError):
                check_token(
                    read_token(as_header(fields | {name: changed})),
                    id_scope="0neSCOPE",
                    registration_id=ID,
                    keys=[key_bytes(KEY)],
                    now=time.time(),
                )
            tried += 1

    assert tried > 80


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: f | {"sr": f["sr"].replace(ID, "Pump-043")}, id="another device"),
        pytest.param(
            lambda f: f | {"sr": f["sr"].replace(f["sr"][:11], "0neFFFFFFFF")}, id="another ID scope"
        ),
        pytest.param(lambda f: f | {"sr": f["sr"] + "/x"}, id="longer resource"),
        pytest.param(lambda f: f | {"sr": f["sr"].replace("/", "%2F")}, id="same resource, other spelling"),
        pytest.param(lambda f: f | {"sr": f["sr"].lower()}, id="same resource, other case"),
        pytest.param(lambda f: f | {"sr": ""}, id="empty resource"),
        pytest.param(lambda f: f | {"sig": f["sig"][4:]}, id="shorter signature"),
        pytest.param(lambda f: f | {"sig": ""}, id="empty signature"),
        pytest.param(lambda f: f | {"sig": quote(base64.b64encode(bytes(32)))}, id="signature of zeros"),
        pytest.param(lambda f: f | {"sig": "none"}, id="no signature"),
        pytest.param(lambda f: f | {"se": str(int(f["se"]) + 1)}, id="valid for longer"),
        pytest.param(lambda f: f | {"se": str(int(f["se"]) - 1)}, id="valid for less"),
        pytest.param(lambda f: f | {"se": f"0{f['se']}"}, id="same second, other spelling"),
        pytest.param(lambda f: f | {"se": f"{f['se']}.0"}, id="second with a fraction"),
        pytest.param(lambda f: f | {"se": "9999999999"}, id="valid for ever"),
        pytest.param(lambda f: f | {"se": ""}, id="empty expiry"),
        *(
            pytest.param(lambda f, name=name: {k: v for k, v in f.items() if k != name}, id=f"without {name}")
            for name in ("sr", "sig", "se")
        ),
    ],
)
def test_token_with_a_field_tampered_with_proves_nothing(device, service, entry, change):
    whole = token_fields(service.id_scope)

    answer = device.register(ID, shown(as_header(change(whole))))

    assert (answer.status_code, answer.json()["errorCode"]) == (401, 401002)
    assert not RegistrationRecord.objects.exists()
    assert device.register(ID, shown(as_header(whole))).status_code == 202


@pytest.mark.parametrize("name", ["sr", "sig", "se", "skn"])
def test_token_with_a_field_twice_is_malformed(device, service, entry, name):
    fields = token_fields(service.id_scope) | {"skn": "registration"}
    header = f"{as_header(fields)}&{name}={fields[name]}"

    with pytest.raises(TokenMalformed):
        read_token(header)
    assert device.register(ID, shown(header)).status_code == 401


@pytest.mark.parametrize("policy_name", ["registration", "Registration", "", "iothubowner", "x%26sr%3Dy"])
def test_policy_name_is_not_signed_and_decides_nothing(device, service, entry, policy_name):
    right = token_fields(service.id_scope) | {"skn": policy_name}
    wrong = token_fields(service.id_scope, base64.b64encode(b"x" * 32).decode()) | {"skn": policy_name}

    assert device.register(ID, shown(as_header(right))).status_code == 202
    assert device.register(ID, shown(as_header(wrong))).status_code == 401


@pytest.mark.parametrize("scheme", ["", "Bearer", "Basic", "SharedAccessSignatur", "SharedAccessSignature2"])
def test_token_under_another_scheme_proves_nothing(device, service, entry, scheme):
    header = as_header(token_fields(service.id_scope), scheme=scheme)

    assert device.register(ID, shown(header)).status_code == 401


def test_token_for_one_service_proves_nothing_to_another(service, entry):
    other = new_service("other")
    enroll_keys(other, ID, primary_key=KEY, secondary_key=OTHER_KEY)
    header = as_header(token_fields(service.id_scope))

    assert DeviceClient(other.id_scope).register(ID, shown(header)).status_code == 401
    assert DeviceClient(service.id_scope).register(ID, shown(header)).status_code == 202


# --- 1.1 and 1.2: paths, versions, queries --------------------------------------------------------

VERSIONS = [
    "2017-08-31-preview",
    "2018-04-01",
    "2018-09-01-preview",
    "2018-11-01",
    "2019-03-31",
    "2021-06-01",
    "2021-10-01",
    "2021-11-01-preview",
    "2025-07-01-preview",
    "2026-04-01",
]


@pytest.mark.parametrize("version", VERSIONS)
def test_each_call_is_the_same_in_every_version(device, proof, version):
    query = f"api-version={version}"
    put = device.call("PUT", f"{device.base(ID)}/register?{query}", proof, {"registrationId": ID})
    operation_id = put.json()["operationId"]
    poll = device.call("GET", f"{device.base(ID)}/operations/{operation_id}?{query}", proof)
    look_up = device.call("POST", f"{device.base(ID)}?{query}", proof, {"registrationId": ID})

    assert (put.status_code, put.json()) == (202, {"operationId": operation_id, "status": "assigning"})
    assert (poll.status_code, poll.json()["status"]) == (200, "assigned")
    assert (look_up.status_code, look_up.json()) == (200, poll.json()["registrationState"])


@pytest.mark.parametrize(
    "query",
    [
        "api-version=2019-03-31&forceRegistration=true",
        "forceRegistration=true&api-version=2019-03-31",
        "forceRegistration=false&api-version=2019-03-31",
        "forceRegistration=&api-version=2019-03-31",
    ],
)
def test_force_registration_makes_no_difference(device, proof, query):
    first = device.register(ID, proof)
    forced = device.register(ID, proof, query=query)

    state = device.poll(ID, forced.json()["operationId"], proof).json()["registrationState"]
    assert (first.status_code, forced.status_code) == (202, 202)
    assert (state["status"], state["substatus"]) == ("assigned", "initialAssignment")


@pytest.mark.parametrize("spelled", ["a:b.c_d-7", "a%3Ab.c_d-7", "a%3ab%2Ec%5Fd%2D7", "%61:b.c_d-7"])
def test_ids_in_the_path_may_be_encoded(device, service, spelled):
    enroll_keys(service, "a:b.c_d-7", primary_key=KEY)
    proof = signs(service, "a:b.c_d-7", KEY)
    device.id_scope = f"%30{service.id_scope[1:]}"

    operation_id = device.register(spelled, proof, {"registrationId": "a:b.c_d-7"}).json()["operationId"]
    state = device.poll(spelled, operation_id, proof).json()["registrationState"]

    assert (state["registrationId"], state["status"]) == ("a:b.c_d-7", "assigned")


def test_ids_in_the_path_are_decoded_once(device, service):
    enroll_keys(service, "a:b", primary_key=KEY)

    answer = device.register("a%253Ab", signs(service, "a:b", KEY))

    assert (answer.status_code, answer.json()["errorCode"]) == (400, 400002)


# --- 1.3: bodies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"registrationId":"Pump-042"}',
        b'{"registrationId":"PUMP-042"}',
        b'{"payload":null,"registrationId":"Pump-042"}',
        b'{"registrationId":"Pump-042","payload":"text"}',
        b'{"registrationId":"Pump-042","payload":[1,2.5,true]}',
        b'{"registrationId":"Pump-042","payload":{"a":{"b":[]}}}',
        b'{"registrationId":"Pump-042","unheardOf":{"x":1}}',
        b'{\r\n  "registrationId": "Pump-042"\r\n}',
        b'{ "registrationId":"Pump\\u002d042" }',
    ],
)
def test_every_body_in_use_registers(device, proof, body):
    assert device.register(ID, proof, body).status_code == 202


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "text/plain", ""]
)
def test_content_type_of_a_request_is_not_looked_at(device, proof, content_type):
    answer = device.register(ID, proof, {"registrationId": ID}, content_type=content_type)

    assert answer.status_code == 202


@pytest.mark.parametrize("body", [b"", b"{}", b'{"registrationId":"Pump-042"}'])
def test_poll_may_have_a_body(device, proof, body):
    operation_id = device.register(ID, proof).json()["operationId"]

    answer = device.poll(ID, operation_id, proof, body=body)

    assert (answer.status_code, answer.json()["status"]) == (200, "assigned")


def test_operation_id_is_fit_for_a_path(device, proof):
    operation_id = device.register(ID, proof).json()["operationId"]

    assert re.fullmatch(r"5\.[0-9a-f]{16}\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", operation_id)


def test_state_has_the_members_of_the_contract_and_no_others(device, service, proof):
    enroll_ca(service, ca := root("Root A"))
    leaf = shows(ca.leaf("pump-x"))
    states = {}
    for name, credential in ((ID, proof), ("pump-x", leaf)):
        operation_id = device.register(name, credential).json()["operationId"]
        states[name] = device.poll(name, operation_id, credential).json()["registrationState"]

    always = {
        *("registrationId", "status", "createdDateTimeUtc", "lastUpdatedDateTimeUtc", "etag"),
        *("assignedHub", "deviceId", "substatus"),
    }
    assert set(states[ID]) == always
    assert set(states["pump-x"]) == always | {"x509"}
    for state in states.values():
        assert re.fullmatch(rb'"[0-9a-f-]{36}"', base64.b64decode(state["etag"]))
        for moment in (state["createdDateTimeUtc"], state["lastUpdatedDateTimeUtc"]):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,6}[1-9])?Z", moment)


# --- 1.5 and 1.7: what every answer has -----------------------------------------------------------


def test_every_answer_names_its_type_and_its_length(device, proof):
    operation_id = device.register(ID, proof).json()["operationId"]
    answers = [
        device.register(ID, proof),
        device.poll(ID, operation_id, proof),
        device.look_up(ID, proof),
        device.register(ID, NOTHING),
        device.poll(ID, "5.0.0", proof),
        device.register("no such.", proof),
        device.register(ID, proof, query=""),
        device.register(ID, proof, b"["),
        device.call("DELETE", device.base(ID), proof),
        device.call("GET", "/", proof),
    ]

    assert {answer["Content-Type"] for answer in answers} == {"application/json; charset=utf-8"}
    assert all(int(answer["Content-Length"]) == len(answer.content) for answer in answers)


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        pytest.param(lambda device, proof: device.register(ID, proof, b"["), 400001, id="body"),
        pytest.param(lambda device, proof: device.register("no such.", proof), 400002, id="registration ID"),
        pytest.param(lambda device, proof: device.register(ID, proof, query=""), 400004, id="version"),
        pytest.param(lambda device, proof: device.register(ID, NOTHING), 401002, id="no proof"),
        pytest.param(lambda device, proof: device.look_up(ID, NOTHING), 401002, id="no proof, look-up"),
        pytest.param(lambda device, proof: device.poll(ID, "5.0.0", NOTHING), 401002, id="no proof, poll"),
        pytest.param(
            lambda device, proof: device.register("strange", shows(self_signed("strange"))),
            401002,
            id="stranger",
        ),
        pytest.param(lambda device, proof: device.call("GET", "/", proof), 404000, id="path"),
        pytest.param(
            lambda device, proof: DeviceClient("0ne00000000").register(ID, proof), 404001, id="ID scope"
        ),
        pytest.param(lambda device, proof: device.poll(ID, "5.0.0", proof), 404002, id="operation"),
        pytest.param(
            lambda device, proof: device.call("DELETE", f"{device.base(ID)}?api-version=2019-03-31", proof),
            405001,
            id="method",
        ),
        pytest.param(lambda device, proof: device.register(ID, proof, b" " * 98_305), 413001, id="length"),
    ],
)
def test_every_error_has_a_number_and_a_message(device, proof, ask, code):
    """What IoT Edge cannot do without, and what an owner searches for."""
    answer = ask(device, proof)

    body = answer.json()
    assert (answer.status_code, body["errorCode"], answer["x-ms-error-code"]) == (
        code // 1000,
        code,
        str(code),
    )
    assert isinstance(body["message"], str)
    assert body["message"]
    assert re.fullmatch(r"[0-9a-f-]{36}", body["trackingId"])
    assert body["timestampUtc"].endswith("Z")
    assert "status" not in body  # the client for C takes an error with a status for a result


def test_retry_after_is_in_whole_seconds_where_a_client_waits(device, proof):
    put = device.register(ID, proof)
    poll = device.poll(ID, put.json()["operationId"], proof)

    assert (put["Retry-After"], poll["Retry-After"]) == ("3", "3")
