"""Who is let in: keys of policies, tokens of people, hosts, rights; and that shutting out holds at once (6.1, R12)."""

import base64
import threading
from datetime import timedelta
from urllib.parse import quote, quote_plus

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from dpsportal.device_urls import urlpatterns as device_patterns
from enrollments.actions import service_access
from enrollments.actions.access_counts import write_down_failures
from enrollments.actions.access_policies import (
    add_policy,
    change_policy,
    delete_policy,
    regenerate_policy_key,
)
from enrollments.actions.api_tokens import add_api_token, revoke_api_token
from enrollments.actions.people import remove_person, set_active, set_role
from enrollments.actions.services import add_service, change_settings
from enrollments.models import AccessPolicy, ApiToken, HistoryEvent, IndividualEnrollment, SignInFailures
from enrollments.models.locks import change_lock
from enrollments.policy.access import AccessRight, rights_within
from enrollments.policy.roles import Role
from enrollments.service_api import views
from enrollments.service_api.urls import urlpatterns
from tests.devices import ALICE, enroll_keys
from tests.factories import a_user
from tests.service_api.conftest import HOST, BackEnd, error_of, keys, service_token, with_policy

pytestmark = pytest.mark.django_db

UNAUTHORIZED = (401, 401002, "Unauthorized")
OTHER_KEY = base64.b64encode(b"o" * 64).decode()

# Every route with its right, written from the contract (6.2).
ROUTES = {
    ("PUT", "/enrollments/x"): "EnrollmentWrite",
    ("GET", "/enrollments/x"): "EnrollmentRead",
    ("DELETE", "/enrollments/x"): "EnrollmentWrite",
    ("POST", "/enrollments/x/attestationmechanism"): "EnrollmentWrite",
    ("POST", "/enrollments"): "EnrollmentWrite",
    ("POST", "/enrollments/query"): "EnrollmentRead",
    ("PUT", "/enrollmentGroups/x"): "EnrollmentWrite",
    ("GET", "/enrollmentGroups/x"): "EnrollmentRead",
    ("DELETE", "/enrollmentGroups/x"): "EnrollmentWrite",
    ("POST", "/enrollmentGroups/x/attestationmechanism"): "EnrollmentWrite",
    ("POST", "/enrollmentGroups"): "EnrollmentWrite",
    ("POST", "/enrollmentGroups/query"): "EnrollmentRead",
    ("GET", "/registrations/x"): "RegistrationStatusRead",
    ("DELETE", "/registrations/x"): "RegistrationStatusWrite",
    ("POST", "/registrations/x/query"): "RegistrationStatusRead",
}
each_route = pytest.mark.parametrize(
    ("route", "needed"), [pytest.param(*one, id=" ".join(one[0])) for one in ROUTES.items()]
)


def a_policy(service, *rights, name="fleet-sync"):
    return add_policy(service, name, rights or frozenset(AccessRight), actor=ALICE)


def a_token(service, user, *rights, days=30, name="laptop"):
    return add_api_token(
        service, user, name, rights or [AccessRight.ENROLLMENT_READ], days=days, actor=ALICE
    )[1]


def bearer(text):
    return BackEnd(f"Bearer {text}")


def switch(policy, enabled):
    policy.refresh_from_db()
    return change_policy(
        policy.service,
        policy.name,
        rights=policy.access_rights,
        enabled=enabled,
        expected_etag=policy.etag,
        actor=ALICE,
    )


def test_every_route_of_the_code_is_in_the_table():
    declared = sorted(
        handler.needed_right.value
        for pattern in urlpatterns
        for method, handler in pattern.callback.handlers.items()
        # PUT, GET and DELETE of what happens to be called query are those of any other name.
        if not (pattern.pattern.regex.pattern.endswith("(?P<name>query)/?$") and method != "POST")
    )

    assert declared == sorted(ROUTES.values())


