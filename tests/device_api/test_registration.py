"""The device API as clients see it: contract 1.1 to 1.7."""

import pytest
from django.db import connection

from enrollments.actions.enrollments import disable_enrollment
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import LinkedHub, RegistrationAttempt, RegistrationRecord
from tests.certificates import mint, root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys, shows, signs

pytestmark = pytest.mark.django_db
NOTHING = PresentedCredential()


@pytest.fixture
def top(service):
    top = root("Root A")
    enroll_ca(service, top)
    return top


@pytest.fixture
def pump(top):
    return shows(top.leaf("pump-042"))


# --- What clients need of an answer (1.3, 1.5) ---------------------------------------------------


def test_registering_answers_202_with_operation_and_status(device, pump):
    response = device.register("pump-042", pump, {"registrationId": "pump-042", "payload": {"a": 1}})

    assert response.status_code == 202
    assert set(response.json()) == {"operationId", "status"}
    assert response.json()["status"] == "assigning"
    assert "application/json" in response["Content-Type"]
    assert 1 <= int(response["Retry-After"]) <= 300
    assert response["x-ms-request-id"]
    assert response["Location"] == f"{device.base('pump-042')}/register"
    assert int(response["Content-Length"]) == len(response.content)


def test_polling_answers_200_with_the_assignment(device, pump):
    operation = device.register("pump-042", pump).json()["operationId"]

    response = device.poll("pump-042", operation, pump)

    assert response.status_code == 200
    assert response.json()["status"] == "assigned"
    state = response.json()["registrationState"]
    assert state["assignedHub"] == "plant.hub.internal"
    assert (state["registrationId"], state["deviceId"], state["status"]) == (
        "pump-042",
        "pump-042",
        "assigned",
    )
    assert state["substatus"] == "initialAssignment"
    assert state["x509"] == {}
    assert state["createdDateTimeUtc"].endswith("Z")
    assert state["lastUpdatedDateTimeUtc"].endswith("Z")
    assert state["etag"]


def test_look_up_answers_the_last_result(device, pump):
    device.register("pump-042", pump)

    response = device.look_up("pump-042", pump, body={"registrationId": "pump-042"})

    assert (response.status_code, response.json()["status"]) == (200, "assigned")


def test_disabled_is_an_operation_result_and_no_http_error(device, service):
    leaf = self_signed("pump-042")
    enroll_device(service, leaf)
    disable_enrollment(service, "pump-042", actor=ALICE)

    put = device.register("pump-042", shows(leaf))
    poll = device.poll("pump-042", put.json()["operationId"], shows(leaf))

    assert (put.status_code, put.json()["status"]) == (202, "assigning")
    assert (poll.status_code, poll.json()["status"]) == (200, "disabled")
    assert poll.json()["registrationState"]["status"] == "disabled"
    assert "assignedHub" not in poll.json()["registrationState"]


def test_failed_says_code_and_message(device, pump):
    LinkedHub.objects.update(apply_allocation_policy=False)
    operation = device.register("pump-042", pump).json()["operationId"]

    state = device.poll("pump-042", operation, pump).json()["registrationState"]

    assert (state["status"], state["errorCode"]) == ("failed", 400208)
    assert state["errorMessage"]


def test_failed_for_a_cause_that_another_version_wrote_is_answered_as_in_general(device, pump):
    LinkedHub.objects.update(apply_allocation_policy=False)
    operation = device.register("pump-042", pump).json()["operationId"]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE enrollments_registrationrecord SET reason = 'moon_phase'")

    response = device.poll("pump-042", operation, pump)

    state = response.json()["registrationState"]
    assert (response.status_code, state["status"], state["errorCode"]) == (200, "failed", 400209)


def test_symmetric_key_device_registers_and_polls(device, service):
    entry = enroll_keys(service, "key-1")
    credential = signs(service, "key-1", entry.secondary_key)

    operation = device.register("key-1", credential, {"registrationId": "key-1", "payload": None}).json()[
        "operationId"
    ]
    response = device.poll("key-1", operation, credential, body={})

    assert response.json()["registrationState"]["assignedHub"] == "plant.hub.internal"
    assert "x509" not in response.json()["registrationState"]


@pytest.mark.parametrize(
    "version", ["2017-08-31-preview", "2018-11-01", "2019-03-31", "2021-06-01", "2026-04-01"]
)
def test_every_well_formed_version_is_served(device, pump, version):
    assert (
        device.register("pump-042", pump, query=f"api-version={version}&forceRegistration=true").status_code
        == 202
    )


