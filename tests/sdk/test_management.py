"""The published SDKs for back ends: the whole life of every kind of entry, bulk, queries, records, refusals."""

import base64
import re

import pytest

from tests.certificates import root, self_signed
from tests.sdk.calls import Call, bulk, put, query
from tests.soft_tpm import SoftTpm

KEY = base64.b64encode(b"k" * 32).decode()
OTHER_KEY = base64.b64encode(b"o" * 32).decode()


@pytest.fixture(autouse=True)
def _nothing_left(prepare):
    """Names are those of one test and one SDK."""
    prepare(
        "from enrollments.actions.services import change_settings\n"
        "change_settings(service, {'symmetric_key_groups': True}, actor=ALICE)\n"
        "names = list(service.individualenrollments.values_list('registration_id', flat=True))\n"
        "delete_enrollments(service, names, actor=ALICE)\n"
        "groups = list(service.enrollmentgroups.values_list('group_id', flat=True))\n"
        "delete_enrollment_groups(service, groups, actor=ALICE)"
    )


def results(told):
    assert [one for one in told if "error" in one] == []
    return [one["result"] for one in told]


def x509(name):
    pair = {"primary": {"certificate": self_signed(name).pem}}
    return {"registrationId": name, "attestation": {"type": "x509", "x509": {"clientCertificates": pair}}}


def keyed(name, **members):
    given = {"primaryKey": KEY, "secondaryKey": OTHER_KEY}
    attestation = {"type": "symmetricKey", "symmetricKey": given}
    return {"registrationId": name, "attestation": attestation, **members}


def tpm(name):
    attestation = {"type": "tpm", "tpm": {"endorsementKey": SoftTpm().keys.on_the_wire()["endorsementKey"]}}
    return {"registrationId": name, "attestation": attestation}


def group(name):
    pair = {"primary": {"certificate": root(name).pem}}
    attestation = {"type": "x509", "x509": {"signingCertificates": pair}}
    return {"enrollmentGroupId": name, "attestation": attestation, "allocationPolicy": "geoLatency"}


def keyed_group(name):
    return {"enrollmentGroupId": name, "attestation": {"type": "symmetricKey"}, "allocationPolicy": "static"}


ENTRIES = [
    pytest.param(x509, id="X.509"),
    pytest.param(keyed, id="symmetric key"),
    pytest.param(tpm, id="TPM"),
    pytest.param(group, id="group"),
    pytest.param(keyed_group, id="group with keys"),
]


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_life_of_an_entry(manage, entry):
    body = entry("Line:7")
    of = "enrollment" if "registrationId" in body else "enrollment_group"

    created, got, shown = results(
        manage(put(body), Call("get", of, "Line:7"), Call("attestation", of, "Line:7"))
    )
    # What was told is handed back with one thing changed, as scripts do.
    wanted = {**got, "provisioningStatus": "disabled"}
    changed, again, _gone, missing = manage(
        put(wanted, got["etag"]),
        put(body),
        Call("delete", of, "Line:7", etag=None),
        Call("get", of, "Line:7"),
    )

    assert created["etag"] == got["etag"]
    assert re.fullmatch(r'"[0-9a-f-]{36}"', base64.b64decode(got["etag"]).decode())
    assert got["attestation"]["type"] == shown["type"] == body["attestation"]["type"]
    assert changed["result"]["provisioningStatus"] == "disabled"
    assert changed["result"]["createdDateTimeUtc"] == got["createdDateTimeUtc"]
    assert (again["statusCode"], again["body"]["errorCode"]) == (
        409,
        409201 if of == "enrollment" else 409202,
    )
    assert (missing["statusCode"], missing["body"]["errorCode"]) == (
        404,
        404201 if of == "enrollment" else 404202,
    )