def test_back_ends_are_served_before_devices():
    """An ID scope is no word, so the order takes nothing from devices."""
    included = [pattern.url_patterns for pattern in device_patterns if hasattr(pattern, "url_patterns")]

    assert included[0] is urlpatterns


@each_route
@pytest.mark.parametrize("right", list(AccessRight))
def test_each_route_asks_for_its_right_and_for_no_other(service, route, needed, right):
    back_end = with_policy(a_policy(service, right))

    status, code, message = error_of(back_end.call(*route))

    if right.value == needed:
        # Nothing is there, or nothing was sent: it got past the door.
        assert status in (400, 404)
    else:
        assert (status, code) == (403, 403002)
        assert needed in message


@each_route
@pytest.mark.parametrize("right", list(AccessRight))
def test_the_same_for_tokens(service, route, needed, right):
    back_end = bearer(a_token(service, a_user(Role.ADMINISTRATOR, service), right))

    status = error_of(back_end.call(*route))[0]

    assert status in ((400, 404) if right.value == needed else (403,))


def test_refused_attempt_at_a_change_names_it(service):
    back_end = with_policy(a_policy(service, AccessRight.SERVICE_CONFIG))

    back_end.put("/enrollments/x", keys("x"))

    row = HistoryEvent.objects.latest("pk")
    assert (row.event, row.actor_name, row.subject_kind, row.subject_name, row.after) == (
        "action.refused",
        "fleet-sync",
        "refused:IndividualEnrollment",
        "x",
        {"tried": "PUT /enrollments/x"},
    )


def test_back_end_that_may_not_read_leaves_one_row_however_many_devices_it_has(service):
    back_end = with_policy(a_policy(service, AccessRight.SERVICE_CONFIG))

    for number in range(10):
        assert back_end.get(f"/enrollments/{number}").status_code == 403
        back_end.post("/Enrollments/query/", {"query": "SELECT *"})

    row = HistoryEvent.objects.get(event="action.refused")
    assert (row.actor_name, row.subject_kind, row.subject_name, row.after) == (
        "fleet-sync",
        "action",
        "read below /enrollments/",
        None,
    )


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (
            {"mode": "delete", "enrollments": [{"registrationId": "a"}, {"registrationId": "b"}, 7, {}]},
            {"kind": "IndividualEnrollment", "names": ["a", "b"]},
        ),
        ({"mode": "delete", "enrollments": "none"}, None),
        ([], None),
    ],
)
def test_refused_bulk_operation_names_its_entries(service, body, named):
    back_end = with_policy(a_policy(service, AccessRight.SERVICE_CONFIG))

    assert error_of(back_end.call("POST", "/enrollments", body))[0] == 403

    row = HistoryEvent.objects.latest("pk")
    assert (row.subject_name, row.after) == ("POST /enrollments", named)


@pytest.mark.parametrize(
    "resource",
    [
        pytest.param(HOST, id="raw"),
        pytest.param(HOST.upper(), id="in capitals"),
        pytest.param(f"{HOST}:443", id="with the port"),
        pytest.param(quote_plus(f"{HOST}:443"), id="with the port, encoded"),
        pytest.param(f"{HOST}/", id="with a slash"),
        pytest.param(quote_plus(f"https://{HOST}"), id="a whole address"),
        pytest.param(f"{HOST}/enrollments", id="a prefix"),
        pytest.param(quote_plus(f"{HOST}/Enrollments/X").lower(), id="the path, encoded in lower case"),
    ],
)
def test_what_a_token_may_be_for(owner, resource):
    answer = with_policy(owner, resource=resource).get("/enrollments/x")

    assert error_of(answer)[:2] == (404, 404201)