def test_encoded_registration_id_is_decoded_once(device, service, top):
    response = device.register("pump%3A42-x", shows(top.leaf("pump:42-x")))

    assert response.status_code == 202
    assert RegistrationRecord.objects.get().registration_id == "pump:42-x"


def test_id_scope_is_found_in_either_case(device, pump):
    device.id_scope = device.id_scope.lower()

    assert device.register("pump-042", pump).status_code == 202


# --- Refusals ----------------------------------------------------------------------------------


def test_every_unproven_credential_hears_the_same_401(device, service, top):
    enroll_device(service, self_signed("known"))
    enroll_keys(service, "key-1")
    credentials = {
        "nothing": ("pump-042", NOTHING),
        "stranger": ("pump-042", shows(self_signed("pump-042"))),
        "stranger with a known name": ("known", shows(self_signed("known"))),
        "other name": ("pump-042", shows(top.leaf("pump-043"))),
        "unknown key device": ("key-2", signs(service, "key-2", "a2tra2tra2tra2tra2tra2tra2s=")),
        "wrong key": ("key-1", signs(service, "key-1", "a2tra2tra2tra2tra2tra2tra2s=")),
        "token of a device with a certificate": (
            "known",
            signs(service, "known", "a2tra2tra2tra2tra2tra2tra2s="),
        ),
        "malformed token": ("key-1", PresentedCredential(authorization="SharedAccessSignature x")),
        "bearer token": ("key-1", PresentedCredential(authorization="Bearer abc")),
        "unreadable": ("pump-042", PresentedCredential((b"0",))),
        "fifty": ("pump-042", PresentedCredential((top.der,) * 50)),
        "other credential": ("known", shows(top.leaf("known"))),
    }

    answers = {case: device.register(*asked) for case, asked in credentials.items()}

    bodies = {
        (
            response.status_code,
            response.json()["errorCode"],
            response.json()["message"],
            *sorted(response.headers),
        )
        for response in answers.values()
    }
    assert len(bodies) == 1
    assert next(iter(bodies))[:3] == (401, 401002, "Unauthorized")
    assert len({response.json()["trackingId"] for response in answers.values()}) == len(answers)
    assert not RegistrationRecord.objects.exists()


def test_unproven_poll_hears_nothing_of_the_operation(device, pump, top):
    operation = device.register("pump-042", pump).json()["operationId"]
    stranger = shows(self_signed("pump-042"))

    real, invented = device.poll("pump-042", operation, stranger), device.poll("pump-042", "5.0.0", stranger)

    assert (real.status_code, invented.status_code) == (401, 401)
    assert device.poll("pump-042", "5.0.0", pump).status_code == 404


def test_header_that_pretends_to_carry_a_certificate_proves_nothing(device, top):
    leaf = top.leaf("pump-042")
    pretences = {
        "HTTP_CLIENT_CERT": f":{leaf.pem}:",
        "HTTP_X_CLIENT_CERT": leaf.pem.replace("\n", ""),
        "HTTP_X_SSL_CERT": leaf.pem.replace("\n", ""),
        "HTTP_X_ARR_CLIENTCERT": leaf.pem.replace("\n", ""),
        "HTTP_DPS_PEER_CERTIFICATES": leaf.pem.replace("\n", ""),
        "HTTP_X_FORWARDED_CLIENT_CERT": "By=x;Cert=y",
    }

    response = device.register("pump-042", NOTHING, **pretences)

    assert response.status_code == 401
    assert RegistrationAttempt.objects.get().reason == "no_credential"


def test_body_that_pretends_to_carry_a_certificate_proves_nothing(device, top):
    body = {"registrationId": "pump-042", "x509": {"certificate": top.leaf("pump-042").pem}}

    assert device.register("pump-042", NOTHING, body).status_code == 401


def test_two_common_names_and_letters_beyond_ascii_are_unauthorized(device, top):
    for leaf in (top.leaf("pump-042", "pump-042"), top.leaf("pümp-042"), mint("pump-042\u200b", issuer=top)):
        assert device.register("pump-042", shows(leaf)).status_code == 401