def test_group_refers_to_ca_certificates_by_name(manage, prepare):
    prepare(
        "from tests.devices import upload_ca\n"
        "from tests.certificates import root\n"
        "if not service.ca_certificates.exists():\n"
        "    [upload_ca(service, root(name), name) for name in ('plant-ca', 'next-ca')]"
    )
    references = {"primary": "plant-ca", "secondary": "next-ca"}
    attestation = {"type": "x509", "x509": {"caReferences": references}}
    body = {"enrollmentGroupId": "Line:7", "attestation": attestation}

    created, got, shown = results(
        manage(
            put(body),
            Call("get", "enrollment_group", "Line:7"),
            Call("attestation", "enrollment_group", "Line:7"),
        )
    )
    changed, lost = manage(
        put({**got, "provisioningStatus": "disabled"}, got["etag"]),
        put(
            {
                "enrollmentGroupId": "Line:8",
                "attestation": {"type": "x509", "x509": {"caReferences": {"primary": "lost"}}},
            }
        ),
    )

    assert created["attestation"] == got["attestation"] == shown == attestation
    assert changed["result"]["attestation"] == attestation
    assert (lost["statusCode"], lost["body"]["errorCode"]) == (400, 400104)
    assert "caReferences.primary" in lost["body"]["message"]


def test_keys_are_told_where_they_were_made_and_where_they_are_asked_for(manage):
    created, got, shown = results(
        manage(
            put({"registrationId": "made", "attestation": {"type": "symmetricKey", "symmetricKey": {}}}),
            Call("get", "enrollment", "made"),
            Call("attestation", "enrollment", "made"),
        )
    )

    assert len(base64.b64decode(created["attestation"]["symmetricKey"]["primaryKey"])) == 64
    assert shown["symmetricKey"] == created["attestation"]["symmetricKey"]
    assert got["attestation"] == {"type": "symmetricKey"}
    assert got["registrationState"] == {"registrationId": "made", "status": "unassigned"}


def test_etags_decide(manage):
    (created,) = results(manage(put(keyed("one"))))
    stale, changed, refused, deleted = manage(
        put(keyed("one"), "b2xkZXI="),
        put(keyed("one", deviceId="pump"), created["etag"]),
        Call("delete", "enrollment", "one", etag=created["etag"]),
        Call("delete", "enrollment", "one", etag="*"),
    )

    assert stale["statusCode"] == refused["statusCode"] == 412
    assert changed["result"]["deviceId"] == "pump"
    assert "error" not in deleted


def test_everything_that_can_be_said_of_an_enrollment(manage):
    wanted = keyed(
        "full",
        deviceId="pump",
        capabilities={"iotEdge": True},
        initialTwin={"tags": {"line": 4}, "properties": {"desired": {"interval": 10}}},
        provisioningStatus="disabled",
        reprovisionPolicy={"updateHubAssignment": True, "migrateDeviceData": False},
        allocationPolicy="static",
        iotHubs=["second.example"],
        optionalDeviceInformation={"built": "2026"},
    )

    (told,) = results(manage(put(wanted)))

    assert {name: told[name] for name in wanted} == wanted


def test_bulk(manage):
    made, again, _changed, gone = results(
        manage(
            bulk("create", *(keyed(f"b-{number}") for number in range(10))),
            bulk("create", keyed("b-1"), keyed("b-10")),
            bulk("update", keyed("b-1", etag="*", deviceId="pump")),
            bulk("delete", *(keyed(f"b-{number}") for number in range(10))),
        )
    )

    assert made == gone == {"isSuccessful": True, "errors": []}
    assert again["isSuccessful"] is False
    assert [(one["registrationId"], one["errorCode"]) for one in again["errors"]] == [("b-1", 409201)]


def test_who_knows_of_no_times_keeps_them_and_leaves_none_behind(manage, prepare):
    """What was told is handed back, members included that the SDK has never heard of."""
    results(manage(put(keyed("timed"))))
    prepare(
        "from datetime import UTC, datetime, timedelta\n"
        "disable_enrollment(service, 'timed', at=datetime.now(UTC) + timedelta(days=1), reason='end', actor=ALICE)"
    )

    (got,) = results(manage(Call("get", "enrollment", "timed")))
    (twin,) = results(manage(put({**got, "initialTwin": {"tags": {"line": 4}}}, got["etag"])))
    (off,) = results(manage(put({**twin, "provisioningStatus": "disabled"}, twin["etag"])))

    assert (got["provisioningStatus"], got["scheduleReason"]) == ("enabled", "end")
    assert twin["switchesAt"] == got["switchesAt"]
    assert (off["provisioningStatus"], off.get("switchesAt")) == ("disabled", None)