@pytest.mark.parametrize(
    "resource",
    [
        pytest.param("other.example", id="another host"),
        pytest.param(f"{HOST}.evil", id="a longer host"),
        pytest.param("ps.example", id="the end of the host"),
        pytest.param(quote_plus(f"{HOST}:8443"), id="another port"),
        pytest.param(f"{HOST}/enrollmentGroups", id="another path"),
        pytest.param(f"{HOST}/enrollments/x/y", id="a path further down"),
        pytest.param(f"{HOST}/enroll", id="half a segment"),
        pytest.param("/enrollments", id="no host"),
        pytest.param("0ne12345678/registrations/x", id="a device"),
        pytest.param(quote(f"{HOST}/é"), id="beyond ASCII"),
        pytest.param("%", id="a percent sign"),
    ],
)
def test_what_a_token_is_not_for(owner, resource):
    assert error_of(with_policy(owner, resource=resource).get("/enrollments/x")) == UNAUTHORIZED


def test_the_port_of_a_token_is_that_which_was_dialled(owner):
    token = service_token(owner.primary_key, owner.name, resource=quote_plus(f"{HOST}:8443"))

    assert error_of(BackEnd(token, host=f"{HOST}:8443").get("/enrollments/x"))[0] == 404
    assert error_of(BackEnd(token, host=HOST).get("/enrollments/x")) == UNAUTHORIZED


def test_behind_a_proxy_the_host_name_of_the_service_counts_too(service, owner):
    change_settings(service, {"host_name": "dps.example"}, actor=ALICE)
    token = service_token(owner.primary_key, owner.name)

    assert error_of(BackEnd(token, host="127.0.0.1:8444").get("/enrollments/x"))[0] == 404


def tampered(key, policy, **changed):
    return service_token(key, policy, **changed)


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(lambda p: "", id="none"),
        pytest.param(lambda p: "Basic YTpi", id="another scheme"),
        pytest.param(lambda p: "Bearer", id="no token"),
        pytest.param(lambda p: "Bearer dpst_nobody", id="an unknown token"),
        pytest.param(lambda p: service_token(p.primary_key, p.name, expiry=1), id="expired"),
        pytest.param(lambda p: service_token(OTHER_KEY, p.name), id="another key"),
        pytest.param(lambda p: service_token(p.primary_key, "nobody"), id="an unknown policy"),
        pytest.param(lambda p: service_token(p.primary_key, p.name, skn=""), id="no policy"),
        pytest.param(lambda p: service_token(p.primary_key, p.name, sr="dps.example%2F"), id="sr tampered"),
        pytest.param(lambda p: service_token(p.primary_key, p.name, se="99999999999"), id="se tampered"),
        pytest.param(lambda p: service_token(p.primary_key, p.name, sig="AAAA"), id="sig tampered"),
        pytest.param(lambda p: service_token(p.primary_key, p.name, sig="%%%"), id="sig no base64"),
        pytest.param(lambda p: service_token(p.primary_key, p.name, se="soon"), id="se no time"),
        pytest.param(lambda p: service_token(p.primary_key, p.name) + "&se=99999999999", id="se twice"),
        pytest.param(lambda p: service_token(p.primary_key, p.name, x="y" * 2000), id="too long"),
    ],
)
def test_every_cause_has_one_answer(owner, authorization):
    answer = BackEnd(authorization(owner)).get("/enrollments/x")

    assert error_of(answer) == UNAUTHORIZED
    assert answer["WWW-Authenticate"] == "SharedAccessSignature, Bearer"
    # SDKs take it as an invitation to try the same once more.
    assert "Retry-After" not in answer


def test_an_unknown_policy_costs_what_a_known_one_costs(owner, monkeypatch):
    """Both have two signatures compared: time tells nothing."""
    compared = []
    real = service_access.check_service_token

    def counted(token, place, *, keys, now):
        compared.append(len(keys))
        return real(token, place, keys=keys, now=now)

    monkeypatch.setattr(service_access, "check_service_token", counted)

    for name in (owner.name, "nobody"):
        BackEnd(service_token(OTHER_KEY, name)).get("/enrollments/x")

    assert compared == [2, 2]


