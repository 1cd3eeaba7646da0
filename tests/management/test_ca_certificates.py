"""`manage.py ca_certificates`."""

import pytest

from enrollments.models import CaCertificate, HistoryEvent
from tests.certificates import root
from tests.devices import demand_proof, enroll_ca, new_service, register
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def service():
    return new_service()


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

    assert "1 device will come in anew" in text and text.endswith("Nothing was changed.\n")
    assert not CaCertificate.objects.get().is_verified
    printed_by(*verify)
    told = json_of("ca_certificates", "delete", "plant", "--dry-run")
    assert told["preview"]["effects"]["refused"]["devices"] == 1
    assert CaCertificate.objects.exists()
    assert "1 device is refused from now on" in printed_by("ca_certificates", "delete", "plant")


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
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
