"""What docs/clients.md tells to type, typed: against the live installation, on the port of its listener."""

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


def block(language: str, start: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (found,) = [code for code in blocks if code.startswith(start)]
    return found


@pytest.fixture(scope="module")
def enrolled(prepare) -> None:
    prepare(
        "spec = IndividualSpec(registration_id='pump-042', primary_key=key,"
        " mechanism=AttestationMechanism.SYMMETRIC_KEY)\n"
        "add_individual_enrollment(service, spec, actor=ALICE)",
        key=KEY,
    )


@pytest.fixture
def typed(live, enrolled, tmp_path):
    """The page's block with the installation's names in place of the examples."""
    (tmp_path / "ca.pem").write_text(live.ca_file.read_text())

    def fill(code: str) -> str:
        assert KEY in code
        names = {
            "devices.example.org:8443": f"localhost:{live.device_port}",
            "devices.example.org": "localhost",
            "0ne12345678": live.id_scope,
        }
        for example, real in names.items():
            code = code.replace(example, real)
        return code

    return fill


def test_plain_rest_with_a_symmetric_key(typed, tmp_path):
    done = subprocess.run(
        ["sh", "-eu", "-c", typed(block("sh", "HOST="))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert '"assignedHub": "local.hub.internal"' in done.stdout
    assert '"deviceId": "pump-042"' in done.stdout


def test_node(typed, run_node):
    assert (
        run_node("-e", typed(block("js", "const { ProvisioningDeviceClient"))).strip()
        == "pump-042 at local.hub.internal"
    )


def test_key_below_a_group_is_derived_as_the_page_says():
    """The example of the documentation of Azure."""
    definition = re.search(r"^hmac\(\).*$", PAGE, re.MULTILINE)[0]
    command = re.search(r"`KEY=\$\((printf .*)\)`", PAGE)[1]
    group_key = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
    values = f"ID=sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6\nGROUP_KEY={group_key}\n"

    done = subprocess.run(
        ["sh", "-eu", "-c", f"{values}{definition}\n{command}"], capture_output=True, text=True
    )

    assert done.stdout.strip() == "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc="


def test_node_says_what_to_enroll_of_a_tpm(tpm, run_node):
    registration_id, endorsement_key = run_node("-e", block("js", "const { TpmSecurityClient")).split()

    assert registration_id == tpm.registration_id
    assert base64.b64decode(endorsement_key) == tpm.endorsement_key


def test_node_as_a_back_end(connection_string, run_node):
    code = block("js", "const { ProvisioningServiceClient").replace(
        "process.env.CONNECTION_STRING", repr(connection_string)
    )

    assert run_node("-e", code).strip() == "pump-043 is enabled"


def test_python_as_a_back_end(live, connection_string):
    done = subprocess.run(
        [sys.executable, "-c", block("python", "import os")],
        env={
            "PATH": os.environ["PATH"],
            "REQUESTS_CA_BUNDLE": str(live.ca_file),
            "CONNECTION_STRING": connection_string,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout.strip() == "pump-044 is enabled", done.stderr