def test_policy_names_in_any_case(owner):
    assert (
        error_of(BackEnd(service_token(owner.primary_key, owner.name.upper())).get("/enrollments/x"))[0]
        == 404
    )


def test_a_policy_of_one_service_opens_nothing_of_another(service, owner):
    lab = add_service("lab", actor=ALICE)
    change_settings(service, {"host_name": "plant.example"}, actor=ALICE)
    change_settings(lab, {"host_name": "lab.example"}, actor=ALICE)
    enroll_keys(lab, "pump-042")
    for resource in ("plant.example", "lab.example"):
        token = service_token(owner.primary_key, owner.name, resource=resource)

        assert error_of(BackEnd(token, host="lab.example").get("/enrollments/pump-042")) == UNAUTHORIZED

    user = a_user(Role.ADMINISTRATOR)
    token = bearer(a_token(service, user))
    token.host = "lab.example"
    assert error_of(token.get("/enrollments/pump-042")) == UNAUTHORIZED
    token.host = "plant.example"
    assert error_of(token.get("/enrollments/pump-042"))[:2] == (404, 404201)


@pytest.mark.parametrize("host", ["nobody.example", "", "a b", "[::1", "x" * 400])
def test_among_several_services_the_host_name_decides(service, owner, host):
    add_service("lab", actor=ALICE)

    assert error_of(with_policy(owner).get("/enrollments/x"))[:2] == (404, 404001)
    assert (
        error_of(BackEnd(service_token(owner.primary_key, owner.name), host=host).get("/enrollments/x"))[0]
        == 404
    )


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8443", "[::1]:8443", "DPS.Example"])
def test_where_there_is_one_service_any_host_will_do(owner, host):
    token = service_token(owner.primary_key, owner.name, resource=quote_plus(host))

    assert error_of(BackEnd(token, host=host).get("/enrollments/x"))[0] == 404


@pytest.mark.parametrize("which", ["primary", "secondary"])
def test_one_key_is_replaced_while_the_other_works(service, owner, which):
    other = {"primary": "secondary", "secondary": "primary"}[which]
    former = {name: getattr(owner, f"{name}_key") for name in (which, other)}

    key = regenerate_policy_key(service, owner.name, which, actor=ALICE)[1]

    def status(with_key):
        return error_of(with_policy(owner, key=with_key).get("/enrollments/x"))[0]

    assert status(former[which]) == 401
    assert status(former[other]) == status(key) == 404
    row = HistoryEvent.objects.latest("pk")
    assert row.event == "policy.key_regenerated"
    assert key not in str(row.after)


def test_a_disabled_policy_is_out_with_the_next_request_and_back_when_enabled(owner, api):
    switch(owner, False)
    assert error_of(api.get("/enrollments/x")) == UNAUTHORIZED

    switch(owner, True)
    assert error_of(api.get("/enrollments/x"))[0] == 404


def test_a_deleted_policy_is_out(service, owner, api):
    switch(owner, False)
    delete_policy(service, owner.name, actor=ALICE)

    assert error_of(api.get("/enrollments/x")) == UNAUTHORIZED


def test_keys_can_be_switched_off_altogether_and_tokens_go_on(service, api):
    token = bearer(a_token(service, a_user(Role.VIEWER, service)))

    change_settings(service, {"shared_access_keys": False}, actor=ALICE)

    assert error_of(api.get("/enrollments/x")) == UNAUTHORIZED
    assert error_of(token.get("/enrollments/x"))[0] == 404


def test_rights_that_are_taken_are_gone(owner, api):
    change_policy(
        owner.service,
        owner.name,
        rights=[AccessRight.REGISTRATION_STATUS_READ],
        enabled=True,
        expected_etag=owner.etag,
        actor=ALICE,
    )

    assert error_of(api.get("/enrollments/x"))[0] == 403


