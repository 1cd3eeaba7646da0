"""Where a stored certificate cannot be read any more: pages open and say so, and what shuts out is done (R16)."""

import pytest
from django.urls import reverse
from django.utils import timezone

from enrollments.models import HeldCertificate, HistoryEvent, RegistrationStatus, Slot
from enrollments.policy.roles import Role
from enrollments.portal.forms_past import in_address
from tests.certificates import root, self_signed
from tests.devices import (
    came_with_unreadable,
    enroll_ca,
    enroll_device,
    key_left_open,
    make_unreadable,
    register,
    upload_ca,
)
from tests.factories import a_service, a_user, an_individual
from tests.portal.entry_forms import page, post
from tests.portal.test_narrowing_forms import form_on, text_of

pytestmark = pytest.mark.django_db
DENIALS = ["registration-deny", "registration-deprovision", "attempt-deny"]


@pytest.fixture
def service():
    return a_service("plant")


@pytest.fixture
def operator(client, service):
    client.force_login(a_user(Role.OPERATOR, service))
    return client


@pytest.fixture
def ca(service):
    ca = root("Plant")
    enroll_ca(service, ca, "plant-7")
    return ca


@pytest.fixture
def leaf(service, ca):
    """Of a device that came in by the group, and whose certificate cannot be read by now."""
    return came_with_unreadable(service, ca)


def url_of(service, name):
    about = service.attempts.get(registration_key="pump-1").pk if name == "attempt-deny" else "pump-1"
    return reverse(f"portal:{name}", args=["plant", about])


class TestDenying:
    @pytest.mark.parametrize("name", DENIALS)
    def test_the_question_says_which_key_stays_open(self, operator, service, leaf, name):
        asked = operator.get(url_of(service, name))

        assert asked.status_code == 200
        assert key_left_open(leaf) in text_of(asked)
        assert "no certificate of the device is known" not in text_of(asked)

    @pytest.mark.parametrize("name", DENIALS)
    def test_it_is_done_and_what_is_told_says_so_too(self, operator, service, leaf, name):
        answer = operator.post(url_of(service, name), {"reason": "stolen"}, follow=True)

        assert answer.status_code == 200
        assert key_left_open(leaf) in text_of(answer)
        assert not service.individualenrollments.get().enabled
        if name == "registration-deprovision":
            assert service.registrations.get().status == RegistrationStatus.DISABLED

    @pytest.mark.parametrize("name", DENIALS)
    def test_the_entry_of_the_device_is_disabled(self, operator, service, leaf, name):
        an_individual(service, "pump-1")
        asked = operator.get(url_of(service, name))

        operator.post(url_of(service, name), {"reason": "stolen"})

        assert not service.individualenrollments.get().enabled
        assert "is not barred" not in text_of(asked)

    def test_what_can_be_read_is_barred(self, operator, service, ca, leaf):
        second = ca.leaf("pump-1")
        register(service, second)

        asked = operator.get(url_of(service, "registration-deny"))
        operator.post(url_of(service, "registration-deny"), {"reason": "stolen"})

        assert "with the certificate that it proved itself with last" in text_of(asked)
        assert key_left_open(leaf) in text_of(asked)
        (pinned,) = HeldCertificate.objects.filter(individual__registration_key="pump-1")
        assert pinned.certificate.thumbprint_sha256 == second.parsed.thumbprint_sha256


class TestPages:
    def test_the_record_opens_with_its_buttons(self, operator, service, leaf):
        text = page(operator, "registrations/pump-1/")

        assert url_of(service, "registration-deny") in text
        assert leaf.parsed.thumbprint_sha256 in text

    def test_the_attempt_opens_and_says_so(self, operator, service, leaf):
        answer = operator.get(f"/services/plant/attempts/{service.attempts.get().pk}/")

        assert answer.status_code == 200
        assert f"Certificate {leaf.parsed.thumbprint_sha256} cannot be read." in text_of(answer)

    @pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}], ids=["page", "htmx"])
    def test_explain_opens_and_says_so(self, operator, leaf, headers):
        answer = operator.get("/services/plant/explain/?registration_id=pump-1", headers=headers)

        assert answer.status_code == 200
        assert (
            f"Certificate {leaf.parsed.thumbprint_sha256} cannot be read: what pump-1 would be answered by it is not "
            "known."
        ) in text_of(answer)

    def test_explain_of_a_group_says_so(self, operator, service, ca):
        make_unreadable(ca)

        answer = operator.get("/services/plant/explain/?group=plant-7")

        assert answer.status_code == 200
        assert f"Certificate {ca.parsed.thumbprint_sha256} cannot be read." in text_of(answer)
        assert "sign with keys" not in text_of(answer)

    def test_what_shut_out_says_that_it_was_not_worked_out(self, operator, leaf):
        answer = operator.get("/services/plant/registrations/pump-1/history/", {"event": "shuts-out"})

        assert answer.status_code == 200
        assert "was not worked out: A stored certificate (SHA-256 " in text_of(answer)

    def test_back_in_time_is_a_sentence(self, operator, leaf):
        asked = {"registration_id": "pump-1", "at": in_address(timezone.now())}

        answer = operator.get("/services/plant/back-in-time/", asked)

        assert answer.status_code == 503
        assert "A stored certificate (SHA-256 " in text_of(answer)

    @pytest.mark.parametrize("kind", ["individual", "group"])
    def test_an_entry_opens_with_what_was_kept(self, operator, service, kind):
        held, path, _ = an_entry(service, kind)
        make_unreadable(held)

        text = text_of(operator.get(f"/services/plant/{path}"))

        assert (
            f"The certificate {held.parsed.thumbprint_sha256} cannot be read. Shown is what was kept" in text
        )
        assert held.parsed.key_description in text

    def test_a_ca_certificate_opens_with_what_was_kept(self, operator, service):
        ca = root("Uploaded")
        upload_ca(service, ca)
        make_unreadable(ca)

        text = text_of(operator.get("/services/plant/ca-certificates/c/uploaded/"))

        assert f"The certificate {ca.parsed.thumbprint_sha256} cannot be read." in text

    def test_a_group_opens_with_a_helper_that_cannot_be_read(self, operator, service, ca):
        helper = ca.intermediate("Line")
        enroll_ca(service, ca.intermediate("Site"), "site", helpers=(helper.parsed,))
        make_unreadable(helper)

        text = text_of(operator.get("/services/plant/groups/g/site/"))

        assert f"The certificate {helper.parsed.thumbprint_sha256} cannot be read." in text


