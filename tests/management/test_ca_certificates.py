"""`manage.py ca_certificates`."""

import pytest
from cryptography.fernet import Fernet

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.schedule import as_text
from enrollments.management.commands import ca_certificates
from enrollments.models import CaCertificate, HistoryEvent
from tests.certificates import root
from tests.devices import ALICE, demand_proof, enroll_ca, enroll_key_group, register
from tests.management.calls import json_of, printed_by, refusal_of
from tests.management.test_entry_commands import answering

pytestmark = pytest.mark.django_db


@pytest.fixture
def ca():
    return root("Plant CA")


@pytest.fixture
def file(tmp_path):
    """Writes a certificate, and tells where."""

    def write(text, name="one.pem"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_from_the_upload_to_the_deletion(service, ca, file):
    added = json_of("ca_certificates", "add", "plant", "--certificate", file(ca.pem))
    assert (added["name"], added["verified"], added["code"]) == ("plant", False, None)

    made = json_of("ca_certificates", "code", "plant")
    answer = file(ca.leaf(made["code"]).pem)
    verified = json_of("ca_certificates", "verify", "plant", "--certificate", answer, "--reason", "ours")

    assert verified["verified"] and verified["code"] is None
    last = HistoryEvent.objects.get(event="ca_certificate.verified")
    assert (last.actor_kind, last.way, last.reason) == ("cli", "command line", "ours")
    assert printed_by("ca_certificates", "list") == "plant: verified; CN=Plant CA\n"
    assert json_of("ca_certificates", "delete", "PLANT")["deleted"]
    assert printed_by("ca_certificates", "list") == "There is no CA certificate in plant.\n"


def test_code_is_printed_with_what_answers_it(service, ca, file):
    json_of("ca_certificates", "add", "plant", "--certificate", file(ca.pem))

    text = printed_by("ca_certificates", "code", "plant")

    code = CaCertificate.objects.get().code
    assert f'-subj "/CN={code}"' in text
    assert "ca_certificates verify plant --certificate verification.pem" in text
    assert "not verified, code waiting until" in printed_by("ca_certificates", "list")


def test_dry_runs_tell_and_change_nothing(service, ca, file):
    enroll_ca(service, ca)
    register(service, ca.leaf("pump-042"))
    demand_proof(service)
    json_of("ca_certificates", "add", "plant", "--certificate", file(ca.pem))
    code = json_of("ca_certificates", "code", "plant")["code"]
    verify = ("ca_certificates", "verify", "plant", "--certificate", file(ca.leaf(code).pem))

    text = printed_by(*verify, "--dry-run")

    assert "1 device will come in anew" in text and "Nothing was changed. It was looked at on epoch" in text
    assert not CaCertificate.objects.get().is_verified
    printed_by(*verify, "--yes")
    told = json_of("ca_certificates", "delete", "plant", "--dry-run")
    assert told["preview"]["effects"]["refused"]["devices"] == 1
    assert CaCertificate.objects.exists()
    assert "1 device is refused from now on" in printed_by("ca_certificates", "delete", "plant")


# --- Where devices may come in by the proof (R7, R12) -----------------------------------------------


@pytest.fixture
def verify(service, ca, file):
    """The command, where one device waits for the proof that its service demands."""
    enroll_ca(service, ca)
    register(service, ca.leaf("pump-042"))
    demand_proof(service)
    json_of("ca_certificates", "add", "plant", "--certificate", file(ca.pem))
    code = json_of("ca_certificates", "code", "plant")["code"]
    return ("ca_certificates", "verify", "plant", "--certificate", file(ca.leaf(code).pem))


def is_verified():
    return CaCertificate.objects.get().is_verified


def test_a_dry_run_tells_who_comes_in_when_the_group_is_enabled_by_itself(service, verify, database_clock):
    at = database_clock.ahead(days=1)
    disable_enrollment_group(service, service.enrollmentgroups.get().group_id, until=at, actor=ALICE)

    text = printed_by(*verify, "--dry-run")

    stays = f"not counting what is scheduled from {as_text(at)} on"
    assert f"1 device is shut out already, {stays}: pump-042." in text
    assert (
        f"From {as_text(at)} on, with whatever else is scheduled until then:\n1 device will come in anew"
        in text
    )
    assert json_of(*verify, "--dry-run")["to_come"][0]["effects"]["comes_in"]["devices"] == 1


def test_it_is_asked_about_and_done_on_a_yes(verify, monkeypatch):
    answering(monkeypatch, "n\n")
    code, sentence = refusal_of(*verify)
    assert (code, sentence, is_verified()) == (1, "Nobody said yes, so nothing was changed.", False)

    answering(monkeypatch, "y\n")
    text = printed_by(*verify)

    assert "If possession of the key of plant is verified:\n- 1 device will come in anew" in text
    assert "is verified. 1 device is admitted from now on through enrollment group plant-ca." in text
    assert is_verified()


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_where_nobody_answers_a_yes_is_needed(verify, monkeypatch, more):
    answering(monkeypatch, "y\n", is_terminal=False)

    code, sentence = refusal_of(*verify, *more)

    assert (code, "say --yes" in sentence, is_verified()) == (2, True, False)
    told = json_of(*verify, "--yes")
    assert (told["verified"], told["preview"]["effects"]["comes_in"]["devices"]) == (True, 1)


def test_a_script_can_verify_on_the_state_that_its_dry_run_saw(service, verify):
    epoch = str(json_of(*verify, "--dry-run")["preview"]["epoch"])
    service.raise_epoch()

    code, sentence = refusal_of(*verify, "--yes", "--epoch", epoch)

    assert (code, "changed after the preview was made" in sentence, is_verified()) == (1, True, False)
    epoch = str(json_of(*verify, "--dry-run")["preview"]["epoch"])
    assert json_of(*verify, "--yes", "--epoch", epoch)["verified"]


def test_what_changes_while_it_is_asked_is_shown_and_asked_again(service, verify, monkeypatch):
    asked = []

    def answer(self, question):
        asked.append(question)
        if len(asked) == 1:
            service.raise_epoch()
        return True

    monkeypatch.setattr(ca_certificates.Command, "agreed", answer)

    text = printed_by(*verify)

    assert asked == ["Verify?"] * 2
    assert "Something was changed meanwhile, and nothing was done. This holds now:" in text
    assert is_verified()


def test_a_demand_that_comes_in_between_is_asked_about(service, verify, monkeypatch):
    """Nobody waited for the proof when it was looked at, and a device does when it is done."""
    demand_proof(service, False)
    really, called = ca_certificates.verify_ca_certificate, []

    def late(*arguments, **how):
        if not called:
            demand_proof(service)
        called.append(how)
        return really(*arguments, **how)

    monkeypatch.setattr(ca_certificates, "verify_ca_certificate", late)
    answering(monkeypatch, "n\n")

    code, sentence = refusal_of(*verify)

    assert (code, sentence, is_verified()) == (1, "Nobody said yes, so nothing was changed.", False)


def test_nobody_is_asked_where_nobody_can_come_in(service, verify, monkeypatch, settings):
    """Nor is anything looked at: what cannot be decrypted stands in nobody's way."""
    demand_proof(service, False)
    enroll_key_group(service)
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()
    answering(monkeypatch, "", is_terminal=False)

    assert json_of(*verify)["preview"] is None
    assert is_verified()


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (("delete", "plant", "--yes"), 2, "--yes and --epoch are for verify"),
        (("code", "plant", "--epoch", "0"), 2, "--yes and --epoch are for verify"),
        (("add",), 2, "its name is missing"),
        (("list", "plant"), 2, "list takes no name"),
        (("add", "plant"), 2, "add needs --certificate"),
        (("code", "plant", "--certificate", "x"), 2, "--certificate is for add and verify"),
        (("add", "plant", "--certificate", "/nowhere/at.all"), 2, "cannot be read: No such file"),
        (("code", "plant", "--dry-run"), 2, "--dry-run is for verify and delete"),
        (("code", "lost"), 1, "There is no CA certificate lost"),
        (("delete", "lost", "--dry-run"), 1, "There is no CA certificate lost"),
    ],
)
def test_refusals(service, command, code, says):
    exit_code, sentence = refusal_of("ca_certificates", *command)

    assert exit_code == code
    assert says in sentence


def test_what_proves_nothing_is_refused(service, ca, file):
    json_of("ca_certificates", "add", "plant", "--certificate", file(ca.pem))
    json_of("ca_certificates", "code", "plant")
    two = file(ca.leaf("x").pem + ca.pem)

    for certificate, says in (
        (two, "This holds 2 certificates"),
        (file(ca.leaf("x").pem, "b.pem"), "not the"),
    ):
        code, sentence = refusal_of("ca_certificates", "verify", "plant", "--certificate", certificate)
        assert code == 1 and says in sentence