def test_right_that_was_taken_while_the_answer_was_made_up_is_a_refusal_like_any_other(service, monkeypatch):
    policy = a_policy(service, AccessRight.ENROLLMENT_READ)
    enroll_keys(service, "pump-042")
    shown = views.json_response

    def taken_meanwhile(*answer):
        AccessPolicy.objects.update(rights=[AccessRight.REGISTRATION_STATUS_READ])
        return shown(*answer)

    monkeypatch.setattr(views, "json_response", taken_meanwhile)

    assert error_of(with_policy(policy).get("/enrollments/pump-042"))[:2] == (403, 403002)
    row = HistoryEvent.objects.get(event="action.refused")
    assert (row.actor_name, row.subject_name) == ("fleet-sync", "read below /enrollments/")


def test_back_end_that_was_shut_out_while_the_answer_was_made_up_is_counted_like_one_at_the_door(
    service, monkeypatch
):
    policy = a_policy(service, AccessRight.ENROLLMENT_READ)
    enroll_keys(service, "pump-042")
    shown = views.json_response

    def shut_out_meanwhile(*answer):
        AccessPolicy.objects.update(enabled=False)
        return shown(*answer)

    monkeypatch.setattr(views, "json_response", shut_out_meanwhile)

    assert with_policy(policy).get("/enrollments/pump-042").status_code == 401
    write_down_failures()
    assert SignInFailures.objects.count() == 1


def test_a_token_is_kept_as_a_digest_and_its_use_is_noted(service):
    text = a_token(service, a_user(Role.VIEWER, service))

    bearer(text).get("/enrollments/x")

    token = ApiToken.objects.get()
    assert text not in str({field.attname: getattr(token, field.attname) for field in ApiToken._meta.fields})
    assert text.startswith(token.hint)
    assert timezone.now() - token.last_used_at < timedelta(minutes=1)
    assert token.last_used_from == "127.0.0.1"


def test_a_token_acts_in_the_name_of_its_owner(service):
    user = a_user(Role.OPERATOR, service, "bob")

    bearer(a_token(service, user, AccessRight.ENROLLMENT_WRITE)).put("/enrollments/x", keys("x"))

    row = HistoryEvent.objects.latest("pk")
    assert (row.actor_kind, row.actor_name, row.way, row.event) == (
        "user",
        "bob",
        "service API",
        "enrollment.added",
    )


def test_keys_are_told_to_administrators_only(service):
    """R17: an operator may set keys through a token, and not read them."""
    operator = bearer(a_token(service, a_user(Role.OPERATOR, service), AccessRight.ENROLLMENT_WRITE))
    administrator = bearer(
        a_token(service, a_user(Role.ADMINISTRATOR, service), AccessRight.ENROLLMENT_WRITE)
    )

    put = operator.put("/enrollments/x", keys("x")).json()

    assert put["attestation"] == {"type": "symmetricKey"}
    assert error_of(operator.post("/enrollments/x/attestationmechanism"))[:2] == (403, 403002)
    assert "primaryKey" in administrator.post("/enrollments/x/attestationmechanism").json()["symmetricKey"]


@pytest.mark.parametrize(
    ("role", "rights"),
    [
        (Role.VIEWER, {"EnrollmentRead", "RegistrationStatusRead"}),
        (Role.AUDITOR, {"EnrollmentRead", "RegistrationStatusRead"}),
        (Role.OPERATOR, {right.value for right in AccessRight} - {"ServiceConfig"}),
        (Role.ADMINISTRATOR, {right.value for right in AccessRight}),
        (None, set()),
    ],
)
def test_how_far_a_role_reaches(role, rights):
    assert {right.value for right in rights_within(role)} == rights