def an_entry(service, kind):
    if kind == "individual":
        held = self_signed("pump-1")
        return held, "enrollments/i/pump-1/", enroll_device(service, held)
    held = root("Plant")
    return held, "groups/g/plant-7/", enroll_ca(service, held, "plant-7")


@pytest.mark.parametrize("kind", ["individual", "group"])
class TestForms:
    def test_the_form_disables(self, operator, service, kind):
        held, path, entry = an_entry(service, kind)
        make_unreadable(held)
        form = form_on(operator, path)

        answer = post(operator, path, {**form, "enabled": "no", "reason": "stolen"})

        assert answer.status_code == 302
        entry.refresh_from_db()
        assert not entry.enabled
        (kept,) = entry.certificates.select_related("certificate")
        assert (kept.slot, kept.certificate.thumbprint_sha256) == (
            Slot.PRIMARY,
            held.parsed.thumbprint_sha256,
        )
        assert HistoryEvent.objects.latest("pk").after == {"status": "disabled"}

    def test_the_form_does_not_enable(self, operator, service, kind):
        held, path, entry = an_entry(service, kind)
        make_unreadable(held)
        post(operator, path, {**form_on(operator, path), "enabled": "no"})

        answer = post(operator, path, {**form_on(operator, path), "enabled": "yes"})

        assert answer.status_code == 503
        assert "A stored certificate (SHA-256 " in answer.text_shown
        entry.refresh_from_db()
        assert not entry.enabled


class TestQuestions:
    @pytest.fixture
    def top(self, service):
        """A CA that cannot be read, above that of the group `mid`."""
        top = root("Root")
        enroll_ca(service, top, "root")
        enroll_ca(service, top.intermediate("Mid"), "mid")
        make_unreadable(top)
        return top

    def chosen(self, service, *names):
        groups = service.enrollmentgroups.filter(group_id__in=names)
        return "&".join(f"entry={one.pk}" for one in groups)

    def test_disabling_a_group_below_it_is_asked_about(self, operator, service, top):
        assert operator.get("/services/plant/groups/g/mid/disable/?from=page").status_code == 200

    def test_so_is_disabling_several(self, operator, service, top):
        url = reverse("portal:group-disable-chosen", args=["plant"])

        assert operator.get(f"{url}?{self.chosen(service, 'root', 'mid')}").status_code == 200

    def test_both_are_disabled(self, operator, service, top):
        url = reverse("portal:group-disable-chosen", args=["plant"])

        answer = operator.post(f"{url}?{self.chosen(service, 'root', 'mid')}", {"reason": "leaked"})

        assert answer.status_code == 302
        assert not service.enrollmentgroups.filter(enabled=True).exists()

    def test_enabling_is_a_sentence_and_nothing_is_done(self, operator, service, top):
        operator.post("/services/plant/groups/g/mid/disable/", {"reason": "leaked"})

        answer = operator.get("/services/plant/groups/g/mid/enable/")

        assert answer.status_code == 503
        assert "A stored certificate (SHA-256 " in text_of(answer)
        assert not service.enrollmentgroups.get(group_id="mid").enabled

    def test_what_may_let_somebody_in_is_a_sentence_and_nothing_is_done(self, operator, service, top):
        url = reverse("portal:group-delete", args=["plant"])

        answer = operator.get(f"{url}?{self.chosen(service, 'mid')}")

        assert answer.status_code == 503
        assert "A stored certificate (SHA-256 " in text_of(answer)
        assert service.enrollmentgroups.filter(group_id="mid").exists()
