"""Against TPMs that are not ours: swtpm takes the same blobs, and the virtual TPM takes what tpm2-tools make."""

import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time

import pytest

from enrollments.simulator.software_tpm import CommandRefused, SoftwareTpm, SoftwareTpmMissing
from enrollments.simulator.tpm_protection import check_binding, open_credential, open_duplicate
from enrollments.simulator.tpm_structures import BlobMalformed, HmacPublicArea, TpmRefusal, name_of
from enrollments.simulator.virtual_tpm import VirtualTpm
from tests.simulator.tpm_blobs import b2, blob_for

TEXT = b"0ne0000ABCD%2Fregistrations%2Fpump-1\n1795439729"
TOOLS = ("tpm2_makecredential", "tpm2_duplicate", "tpm2_create", "tpm2_hmac")
needs_swtpm = pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed")
needs_tools = pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason="tpm2-tools are not installed")


@pytest.fixture(scope="module")
def virtual() -> VirtualTpm:
    return VirtualTpm.new()


@pytest.fixture(scope="module")
def software(tmp_path_factory) -> SoftwareTpm:
    return SoftwareTpm(tmp_path_factory.mktemp("swtpm") / "pump-1")


@needs_swtpm
def test_both_tpms_lay_their_keys_out_alike(virtual, software):
    for kind in ("endorsement_key", "storage_root_key"):
        ours, theirs = getattr(virtual, kind), getattr(software, kind)

        assert ours[:-256] == theirs[:-256]
        assert ours[-256:] != theirs[-256:]


@needs_swtpm
@pytest.mark.parametrize("unused", [b"", bytes(154)], ids=["empty", "as long as Azure's"])
def test_swtpm_takes_the_key_of_a_blob(software, unused):
    blob = blob_for(software, unused=unused)

    software.activate(blob.octets())

    assert software.sign(TEXT) == hmac.digest(blob.key, TEXT, "sha256")


@needs_swtpm
def test_a_second_activation_replaces_the_key_and_survives_a_power_cycle(tmp_path):
    tpm = SoftwareTpm(tmp_path / "pump-1")
    tpm.activate(blob_for(tpm).octets())
    second = blob_for(tpm)
    tpm.activate(second.octets())

    again = SoftwareTpm(tmp_path / "pump-1")

    assert again.endorsement_key == tpm.endorsement_key
    assert again.sign(TEXT) == hmac.digest(second.key, TEXT, "sha256")


@needs_swtpm
@pytest.mark.parametrize(
    ("wrong", "response"),
    [
        pytest.param({"label_1": b"IDENTITY"}, "ActivateCredential", id="label without its zero"),
        pytest.param(
            {"credential_for": bytes(34)}, "ActivateCredential .*INTEGRITY", id="for another object"
        ),
        pytest.param({"credential": bytes(18)}, "ActivateCredential .*SIZE", id="a size that does not fit"),
        pytest.param({"label_2": b"DUPLICATE"}, "Import", id="duplicate label without zero"),
        pytest.param({"sensitive_kind": b"\0\1"}, "Import .*TYPE", id="the sensitive area of an RSA key"),
        pytest.param({"authorization": bytes(33)}, "Import .*SIZE", id="too long an authorization value"),
        pytest.param({"after_sensitive": b"\0"}, "Import .*SIZE", id="more than the sensitive area"),
        pytest.param({"key": b"", "unique": bytes(32)}, "Import .*BINDING", id="an empty key"),
        pytest.param({"key": bytes(65)}, "Import .*KEY_SIZE", id="a key longer than a block"),
        pytest.param({"obfuscation": bytes(31)}, "Import .*KEY_SIZE", id="a short seedValue"),
        pytest.param({"unique": bytes(32)}, "Import .*BINDING", id="unique of another key"),
        pytest.param({"attributes": 0x00040442}, "Import .*ATTRIBUTES", id="bound to another TPM"),
        pytest.param({"scheme": b"\0\x10"}, "Import .*SCHEME", id="no scheme"),
    ],
)
def test_what_swtpm_refuses_the_virtual_tpm_refuses_too(virtual, software, wrong, response):
    with pytest.raises(CommandRefused, match=response):
        software.activate(blob_for(software, **wrong).octets())

    with pytest.raises(TpmRefusal):
        virtual.activate(blob_for(virtual, **wrong).octets())


@needs_swtpm
@pytest.mark.parametrize("item", [0, 2], ids=["id object", "duplicate"])
def test_swtpm_finds_damage(software, item):
    items = blob_for(software).items()
    items[item] = items[item][:-1] + bytes([items[item][-1] ^ 1])

    with pytest.raises(CommandRefused, match="INTEGRITY"):
        software.activate(b"".join(map(b2, items)))


@needs_swtpm
def test_without_a_key_swtpm_signs_nothing(tmp_path):
    with pytest.raises(CommandRefused, match="TPM2_HMAC is answered with TPM_RC_HANDLE"):
        SoftwareTpm(tmp_path / "new").sign(TEXT)