# --- Bad input: a 4xx with the error body, and nothing kept -----------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"{", 400001, id="cut off"),
        pytest.param(b"[]", 400001, id="no object"),
        pytest.param(b"null", 400001, id="null"),
        pytest.param(b'{"a":1,"a":1}', 400001, id="duplicate"),
        pytest.param(b"[" * 10_000 + b"]" * 10_000, 400001, id="deep"),
        pytest.param(b'{"payload":"\\ud800"}', 400001, id="lone surrogate"),
        pytest.param(b'{"payload":"\\u0000"}', 400001, id="NUL"),
        pytest.param(b"\xff\xff", 400001, id="not UTF-8"),
        pytest.param(b'{"payload":' + b"9" * 5000 + b"}", 400001, id="huge number"),
        pytest.param({"registrationId": "pump-043"}, 400002, id="another ID than in the path"),
        pytest.param({"registrationId": 7}, 400002, id="ID of a wrong type"),
        pytest.param({"registrationId": "pump-042", "tpm": {"endorsementKey": "x"}}, 400005, id="TPM"),
        pytest.param({"csr": "x"}, 400003, id="CSR"),
        pytest.param(b'{"payload":"' + b"x" * 98_304 + b'"}', 413001, id="over 96 KB"),
    ],
)
def test_bad_body_is_refused_and_keeps_nothing(device, pump, body, code):
    response = device.register("pump-042", pump, body)

    assert (response.status_code, response.json()["errorCode"]) == (code // 1000, code)
    assert response["x-ms-error-code"] == str(code)
    assert response.json()["trackingId"]
    assert not RegistrationRecord.objects.exists()
    assert not RegistrationAttempt.objects.exists()


def test_body_of_just_96_kb_is_accepted(device, pump):
    frame = len(b'{"payload":""}')

    assert (
        device.register("pump-042", pump, b'{"payload":"' + b"x" * (98_304 - frame) + b'"}').status_code
        == 202
    )


@pytest.mark.parametrize(
    "query", ["", "api-version=", "api-version=latest", "api-version=٢٠٢١-٠٦-٠١", "version=2021-06-01"]
)
def test_missing_or_malformed_version_is_refused(device, pump, query):
    response = device.register("pump-042", pump, query=query)

    assert (response.status_code, response.json()["errorCode"]) == (400, 400004)


@pytest.mark.parametrize("host", ["", "dps_device:8443", "-", "[::1]:8443", "example.net"])
def test_host_name_that_was_dialled_decides_nothing(device, pump, host):
    assert device.register("pump-042", pump, HTTP_HOST=host).status_code == 202


@pytest.mark.parametrize("id_scope", ["0neFFFFFFFF", "0ne%00", "0ne", "x" * 300, "0neFFFFFFFF%00", "%FF"])
def test_unknown_id_scope_is_not_found(device, pump, id_scope):
    device.id_scope = id_scope

    response = device.register("pump-042", pump)

    assert (response.status_code, response.json()["errorCode"]) == (404, 404001)


@pytest.mark.parametrize(
    "registration_id", ["pump.", "p" * 129, "p%C3%BCmp", "pump%20042", "pump%00", "%ED%A0%80", "a%25"]
)
def test_registration_id_of_wrong_form_is_refused(device, pump, registration_id):
    response = device.register(registration_id, pump)

    assert response.status_code == 400
    assert response.json()["errorCode"] == 400002


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/register"), ("DELETE", ""), ("PUT", "/operations/5.0.0"), ("POST", "/register")],
)
def test_other_methods_are_not_allowed(device, pump, method, path):
    response = device.call(method, f"{device.base('pump-042')}{path}?api-version=2021-06-01", pump)

    assert (response.status_code, response.json()["errorCode"]) == (405, 405001)


@pytest.mark.parametrize("path", ["/", "/x", "/0neFFFFFFFF/registrations/", "/a/b/c/d/e"])
def test_paths_that_do_not_exist_answer_the_error_body(device, path):
    response = device.call("GET", path, NOTHING)

    assert (response.status_code, response.json()["errorCode"]) == (404, 404000)


def test_failure_of_our_own_answers_the_error_body_and_says_nothing_more(device, pump, monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("enrollments.device_api.views.register_device", broken)

    response = device.register("pump-042", pump)

    assert (response.status_code, response.json()["errorCode"]) == (500, 500001)
    assert b"secret detail" not in response.content


# --- Cost ----------------------------------------------------------------------------------------


def test_registering_again_is_a_known_number_of_queries(device, pump, django_assert_max_num_queries):
    device.register("pump-042", pump)

    with django_assert_max_num_queries(24):
        device.register("pump-042", pump)


def test_refusing_a_stranger_is_a_known_number_of_queries(device, top, django_assert_max_num_queries):
    with django_assert_max_num_queries(12):
        device.register("pump-042", shows(self_signed("pump-042")))