@pytest.mark.parametrize(("size", "lengths"), [(1, [1] * 150), (50, [50] * 3), (None, [100, 50])])
def test_queries_over_150_entries(manage, prepare, size, lengths):
    prepare(
        "one = add_individual_enrollment(service, IndividualSpec(registration_id='q-000',"
        " mechanism=AttestationMechanism.SYMMETRIC_KEY), actor=ALICE)\n"
        "IndividualEnrollment.objects.bulk_create(IndividualEnrollment(service=service,"
        " registration_id=f'q-{n:03}', registration_key=f'q-{n:03}', mechanism='symmetricKey',"
        " primary_key=one.primary_key, secondary_key=one.secondary_key) for n in range(1, 150))"
    )

    (found,) = results(manage(query("enrollment", size)))

    assert [len(page) for page in found] == lengths
    names = [one["registrationId"] for page in found for one in page]
    assert names == [f"q-{number:03}" for number in range(150)]


def test_queries_of_groups(manage):
    results(manage(put(group("one")), put(keyed_group("two"))))

    (found,) = results(manage(query("enrollment_group", 1)))

    assert [one["enrollmentGroupId"] for page in found for one in page] == ["one", "two"]


def test_nothing_to_find(manage):
    assert results(manage(query("enrollment"))) == [[[]]]


def test_registration_records(manage, register):
    ca = root("Records CA")
    results(manage(put({**group("records"), **_signing(ca)})))
    for name in ("r-1", "r-2"):
        leaf = ca.leaf(name)
        assert register(name, cert=leaf.chain_pem(), key=leaf.key_pem).state["status"] == "assigned"

    (record, found) = results(
        manage(
            Call("get", "device_registration_state", "r-1"),
            query("device_registration_state", 1, "records"),
        )
    )
    stale, _deleted, missing, _other = manage(
        Call("delete", "device_registration_state", "r-1", etag="b2xkZXI="),
        Call("delete", "device_registration_state", "r-1", etag=record["etag"]),
        Call("get", "device_registration_state", "r-1"),
        Call("delete", "device_registration_state", "r-2"),
    )

    assert (record["status"], record["assignedHub"], record["deviceId"]) == (
        "assigned",
        "local.hub.internal",
        "r-1",
    )
    assert [one["registrationId"] for page in found for one in page] == ["r-1", "r-2"]
    assert (stale["statusCode"], missing["statusCode"]) == (412, 404)


def _signing(ca):
    pair = {"primary": {"certificate": ca.pem}}
    return {"attestation": {"type": "x509", "x509": {"signingCertificates": pair}}}


def test_a_device_comes_in_by_what_a_back_end_enrolled(manage, register):
    results(manage(put(keyed("by-api", deviceId="pump"))))

    assert register("by-api", symmetricKey=KEY).state["deviceId"] == "pump"

    results(manage(put(keyed("by-api", provisioningStatus="disabled"), "*")))
    assert register("by-api", symmetricKey=KEY).error == "SyntaxError"
    (got,) = results(manage(Call("get", "enrollment", "by-api")))
    assert got["registrationState"]["status"] == "disabled"


def test_another_key_is_refused(manage, connection_string):
    head = connection_string.rpartition("SharedAccessKey=")[0]

    (refused,) = manage(
        Call("get", "enrollment", "one"), connectionString=f"{head}SharedAccessKey={OTHER_KEY}"
    )

    assert (refused["statusCode"], refused["body"]["errorCode"]) == (401, 401002)


def test_an_api_token_in_place_of_a_key(manage, prepare):
    token = prepare(
        "from django.contrib.auth.models import User\n"
        "from enrollments.actions.api_tokens import add_api_token\n"
        "from enrollments.policy.access import AccessRight\n"
        "service.api_tokens.all().delete()\n"
        "rights = [AccessRight.ENROLLMENT_WRITE, AccessRight.ENROLLMENT_READ]\n"
        "print(add_api_token(service, User.objects.get(), 'sdk', rights, days=1, actor=ALICE)[1])"
    ).strip()

    put_, got, beyond = manage(
        put(keyed("by-token")),
        Call("get", "enrollment", "by-token"),
        Call("get", "device_registration_state", "by-token"),
        host="localhost",
        token=token,
    )

    assert put_["result"]["etag"] == got["result"]["etag"]
    assert (beyond["statusCode"], beyond["body"]["errorCode"]) == (403, 403002)
