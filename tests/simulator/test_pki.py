"""Certificates of simulated devices: judged as any others, kept as keys must be."""

import stat
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from enrollments.actions.registrations import Outcome
from enrollments.attestation.credential import PresentedCredential
from enrollments.audit.actor import Actor, Way
from enrollments.models import EnrollmentGroup
from enrollments.simulator import pki
from enrollments.simulator.credentials import CertificateFiles
from enrollments.simulator.enrolling import enroll_authority
from enrollments.simulator.pki import PkiFolder, PkiProblem, common_name, given_authority, read_certificates
from tests.certificates import mint
from tests.certificates import root as mint_root
from tests.devices import new_service, register

CLI = Actor("cli", "tester", Way.COMMAND_LINE)


def shown(files: CertificateFiles) -> PresentedCredential:
    return PresentedCredential(
        tuple(one.public_bytes(Encoding.DER) for one in read_certificates(files.chain))
    )


@pytest.mark.django_db
def test_a_device_below_an_intermediate_is_admitted_by_its_root_and_not_by_another(folder, tmp_path):
    service = new_service()
    root = folder.root("root", "Root")
    below = folder.intermediate("line", "Line", root)
    enroll_authority(service, "roots", root, actor=CLI, reason="test")
    elsewhere = PkiFolder(tmp_path / "elsewhere")
    stranger = elsewhere.device(elsewhere.root("root", "Root"), "pump-2")

    admitted = register(service, shown(folder.device(below, "pump-1")), "pump-1")
    refused = register(service, shown(stranger), "pump-2")

    assert admitted.outcome is Outcome.ASSIGNED
    assert refused.outcome is Outcome.UNAUTHORIZED


@pytest.mark.django_db
def test_a_ca_that_is_enrolled_is_not_enrolled_again(folder):
    service = new_service()
    root = folder.root("root", "Root")

    for group_id in ("roots", "another-name"):
        enroll_authority(service, group_id, root, actor=CLI, reason="test")

    assert [group.group_id for group in EnrollmentGroup.objects.all()] == ["roots"]


def test_keys_are_for_their_owner_alone(folder):
    root = folder.root("root", "Root")
    files = folder.device(root, "pump-1")
    folder.symmetric_key("gauge-1")

    keys = [folder.path / "root.key", files.key, folder.devices / "gauge-1.symmetric-key"]

    assert [stat.S_IMODE(key.stat().st_mode) for key in keys] == [0o600] * 3
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_what_is_in_the_folder_is_used_again(folder):
    def everything(of: PkiFolder) -> dict[str, bytes]:
        root = of.root("root", "Root")
        of.device(of.intermediate("line", "Line", root), "pump-1")
        of.self_signed_device("meter-1")
        of.symmetric_key("gauge-1")
        return {str(path): path.read_bytes() for path in of.path.rglob("*") if path.is_file()}

    assert everything(folder) == everything(PkiFolder(folder.path))


def test_a_device_certificate_that_has_run_out_is_replaced(folder, monkeypatch):
    root = folder.root("root", "Root")
    with monkeypatch.context() as patch:
        patch.setattr(pki, "DEVICE_LIFE", timedelta(hours=1))
        files = folder.device(root, "pump-1")
    before = read_certificates(files.chain)[0]

    after = read_certificates(folder.device(root, "pump-1").chain)[0]

    assert after.serial_number != before.serial_number
    assert after.not_valid_after_utc > before.not_valid_after_utc


def test_a_device_whose_issuer_was_replaced_is_issued_again(folder):
    root = folder.root("root", "Root")
    folder.device(folder.intermediate("line", "Line", root), "pump-1")
    (folder.path / "line.pem").unlink()
    line = folder.intermediate("line", "Line", root)

    chain = read_certificates(folder.device(line, "pump-1").chain)

    assert chain[1] == line.certificate
    chain[0].verify_directly_issued_by(line.certificate)


def test_given_files_become_a_device_with_its_chain(folder, tmp_path):
    line = mint_root("Root").intermediate("Line")
    leaf = line.leaf("pump-1")
    leaf_file, key_file, chain_file = (tmp_path / name for name in ("leaf", "key", "chain"))
    leaf_file.write_text(leaf.pem)
    key_file.write_text(leaf.key_pem)
    chain_file.write_text(line.pem)

    files = folder.given_device(CertificateFiles(leaf_file, key_file), chain_file)

    assert [common_name(one) for one in read_certificates(files.chain)] == ["pump-1", "Line"]
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("kind", "sends"), [("root", []), ("intermediate", ["Line"])], ids=["root", "intermediate"]
)
def test_a_given_ca_issues_devices_and_they_send_all_but_the_root(folder, tmp_path, kind, sends):
    root = mint_root("Root")
    ca = root if kind == "root" else root.intermediate("Line")
    certificate, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    certificate.write_text(ca.pem + root.pem)
    key.write_text(ca.key_pem)

    authority = given_authority(CertificateFiles(certificate, key), None)

    chain = read_certificates(folder.device(authority, "pump-1").chain)
    assert [common_name(one) for one in chain] == ["pump-1", *sends]
    chain[0].verify_directly_issued_by(ca.certificate)


@pytest.mark.parametrize(
    ("certificate", "key", "sentence"),
    [
        ("", "leaf", "cannot be read as certificates"),
        ("leaf", "other", "is not the key of"),
        ("leaf", "", "cannot be read as an unencrypted private key"),
    ],
)
def test_given_files_that_do_not_fit_are_refused(folder, tmp_path, certificate, key, sentence):
    minted = {"leaf": mint("pump-1"), "other": mint("pump-2")}
    (tmp_path / "cert").write_text(minted[certificate].pem if certificate else "hello")
    (tmp_path / "key").write_text(minted[key].key_pem if key else "hello")

    with pytest.raises(PkiProblem, match=sentence):
        folder.given_device(CertificateFiles(tmp_path / "cert", tmp_path / "key"), None)


def test_a_device_certificate_issues_nothing(tmp_path):
    leaf = mint("pump-1")
    leaf.write(tmp_path)

    with pytest.raises(PkiProblem, match="is not a CA certificate"):
        given_authority(CertificateFiles(tmp_path / "device.crt", tmp_path / "device.key"), None)
