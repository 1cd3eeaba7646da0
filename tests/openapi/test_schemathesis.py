"""schemathesis reads the document that a real listener serves, and holds the listener to it: all checks, all phases."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpsportal.serving.supervisor import PROJECT_DIR
from tests.live import installation

FOLDER = PROJECT_DIR / "tests" / "openapi"
SECONDS = 300
# What each run of the suite can afford.
EXAMPLES = os.environ.get("DPS_SCHEMATHESIS_EXAMPLES", "5")

_PREPARE = """
import json
from tests.certificates import root
from tests.devices import upload_ca
from enrollments.actions.enrollment_groups import add_enrollment_group
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.services import change_settings
from enrollments.audit.actor import Actor, Way
from enrollments.models import AttestationMechanism, ProvisioningService
service = ProvisioningService.objects.get(name='local')
actor = Actor('cli', 'test', Way.COMMAND_LINE)
change_settings(service, {'symmetric_key_groups': True, 'device_registrations_per_minute': 60}, actor=actor)
keys = GroupSpec(group_id='any-device', mechanism=AttestationMechanism.SYMMETRIC_KEY)
group = add_enrollment_group(service, keys, actor=actor)
policy = service.access_policies.get()
ca = upload_ca(service, root('Uploaded CA'))
print(json.dumps({
    'id_scope': service.id_scope, 'group': group.group_id, 'group_key': group.primary_key, 'policy': policy.name,
    'policy_key': policy.primary_key, 'hub': service.hubs.get().host_name, 'ca': ca.name,
}))
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """Believes this machine as a proxy, so that each request can have an address of its own, and none meets a rate."""
    folder, settings = tmp_path_factory.mktemp("schemathesis"), {"DPS_WEBHOOK_HOSTS": "hooks.example"}
    with installation(folder, DPS_TRUSTED_PROXIES="127.0.0.1", **settings) as made:
        made.start("device")
        yield made


def test_the_listener_does_what_the_document_says(live, tmp_path):
    known = {**json.loads(live.python(_PREPARE)), "host": f"127.0.0.1:{live.device_port}"}
    command = [
        Path(sys.executable).with_name("schemathesis"),
        "--config-file", FOLDER / "schemathesis.toml",
        "run", f"{live.device_url}/openapi.json",
        "--tls-verify", live.ca_file,
        "--max-examples", EXAMPLES,
        "--report", "json", "--report-json-path", tmp_path / "report.json",
    ]  # fmt: skip

    done = subprocess.run(
        list(map(str, command)),
        cwd=PROJECT_DIR,
        env={**os.environ, "DPS_SCHEMATHESIS_KNOWN": json.dumps(known), "PYTHONPATH": str(PROJECT_DIR)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert "18 selected / 18 total" in done.stdout
