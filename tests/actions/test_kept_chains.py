"""The path of a chain that a device sent with an attempt: drawn from what was kept, as of that time."""

import html
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from enrollments.actions.enrollment_groups import (
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.explaining import Question, explain
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import Certificate, EnrollmentGroup
from enrollments.policy.roles import Role
from tests.certificates import root, self_signed
from tests.devices import (
    ALICE,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    register,
    signs,
)
from tests.factories import a_service, a_user

pytestmark = pytest.mark.django_db


def kept(service, answer):
    return explain(service, Question(tracking_id=answer.tracking_id))


def named(explanation):
    return [one.certificate.common_names[0] for one in explanation.chain.path]


def barring(explanation):
    return {str(ref) for one in explanation.chain.path for ref in one.barred_by}


def admitted(service, ca, line):
    enroll_ca(service, ca, "plant")


def disabled_below_an_enabled_one(service, ca, line):
    enroll_ca(service, ca, "plant")
    enroll_ca(service, line, "line", enabled=False)


def disabled_above_an_enabled_one(service, ca, line):
    enroll_ca(service, line, "line")
    enroll_ca(service, ca, "plant", enabled=False)


def with_a_helper(service, ca, line):
    enroll_ca(service, ca, "plant", helpers=(line.parsed,))


def of_a_group_with_two_ways_up(service, ca, line):
    enroll_ca(service, line.cross_signed_by(root("Other")), "barred", enabled=False)
    enroll_ca(service, ca, "plant")


@pytest.mark.parametrize("sends_line", [True, False])
@pytest.mark.parametrize(
    "enrolled",
    [
        admitted,
        disabled_below_an_enabled_one,
        disabled_above_an_enabled_one,
        with_a_helper,
        of_a_group_with_two_ways_up,
    ],
)
def test_just_after_it_is_what_is_drawn_of_the_same_chain_now(service, enrolled, sends_line):
    ca = root("Plant")
    line = ca.intermediate("Line")
    enrolled(service, ca, line)
    leaf = line.leaf("pump-1")
    sent = [leaf, *([line] if sends_line else [])]
    answer = register(service, shows_just(*sent), "pump-1")

    then = kept(service, answer)
    now = explain(service, Question(certificates=tuple(one.parsed for one in sent)))

    if then.chain is None:
        assert now.verdict.value == "unauthorized"
        return
    assert list(map(state, then.chain.path)) == list(map(state, now.chain.path))
    assert sorted(map(state, then.chain.aside)) == sorted(map(state, now.chain.aside))
    assert then.chain_note.startswith(f"As of {then.at:%Y-%m-%d %H:%M:%S} UTC")


def shows_just(*sent):
    return PresentedCredential(certificates=tuple(one.der for one in sent))


def state(one):
    held = [
        sorted(map(str, refs)) for refs in (one.enrolled_in, one.helper_of, one.same_key_as, one.barred_by)
    ]
    return one.certificate.thumbprint_sha256, one.sent, one.steps or 0, one.validity, *held, one.problems


def test_who_barred_then_is_told_whatever_became_of_them(service):
    ca = root("Plant")
    line = ca.intermediate("Line")
    enroll_ca(service, ca, "plant")
    enroll_ca(service, line, "line", enabled=False)
    refused = register(service, line.leaf("pump-1"))
    enable_enrollment_group(service, "line", actor=ALICE)
    let_in = register(service, line.leaf("pump-2"))
    disable_enrollment_group(service, "line", actor=ALICE)

    assert barring(kept(service, refused)) == {"enrollment group line"}
    assert barring(kept(service, let_in)) == set()
    assert named(kept(service, let_in)) == ["pump-2", "Line", "Plant"]


def test_who_barred_then_and_is_gone_is_named_beside(service):
    ca = root("Plant CA")
    enroll_ca(service, ca, "plant", enabled=False)
    answer = register(service, ca.leaf("pump-1"))
    before = kept(service, answer)
    delete_enrollment_groups(service, ["plant"], actor=ALICE)

    after = kept(service, answer)

    assert (barring(before), "too, of which" in before.chain_note) == ({"enrollment group plant"}, False)
    assert (barring(after), "Barred then by enrollment group plant too" in after.chain_note) == (set(), True)


def test_dates_are_those_of_that_time(service):
    ca = root("Plant")
    enroll_ca(service, ca, "plant")
    answer = register(service, ca.leaf("pump-1"))
    assert {one.validity for one in kept(service, answer).chain.path} == {"valid"}

    EnrollmentGroup.objects.update(created_at=timezone.now() - timedelta(days=9000))
    service.attempts.update(last_at=timezone.now() - timedelta(days=8000))

    assert {one.validity for one in kept(service, answer).chain.path} == {"not yet valid"}


def test_an_entry_that_came_later_is_not_told_of(service):
    ca = root("Plant")
    line = ca.intermediate("Line")
    enroll_ca(service, ca, "plant")
    answer = register(service, line.leaf("pump-1"))
    enroll_ca(service, line, "later")

    path = kept(service, answer).chain.path

    assert [list(map(str, one.enrolled_in)) for one in path] == [[], [], ["enrollment group plant"]]


def test_of_a_stranger_there_is_no_path_although_another_service_holds_its_certificate(service):
    """R1, R3: prove, then tell."""
    stranger, other = self_signed("pump-1"), a_service("other")
    enroll_device(other, stranger)
    register(other, stranger)
    assert Certificate.objects.filter(thumbprint_sha256=stranger.parsed.thumbprint_sha256).exists()

    explanation = kept(service, register(service, stranger))

    assert explanation.chain is None
    assert explanation.chain_note.startswith("It had proven nothing")


def test_what_was_forgotten_is_said(service):
    ca = root("Plant")
    enroll_ca(service, ca, "plant")
    answer = register(service, ca.intermediate("Line").leaf("pump-1"))
    attempt = service.attempts.get()

    service.attempts.update(chain=f"{attempt.chain} {'f' * 64}")
    assert "1 certificate above the leaf has been forgotten." in kept(service, answer).chain_note
    service.attempts.update(chain="")
    assert "What it sent above its own certificate was not kept." in kept(service, answer).chain_note
    service.attempts.update(leaf_thumbprint="f" * 64)
    assert kept(service, answer).chain is None
    assert "has been forgotten here" in kept(service, answer).chain_note


def test_of_a_device_with_a_key_nothing_is_said_of_a_path(service):
    group = enroll_key_group(service, "keyed")
    answer = register(service, signs(service, "pump-1", derived_key(group.primary_key, "pump-1")), "pump-1")

    explanation = kept(service, answer)

    assert (explanation.chain, explanation.chain_note) == (None, "")


@pytest.mark.parametrize("url", ["attempts/{pk}/", "explain/?tracking_id={tracking_id}"])
def test_the_pages_draw_it(service, url):
    ca = root("Plant")
    enroll_ca(service, ca, "plant")
    answer = register(service, ca.leaf("pump-1"))
    stranger = register(service, self_signed("odd-1"))
    client = Client()
    client.force_login(a_user(Role.AUDITOR, service))

    def page(of, name):
        pk = service.attempts.get(registration_key=name).pk
        text = client.get(f"/services/{service.name}/{url.format(pk=pk, tracking_id=of.tracking_id)}").content
        return html.unescape(text.decode())

    drawn, of_a_stranger = page(answer, "pump-1"), page(stranger, "odd-1")

    assert '<h2 id="path">The path</h2>' in drawn
    assert drawn.index("Device certificate") < drawn.index("signed by") < drawn.index("1 signature above")
    assert "As of " in drawn
    assert "It had proven nothing, so the thumbprint of its certificate is kept alone" in of_a_stranger
    assert "Device certificate" not in of_a_stranger