def test_a_token_shrinks_with_the_role_of_its_owner(service):
    a_user(Role.ADMINISTRATOR)
    user = a_user(Role.OPERATOR, service)
    token = bearer(a_token(service, user, AccessRight.ENROLLMENT_WRITE, AccessRight.ENROLLMENT_READ))

    set_role(user.username, Role.VIEWER, service=service, actor=ALICE)

    assert error_of(token.put("/enrollments/x", keys("x")))[0] == 403
    assert error_of(token.get("/enrollments/x"))[0] == 404


def revoke(user):
    token = ApiToken.objects.get()
    revoke_api_token(token.service, token.pk, actor=ALICE)


def take_role(user):
    set_role(user.username, None, service=ApiToken.objects.get().service, actor=ALICE)


@pytest.mark.parametrize(
    "shut_out",
    [
        pytest.param(take_role, id="role taken"),
        pytest.param(lambda user: set_active(user.username, False, actor=ALICE), id="deactivated"),
        pytest.param(lambda user: remove_person(user.username, actor=ALICE), id="removed"),
        pytest.param(revoke, id="revoked"),
        pytest.param(lambda user: ApiToken.objects.update(expires_at=timezone.now()), id="expired"),
    ],
)
def test_tokens_of_people_who_are_out_open_nothing(service, shut_out):
    a_user(Role.ADMINISTRATOR)
    user = a_user(Role.VIEWER, service)
    token = bearer(a_token(service, user))
    assert error_of(token.get("/enrollments/x"))[0] == 404

    shut_out(user)

    assert error_of(token.get("/enrollments/x")) == UNAUTHORIZED


def during(monkeypatch, act):
    """Let something happen after a request was let in and before it acts, as another process would."""
    real = service_access.let_in
    calls = []

    def let_in(*arguments):
        caller = real(*arguments)
        if not calls:
            calls.append(1)
            act()
        return caller

    monkeypatch.setattr("enrollments.service_api.authentication.let_in", let_in)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", ["GET", "PUT", "bulk"])
@pytest.mark.parametrize("out", ["policy", "keys", "right"])
def test_what_was_let_in_before_is_judged_again(service, owner, api, monkeypatch, call, out):
    """R12: neither done nor handed out on the old state."""
    enroll_keys(service, "there")
    acts = {
        "policy": lambda: switch(owner, False),
        "keys": lambda: change_settings(service, {"shared_access_keys": False}, actor=ALICE),
        "right": lambda: change_policy(
            service,
            owner.name,
            rights=[AccessRight.SERVICE_CONFIG],
            enabled=True,
            expected_etag=owner.etag,
            actor=ALICE,
        ),
    }
    during(monkeypatch, acts[out])
    calls = {
        "GET": lambda: api.get("/enrollments/there"),
        "PUT": lambda: api.put("/enrollments/x", keys("x")),
        "bulk": lambda: api.post("/enrollments", {"mode": "create", "enrollments": [keys("x")]}),
    }

    assert error_of(calls[call]())[0] == (403 if out == "right" else 401)
    assert not IndividualEnrollment.objects.filter(registration_id="x").exists()


@pytest.mark.django_db(transaction=True)
def test_a_token_that_was_let_in_before_is_judged_again(service, monkeypatch):
    a_user(Role.ADMINISTRATOR)
    user = a_user(Role.OPERATOR, service)
    token = bearer(a_token(service, user, AccessRight.ENROLLMENT_WRITE))
    during(monkeypatch, lambda: set_active(user.username, False, actor=ALICE))

    assert error_of(token.put("/enrollments/x", keys("x"))) == UNAUTHORIZED
    assert not IndividualEnrollment.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_disabling_waits_for_a_write_that_is_under_way_and_none_follows_it(service, owner, api):
    """A policy that is disabled while three write by it: nothing is added after that was answered."""
    done_at, stop = [], threading.Event()

    def write(number):
        back_end = BackEnd(api.authorization)
        try:
            for turn in range(100):
                if stop.is_set():
                    return
                back_end.put(f"/enrollments/w{number}-{turn}", keys(f"w{number}-{turn}"))
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while IndividualEnrollment.objects.count() < 5:
        pass
    switch(owner, False)
    done_at.append(IndividualEnrollment.objects.count())
    stop.wait(0.3)
    stop.set()
    for thread in threads:
        thread.join()

    assert IndividualEnrollment.objects.count() == done_at[0]


