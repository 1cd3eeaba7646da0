"""A live installation on the one port that the SDK dials, the SDK itself, and TPMs in software."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.live import LiveListeners, installation
from tests.sdk.calls import Call
from tests.sdk.needs import DEVICE_PORT
from tests.sdk.trm_proxy import TrmProxy

HERE = Path(__file__).parent
PATIENCE_SECONDS = 60

# For what `prepare` runs.
PRELUDE = """
from enrollments.actions.enrollment_groups import *
from enrollments.actions.enrollments import *
from enrollments.actions.hubs import *
from enrollments.actions.services import *
from enrollments.attestation.x509 import read_upload
from enrollments.models import *
from tests.devices import ALICE

def held(pem):
    return {Slot.PRIMARY: read_upload(pem.encode())[0]}

service = ProvisioningService.objects.get(name="local")
"""

# Hurried, since each registration waits once for as long as Retry-After says. Named, so that back ends find it beside
# other services. And a second hub, to which only entries that name it are assigned.
PREPARATION = """
change_settings(service, {"retry_after_seconds": 1, "host_name": "localhost"}, actor=ALICE)
second = HubSpec(name="second", host_name="second.example", apply_allocation_policy=False)
link_hub(service, second, actor=ALICE)
"""

Prepare = Callable[..., str]
Manage = Callable[..., list[dict[str, Any]]]


@dataclass(frozen=True)
class Told:
    """What the SDK handed to its caller."""

    raw: dict[str, Any]

    @property
    def state(self) -> dict[str, Any]:
        """The registrationState; fails where the SDK told an error."""
        assert "state" in self.raw, self.raw
        return self.raw["state"]

    @property
    def error(self) -> str:
        assert "error" in self.raw, self.raw
        return self.raw["error"]

    @property
    def error_code(self) -> int:
        """What the server told, as the SDK hands it on."""
        return self.raw["body"]["errorCode"]


@pytest.fixture(scope="session")
def live(tmp_path_factory) -> Iterator[LiveListeners]:
    with installation(tmp_path_factory.mktemp("sdk"), device_port=DEVICE_PORT) as live:
        live.python(f"{PRELUDE}{PREPARATION}")
        live.start("device")
        yield live


@pytest.fixture(scope="session")
def prepare(live) -> Prepare:
    """Run code on the installation's data, with `service` and the actions at hand and each keyword as a variable."""

    def run(code: str, **variables: object) -> str:
        values = "".join(f"{name} = {value!r}\n" for name, value in variables.items())
        return live.python(f"{PRELUDE}{values}{code}\n")

    return run


@pytest.fixture
def run_node(live) -> Callable[..., str]:
    """Start Node.js where it finds the SDK, trusting the installation's CA as docs/clients.md says."""

    def run(*arguments: str, given: str = "", trusting: bool = True) -> str:
        trust = {"NODE_EXTRA_CA_CERTS": str(live.ca_file)} if trusting else {}
        done = subprocess.run(
            ["node", *arguments],
            cwd=HERE,
            # The listener has the IPv4 address only.
            env={"PATH": os.environ["PATH"], "NODE_OPTIONS": "--dns-result-order=ipv4first", **trust},
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr + live.log("device")[-5000:]
        return done.stdout

    return run


@pytest.fixture
def run_sdk(live, run_node) -> Callable[..., dict[str, Any]]:
    """Do one thing with the SDK in a process of its own, and return what it was told."""

    def run(*, trusting: bool = True, **task: object) -> dict[str, Any]:
        given = json.dumps({"host": "localhost", "idScope": live.id_scope, **task})
        return json.loads(run_node("register.js", given=given, trusting=trusting))

    return run


@pytest.fixture
def register(run_sdk) -> Callable[..., Told]:
    def run(registration_id: str, **task: object) -> Told:
        return Told(run_sdk(registrationId=registration_id, **task))

    return run


@pytest.fixture(scope="session")
def connection_string(live) -> str:
    """What an administrator hands to a back end."""
    return live.json_of("service_info")["connection_string"]


@pytest.fixture(params=["Node.js", "Python"])
def manage(request, live, connection_string, run_node) -> Manage:
    """Make calls with one of the management SDKs, in a process of its own, and return what came of each."""

    def run(*calls: Call, **credential: str) -> list[dict[str, Any]]:
        given: dict[str, Any] = {"connectionString": connection_string, **credential}
        if request.param == "Node.js":
            given["calls"] = [one.for_node() for one in calls]
            return json.loads(run_node("manage.js", given=json.dumps(given)))
        given["calls"] = [one.for_python() for one in calls]
        done = subprocess.run(
            [sys.executable, "-m", "tests.sdk.manage"],
            # As docs/clients.md says.
            env={"PATH": os.environ["PATH"], "REQUESTS_CA_BUNDLE": str(live.ca_file)},
            cwd=HERE.parents[1],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr + live.log("device")[-5000:]
        return json.loads(done.stdout)

    return run


@dataclass(frozen=True)
class TpmIdentity:
    """What a TPM says of itself, through the SDK. The registration ID is what the SDK makes of the endorsement key."""

    registration_id: str
    endorsement_key: bytes
    storage_root_key: bytes


@pytest.fixture
def switched_on(tmp_path) -> Iterator[Callable[[str], None]]:
    """Switch on the TPM of a name, in place of the one that was on. It keeps its keys as long as the test runs."""
    running: list[TrmProxy] = []

    def switch(name: str) -> None:
        if running:
            running.pop().close()
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        running.append(TrmProxy(folder))

    yield switch
    for proxy in running:
        proxy.close()


@pytest.fixture
def tpm(switched_on, run_sdk) -> TpmIdentity:
    """A TPM as it comes from the factory, switched on."""
    switched_on("first")
    return read_tpm(run_sdk)


def read_tpm(run_sdk: Callable[..., dict[str, Any]]) -> TpmIdentity:
    read = run_sdk(readTpm=True)
    return TpmIdentity(
        read["registrationId"],
        base64.b64decode(read["endorsementKey"]),
        base64.b64decode(read["storageRootKey"]),
    )