@needs_swtpm
def test_a_wrapping_key_of_another_length_is_refused_before_it_is_used(software):
    with pytest.raises(BlobMalformed, match="32 octets instead of 16"):
        software.activate(blob_for(software, inner=bytes(32)).octets())


def test_where_swtpm_is_missing_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SoftwareTpmMissing, match="--tpm virtual"):
        SoftwareTpm(tmp_path / "pump-1")


@pytest.mark.parametrize("script", ["exit 0", "exec cat"], ids=["ends at once", "reads nothing"])
def test_a_swtpm_that_does_not_answer_is_not_waited_for_for_ever(tmp_path, monkeypatch, script):
    program = tmp_path / "swtpm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("enrollments.simulator.software_tpm.EXCHANGE_SECONDS", 0.3)

    with pytest.raises(SoftwareTpmMissing, match="swtpm"):
        SoftwareTpm(tmp_path / "pump-1")


@needs_tools
def test_the_virtual_tpm_activates_a_credential_of_tpm2_makecredential(virtual, tmp_path):
    name, secret = name_of(virtual.storage_root_key[2:]), os.urandom(16)
    (tmp_path / "ek.pub").write_bytes(virtual.endorsement_key)
    (tmp_path / "secret").write_bytes(secret)
    subprocess.run(
        ["tpm2_makecredential", "-T", "none", "-u", "ek.pub", "-n", name.hex(), "-s", "secret", "-o", "blob"],
        cwd=tmp_path,
        check=True,
    )

    # A magic number and a version of the tool's, then the two structures.
    id_object, seed = two_items((tmp_path / "blob").read_bytes()[8:])

    assert open_credential(virtual.ek, name, id_object, seed) == secret


def two_items(octets: bytes) -> tuple[bytes, bytes]:
    end = 2 + int.from_bytes(octets[:2], "big")
    assert int.from_bytes(octets[end : end + 2], "big") == len(octets) - end - 2
    return octets[2:end], octets[end + 2 :]


class Tools:
    """tpm2-tools with a swtpm of their own, on two neighbouring ports of this machine."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.port = two_free_ports()
        (folder / "state").mkdir()
        command = f"""
            swtpm socket --tpm2 --tpmstate dir={folder}/state --flags not-need-init,startup-clear
            --server type=tcp,port={self.port},bindaddr=127.0.0.1
            --ctrl type=tcp,port={self.port + 1},bindaddr=127.0.0.1
        """
        self.process = subprocess.Popen(command.split())
        deadline = time.monotonic() + 10
        # The control channel opens first; asking there takes no connection from the tools.
        while socket.socket().connect_ex(("127.0.0.1", self.port + 1)):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def run(self, line: str) -> bytes:
        done = subprocess.run(
            line.split(),
            cwd=self.folder,
            capture_output=True,
            check=False,
            timeout=30,
            env={**os.environ, "TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={self.port}"},
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def two_free_ports() -> int:
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port < 65535 and other.connect_ex(("127.0.0.1", port + 1)) != 0:
                return port


@pytest.fixture
def tools(tmp_path):
    tools = Tools(tmp_path)
    yield tools
    tools.process.kill()
    tools.process.wait()


# A key that may be duplicated, and its duplicate for the storage root key in srk.pub.
DUPLICATION = """
tpm2_startauthsession -S trial
tpm2_policycommandcode -S trial -L policy-digest TPM2_CC_Duplicate
tpm2_flushcontext trial
tpm2_createprimary -C o -c primary
tpm2_create -C primary -G hmac:sha256 -L policy-digest -a userwithauth|noda|sign|sensitivedataorigin -u key.pub -c key
tpm2_flushcontext -t
tpm2_loadexternal -C n -u srk.pub -c parent
tpm2_startauthsession --policy-session -S policy
tpm2_policycommandcode -S policy TPM2_CC_Duplicate
tpm2_duplicate -C parent -c key -G aes -p session:policy -r duplicate -s seed -o wrapping-key
tpm2_flushcontext policy
tpm2_flushcontext -t
tpm2_hmac -c key -o signature text
"""


@needs_swtpm
@needs_tools
def test_the_virtual_tpm_opens_what_another_tpm_duplicates_to_it(virtual, tools):
    """TPM2_Duplicate with both wrappers: nothing in this blob was computed by us."""
    (tools.folder / "srk.pub").write_bytes(virtual.storage_root_key)
    (tools.folder / "text").write_bytes(TEXT)
    for line in DUPLICATION.strip().splitlines():
        tools.run(line)

    public_area = tools.read("key.pub")[2:]
    public = HmacPublicArea(public_area, public_area[-32:])
    sensitive = open_duplicate(
        virtual.srk, tools.read("wrapping-key"), public, tools.read("duplicate")[2:], tools.read("seed")[2:]
    )

    check_binding(sensitive, public)
    assert hmac.digest(sensitive.key, TEXT, hashlib.sha256) == tools.read("signature")
