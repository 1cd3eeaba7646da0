"""Storms: who is refused or fails most, what this node remembers of it, and telling one to be quiet (R14, R17)."""

import re
from datetime import timedelta

import pytest
from django.db.models import F
from django.test import Client
from django.utils import timezone

from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.enrollment_groups import (
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollments import disable_enrollment, enable_enrollment
from enrollments.actions.revocation import deny_device, release_registration
from enrollments.actions.schedule import as_text
from enrollments.actions.services import change_settings
from enrollments.models import HistoryEvent, ProvisioningService, QuietPeriod
from enrollments.policy.back_off import FREE_REFUSALS
from enrollments.policy.roles import Role
from tests.certificates import root, self_signed
from tests.devices import ALICE, derived_key, enroll_ca, enroll_device, enroll_key_group, register, signs
from tests.factories import a_service, a_user

CA = root("Plant CA")
URL = "/services/plant/storms/"
PER_MINUTE = ProvisioningService._meta.get_field("device_registrations_per_minute").default
HTMX = {"HX-Request": "true"}


@pytest.fixture
def plant(service: ProvisioningService) -> ProvisioningService:
    enroll_ca(service, CA, "plant-7")
    return service


def refused(service, device, times=1, registration_id="", ago=timedelta(0)):
    service = ProvisioningService.objects.get(pk=service.pk)
    for _ in range(times):
        answer = register(service, device, registration_id, at=timezone.now() - ago)
    return answer


def page(client: Client, url: str = URL, **query: str) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200
    return answer.content.decode()


def shown(client: Client, **query: str):
    return client.get(URL, query).context["storms"].shown


def test_who_is_refused_most_stands_first_with_what_is_remembered(operator, plant):
    disable_enrollment_group(plant, "plant-7", actor=ALICE)
    refused(plant, self_signed("odd-1"), times=2)
    refused(plant, CA.leaf("pump-1"), times=FREE_REFUSALS + 3)

    first, second = shown(operator)

    assert (first.latest.registration_key, first.times, first.in_a_row) == (
        "pump-1",
        FREE_REFUSALS + 3,
        FREE_REFUSALS,
    )
    assert timedelta(seconds=30) < first.next_try - timezone.now() <= timedelta(seconds=48)
    assert (second.latest.registration_key, second.times, second.in_a_row, second.next_try) == (
        "odd-1",
        2,
        2,
        None,
    )
    assert first.per_minute == FREE_REFUSALS + 3
    assert "Refusals in a row and the next try are as of now, and not of the time chosen above" in page(
        operator
    )


def test_admitted_devices_are_no_storm(operator, plant):
    refused(plant, CA.leaf("pump-1"))

    assert shown(operator) == ()
    assert "No device was refused, and none failed, within this window" in page(operator)


@pytest.fixture
def contested(plant: ProvisioningService):
    """A device of a new CA, whose group does not name the former one as its predecessor (R11)."""
    register(plant, CA.leaf("Pump-1"))
    new = root("New CA")
    enroll_ca(plant, new, "plant-8")
    return new.leaf("pump-1")


def test_devices_that_fail_are_a_storm(operator, plant, contested):
    for _ in range(PER_MINUTE + 1):
        register(plant, contested)

    (storm,) = shown(operator)

    assert (storm.latest.outcome, storm.times, storm.per_minute) == ("failed", PER_MINUTE, PER_MINUTE)
    assert (storm.in_a_row, storm.quiet, storm.can_be_quieted) == (None, None, False)
    assert timedelta(0) < storm.next_try - timezone.now() <= timedelta(seconds=60 / PER_MINUTE)
    text = page(operator)
    assert "The registration ID is held through another entry" in text
    for offered in ("/explain/?tracking_id=", "/deny/", "/registrations/Pump-1/release/"):
        assert offered in text
    assert "/quiet/" not in text
    url = f"/services/plant/attempts/{storm.latest.pk}/quiet/"
    assert operator.post(url, {"duration": "60"}).status_code == 409


def test_device_that_fails_below_its_rate_may_try_at_once_and_has_no_refusals_in_a_row(
    operator, plant, contested
):
    """Refusals from before it was admitted do not hold it back, and are a row of their own."""
    disable_enrollment_group(plant, "plant-8", actor=ALICE)
    refused(plant, contested, times=FREE_REFUSALS + 2)
    enable_enrollment_group(plant, "plant-8", actor=ALICE)
    refused(plant, contested)

    disabled, failed = shown(operator)

    assert (disabled.latest.outcome, disabled.times, disabled.in_a_row) == (
        "disabled",
        FREE_REFUSALS + 2,
        FREE_REFUSALS,
    )
    assert (failed.latest.outcome, failed.times, failed.in_a_row, failed.next_try) == (
        "failed",
        1,
        None,
        None,
    )


def test_name_is_offered_for_release_while_another_entry_holds_it(operator, plant, contested):
    register(plant, contested)
    assert "/release/" in page(operator)
    release_registration(plant, "pump-1", actor=ALICE)
    assert "/release/" not in page(operator)

    assert register(plant, contested).outcome == "assigned"

    assert [one.latest.outcome for one in shown(operator)] == ["failed"]
    assert "/release/" not in page(operator)


def test_device_that_fails_for_another_cause_is_offered_no_release(operator, plant):
    plant.hubs.all().delete()
    assert register(plant, CA.leaf("pump-1")).outcome == "failed"

    text = page(operator)

    assert "pump-1" in text
    assert "/release/" not in text


def test_who_is_denied_already_has_a_link_to_what_denies_it_instead(client, operator, plant):
    deny_device(plant, "Pump-1", actor=ALICE)
    refused(plant, CA.leaf("pump-1"))
    link = 'href="/services/plant/enrollments/i/Pump-1/">Denied<'

    text = page(operator)

    assert link in text
    assert "/deny/" not in text
    auditor = Client()
    auditor.force_login(a_user(Role.AUDITOR, plant))
    assert link in page(auditor)
    enable_enrollment(plant, "pump-1", actor=ALICE)
    assert "/deny/" in page(operator)
    assert link not in page(operator)


def test_who_is_denied_by_a_switch_that_is_due_is_denied_already(operator, plant):
    own = CA.leaf("pump-1")
    enroll_device(plant, own)
    disable_enrollment(plant, "pump-1", at=timezone.now() + timedelta(days=1), actor=ALICE)
    refused(plant, self_signed("pump-1"))
    text = page(operator)
    assert "/deny/" in text
    assert "disabled until" not in text

    plant.individualenrollments.update(switches_at=timezone.now() - timedelta(seconds=1))
    ProvisioningService.objects.filter(pk=plant.pk).update(epoch=F("epoch") + 1)

    assert "/deny/" not in page(operator)
    assert ">Denied<" in page(operator)


def test_who_is_out_until_a_time_can_be_denied_for_good(operator, plant):
    enroll_device(plant, CA.leaf("pump-1"))
    then = timezone.now().replace(microsecond=0) + timedelta(days=1)
    disable_enrollment(plant, "pump-1", until=then, actor=ALICE)
    refused(plant, self_signed("pump-1"))

    text = page(operator)

    assert "/deny/" in text
    assert ">Denied<" not in text
    words = " ".join(re.sub(r"<[^>]+>", "", text).split())
    assert f"Its individual enrollment is disabled until {as_text(then)}" in words


def test_whom_a_group_keeps_out_until_a_time_is_told_that_of_the_group(
    operator, plant, django_assert_num_queries
):
    enroll_ca(plant, root("Another CA"), "plant-8")
    then = timezone.now().replace(microsecond=0) + timedelta(days=1)
    disable_enrollment_group(plant, "plant-7", until=then, actor=ALICE)
    disable_enrollment_group(plant, "plant-8", actor=ALICE)
    for number in range(3):
        refused(plant, CA.leaf(f"pump-{number}"))
    refused(plant, self_signed("odd-1"))

    with django_assert_num_queries(11):  # as below
        text = page(operator)

    group = '<a id="opens-[0-9]+" href="/services/plant/groups/g/plant-7/">Its group</a>'
    assert len(re.findall(f"{group} is disabled until .*{then:%H:%M}", text)) == 3
    delete_enrollment_groups(plant, ["plant-7"], actor=ALICE)
    enroll_ca(plant, CA, "plant-7")
    disable_enrollment_group(plant, "plant-7", until=then, actor=ALICE)
    assert "Its group" not in page(operator), "another group of that name has not kept them out"


def test_denying_another_device_takes_no_offer_away(operator, plant):
    lab = a_service("lab")
    deny_device(lab, "odd-1", actor=ALICE)
    deny_device(plant, "odd-2", actor=ALICE)
    refused(plant, self_signed("odd-1"))

    text = page(operator)

    assert "/deny/" in text
    assert ">Denied<" not in text


@pytest.mark.parametrize(("name", "is_offered"), [("odd-1", True), ("a/b", False), ("odd.", False)])
def test_what_is_no_registration_id_is_not_offered_to_be_denied(operator, plant, name, is_offered):
    refused(plant, self_signed("odd-1"), times=2)
    plant.attempts.update(claimed_registration_id=name, registration_key=name)

    assert ("/deny/" in page(operator)) is is_offered


def test_window_is_chosen_in_the_address(operator, plant):
    refused(plant, self_signed("odd-1"), ago=timedelta(hours=3))
    refused(plant, self_signed("odd-2"), ago=timedelta(days=2))

    assert [len(shown(operator, window=window)) for window in ("hour", "day", "nonsense")] == [0, 1, 0]


def test_causes_and_hours_of_one_caller_are_one_row(operator, plant):
    stranger = self_signed("odd-1")
    refused(plant, stranger, ago=timedelta(hours=3))
    refused(plant, stranger, ago=timedelta(hours=2))
    refused(plant, stranger, registration_id="odd-2", ago=timedelta(hours=2))

    names = {one.latest.registration_key: one.times for one in shown(operator, window="day")}

    assert names == {"odd-1": 2, "odd-2": 1}


def test_two_who_call_one_name_are_two_rows(operator, plant):
    refused(plant, self_signed("odd-1"))
    refused(plant, self_signed("odd-1"))

    assert len(shown(operator)) == 2


def test_after_a_change_the_device_may_try_at_once(operator, plant):
    refused(plant, self_signed("odd-1"), times=FREE_REFUSALS + 1)
    assert shown(operator)[0].next_try is not None

    change_settings(plant, {"description": "changed"}, actor=ALICE)

    assert shown(operator)[0].next_try is None


def test_device_that_signs_is_known_by_its_key(operator, plant):
    group = enroll_key_group(plant)
    disable_enrollment_group(plant, "line-9", actor=ALICE)
    refused(plant, signs(plant, "gauge-1", derived_key(group.primary_key, "gauge-1")), 3, "gauge-1")

    (storm,) = shown(operator)

    assert (storm.in_a_row, storm.can_be_quieted) == (3, True)


def test_row_that_counts_many_stands_for_nobody(operator, plant):
    refused(plant, self_signed("odd-1"))
    plant.attempts.update(claimed_registration_id=OVERFLOW_NAME, registration_key=OVERFLOW_NAME, source="")

    text = page(operator)

    assert OVERFLOW_NAME in text
    assert "/quiet/" not in text
    assert "/deny/" not in text


def test_nothing_of_another_service_is_shown(operator, plant):
    refused(a_service("lab"), self_signed("bench-1"))

    assert "bench-1" not in page(operator, window="day")


def test_page_states_its_queries_however_many_callers(operator, plant, contested, django_assert_num_queries):
    with django_assert_num_queries(6):
        page(operator)
    for number in range(2, 6):
        register(plant, CA.leaf(f"pump-{number}"))
    disable_enrollment_group(plant, "plant-7", actor=ALICE)
    for number in range(8):
        refused(plant, CA.leaf(f"gate-{number}"))
        deny_device(plant, f"gate-{number}", actor=ALICE)

    with django_assert_num_queries(11):  # two for who is denied, two for groups that open again
        text = page(operator)
    assert text.count(">Denied<") == 8
    register(plant, contested)

    with django_assert_num_queries(12):  # one for whose names they are
        assert "/release/" in page(operator)


def test_storm_tells_since_when_it_goes_on(operator, plant):
    for name in ("odd-1", "odd-2"):
        refused(plant, self_signed(name))
    first = timezone.now().replace(microsecond=0) - timedelta(minutes=7)
    plant.attempts.filter(claimed_registration_id="odd-1").update(count=2, first_at=first)
    plant.attempts.filter(claimed_registration_id="odd-2").update(first_at=F("last_at"))

    text = page(operator)

    assert f'First <time datetime="{first:%Y-%m-%dT%H:%M:%SZ}">' in text
    assert text.count("First <time") == 1


def test_more_than_are_shown_are_counted(operator, plant, monkeypatch):
    monkeypatch.setattr("enrollments.actions.storms.MOST_SHOWN", 2)
    for number in range(3):
        refused(plant, self_signed(f"odd-{number}"))

    assert operator.get(URL).context["more"] == 1


# --- Asked again while somebody looks -----------------------------------------------------------------


def test_what_did_not_change_is_answered_304(operator, plant):
    refused(plant, self_signed("odd-1"))
    first = operator.get(URL, headers=HTMX)
    tag = first.context["tag"]
    assert first.content.decode().startswith('<div id="storms"')
    assert tag in first.content.decode().replace("&quot;", '"')

    assert operator.get(URL, headers={**HTMX, "If-None-Match": tag}).status_code == 304
    refused(plant, self_signed("odd-2"))
    assert operator.get(URL, headers={**HTMX, "If-None-Match": tag}).status_code == 200


def test_updating_can_be_stopped(operator):
    assert 'hx-trigger="every 5s"' in page(operator)
    assert "hx-trigger" not in page(operator, live="off")


# --- Quiet periods ------------------------------------------------------------------------------------


def test_quiet_period_is_started_from_the_row_and_ended_again(operator, plant):
    stranger = self_signed("odd-1")
    refused(plant, stranger)
    url = f"/services/plant/attempts/{plant.attempts.get().pk}/quiet/"
    question = page(operator, url)
    assert "It keeps nobody out who would be admitted" in question
    assert "unproven" in question

    answer = operator.post(url, {"duration": "480", "reason": "test bench"}, follow=True)

    assert "is told to wait until" in answer.content.decode()
    assert "test bench" in answer.content.decode()
    assert refused(plant, stranger).outcome == "throttled"
    assert "Quiet" in page(operator)
    quiet = QuietPeriod.objects.get()
    assert timedelta(hours=7) < quiet.until - timezone.now() <= timedelta(hours=8)
    assert (quiet.actor, HistoryEvent.objects.get(event="quiet.started").reason) == (
        "some-operator",
        "test bench",
    )

    assert "refused again instead" in page(operator, f"{URL}quiet/{quiet.pk}/end/")
    operator.post(f"{URL}quiet/{quiet.pk}/end/")
    assert not QuietPeriod.objects.exists()
    assert operator.get(f"{URL}quiet/{quiet.pk}/end/").status_code == 404


def test_question_says_that_a_quiet_period_runs_already_and_is_replaced(
    operator, plant, django_assert_max_num_queries
):
    for _ in range(2):
        refused(plant, self_signed("odd-1"))
    attempts = list(plant.attempts.order_by("pk"))
    urls = [f"/services/plant/attempts/{one.pk}/quiet/" for one in attempts]
    assert "One runs already" not in page(operator, urls[0])
    operator.post(urls[0], {"duration": "10080"})
    until = QuietPeriod.objects.get().until

    with django_assert_max_num_queries(6):
        asked = page(operator, urls[0])

    assert f"One runs already, until {as_text(until)}, started by some-operator: a new one takes its" in asked
    assert "One runs already" not in page(operator, urls[1]), "another credential under the same name"
    operator.post(urls[0], {"duration": "60"})
    assert QuietPeriod.objects.get().until < until


@pytest.mark.parametrize(
    "data", [{"duration": "99999999"}, {"duration": ""}, {"duration": "60", "reason": "x" * 501}]
)
def test_quiet_period_that_is_not_on_offer_is_refused(operator, plant, data):
    refused(plant, self_signed("odd-1"))

    answer = operator.post(f"/services/plant/attempts/{plant.attempts.get().pk}/quiet/", data)

    assert answer.status_code == 422
    assert not QuietPeriod.objects.exists()


def test_admitted_device_is_offered_none(operator, plant):
    register(plant, CA.leaf("pump-1"))
    url = f"/services/plant/attempts/{plant.attempts.get().pk}/"

    assert "Quiet period" not in page(operator, url)
    assert operator.post(f"{url}quiet/", {"duration": "60"}).status_code == 409


def test_quiet_period_of_another_service_is_not_there(operator, plant):
    lab = a_service("lab")
    refused(lab, self_signed("bench-1"))
    client = Client()
    client.force_login(a_user(Role.OPERATOR, lab, "lab-operator"))
    client.post(f"/services/lab/attempts/{lab.attempts.get().pk}/quiet/", {"duration": "60"})
    quiet = QuietPeriod.objects.get()

    assert operator.post(f"{URL}quiet/{quiet.pk}/end/").status_code == 404
    assert QuietPeriod.objects.exists()


def test_auditor_looks_and_is_offered_nothing_to_do(client, plant, contested):
    refused(plant, self_signed("odd-1"))
    register(plant, contested)
    client.force_login(a_user(Role.AUDITOR, plant))

    text = page(client)

    assert "odd-1" in text
    assert "registration ID is held" in text
    assert "/explain/?tracking_id=" in text
    assert "/quiet/" not in text
    assert "/deny/" not in text
    assert "/release/" not in text