def test_who_fails_too_often_has_to_wait_and_others_at_the_address_do_not(owner, api):
    wrong = BackEnd(service_token(OTHER_KEY, owner.name))
    answers = [wrong.get("/enrollments/x") for _ in range(8)]

    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
    assert int(answers[-1]["Retry-After"]) > 1
    assert error_of(answers[-1])[1] == 429001
    assert error_of(api.get("/enrollments/x"))[0] == 404


def test_the_cause_is_in_the_log_and_no_credential_is(owner, caplog):
    caplog.set_level("INFO", "dpsportal.requests")
    wrong = service_token(OTHER_KEY, owner.name)

    BackEnd(wrong).get("/enrollments/x")
    BackEnd(service_token(OTHER_KEY, "nobody")).get("/enrollments/x")
    with_policy(owner).get("/enrollments/x")

    fields = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert [one.get("refused") for one in fields[:2]] == ["token_signature_wrong", "unknown_policy"]
    assert fields[2]["caller"] == f"service:{owner.name}"
    assert "SharedAccessSignature" not in str(fields)
    assert wrong.partition("sig=")[2][:20] not in str(fields)


def test_which_token_of_a_person_was_used_is_in_the_log_under_the_request_id_of_its_rows(service, caplog):
    caplog.set_level("INFO", "dpsportal.requests")
    text = a_token(service, a_user(Role.OPERATOR, service), AccessRight.ENROLLMENT_WRITE)

    created = bearer(text).put(
        "/enrollments/pump-1", {"registrationId": "pump-1", "attestation": {"type": "symmetricKey"}}
    )

    assert created.status_code == 200
    (line,) = [one.fields for one in caplog.records if hasattr(one, "fields")]
    added = HistoryEvent.objects.get(event="enrollment.added")
    assert (line["token"], line["request_id"]) == (ApiToken.objects.get().hint, added.request_id)
    assert text not in str(line)


def test_every_service_begins_with_the_policy_of_its_owner(service):
    policy = AccessPolicy.objects.get()

    assert (policy.name, policy.enabled) == ("provisioningserviceowner", True)
    assert policy.access_rights == frozenset(AccessRight)
    assert len(base64.b64decode(policy.primary_key)) == len(base64.b64decode(policy.secondary_key)) == 64
    assert User.objects.count() == 0


def test_keys_stand_nowhere_in_the_database_in_clear(service, owner):
    with connection.cursor() as cursor:
        cursor.execute("SELECT primary_key, secondary_key FROM enrollments_accesspolicy")
        (stored,) = cursor.fetchall()

    assert owner.primary_key not in stored
    assert all(text.startswith("gAAAA") for text in stored)
    assert not [row for row in HistoryEvent.objects.values() if owner.primary_key in str(row)]


def test_the_lock_of_changes_is_what_a_switch_takes(service, owner, monkeypatch):
    taken = []
    monkeypatch.setattr(
        "enrollments.actions.access_policies.change_lock",
        lambda one, **how: taken.append(one) or change_lock(one, **how),
    )

    switch(owner, False)

    assert taken == [service]


def test_keys_that_cannot_be_decrypted_let_nobody_in(service, api, settings):
    """R16: refused and said so, in the contract's body; tokens, which need no key, go on."""
    token = bearer(a_token(service, a_user(Role.VIEWER, service)))
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()

    assert error_of(api.get("/enrollments/x"))[:2] == (500, 500001)
    assert error_of(token.get("/enrollments/x"))[:2] == (404, 404201)
