"""Several nodes of one installation, each with listeners of its own, on one database; and who calls them."""

import base64
import hashlib
import hmac
import json
import os
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import quote_plus, urlsplit

import psycopg
from cryptography.fernet import Fernet
from psycopg.sql import SQL, Identifier

from enrollments.simulator.credentials import SharedKey
from enrollments.simulator.exchanges import Endpoint
from tests.live import LiveListeners, installation

VERSION = "api-version=2021-10-01"


@dataclass
class Cluster:
    """The nodes; what is the same for all is asked of the first."""

    nodes: list[LiveListeners]
    back_end_key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        told = self.nodes[0].python(
            "from enrollments.models import AccessPolicy, ProvisioningService\n"
            # Devices of these tests come as often as they can.
            "ProvisioningService.objects.update(device_registrations_per_minute=60,\n"
            "    registrations_per_minute=1000000)\n"
            "print(AccessPolicy.objects.get(name='provisioningserviceowner').primary_key)\n"
        )
        self.back_end_key = told.strip()

    @property
    def endpoints(self) -> list[Endpoint]:
        return [node.endpoint for node in self.nodes]

    @property
    def is_postgresql(self) -> bool:
        return self.nodes[0].environment["DATABASE_URL"].startswith("postgres")

    def start(self) -> None:
        for node in self.nodes:
            node.start("device")

    def back_end(self, number: int) -> "BackEnd":
        return BackEnd(self.nodes[number], self.back_end_key)

    def history_verifies(self) -> bool:
        done = self.nodes[0].manage("audit_verify", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return True


@dataclass
class BackEnd:
    """Calls the service API of one node, as an administrator's own program does."""

    node: LiveListeners
    key: str = field(repr=False)

    def call(self, method: str, path: str, body: dict | None = None, **headers: str) -> dict:
        resource, expiry = quote_plus("127.0.0.1"), int(time.time()) + 600
        digest = hmac.new(
            base64.b64decode(self.key), f"{resource}\n{expiry}".encode(), hashlib.sha256
        ).digest()
        token = f"SharedAccessSignature sr={resource}&sig={quote_plus(base64.b64encode(digest))}&se={expiry}"
        context = ssl.create_default_context(cafile=self.node.ca_file)
        with closing(
            HTTPSConnection("127.0.0.1", self.node.device_port, timeout=60, context=context)
        ) as connection:
            connection.request(
                method,
                f"{path}?{VERSION}",
                body=json.dumps(body) if body is not None else None,
                headers={
                    "Authorization": f"{token}&skn=provisioningserviceowner",
                    "Content-Type": "application/json; charset=utf-8",
                    **headers,
                },
            )
            answer = connection.getresponse()
            text = answer.read().decode()
        assert answer.status in (200, 204), (method, path, answer.status, text)
        return json.loads(text) if text else {}

    def enroll_keys(self, registration_id: str, **members: object) -> SharedKey:
        attestation = {"type": "symmetricKey", "symmetricKey": {}}
        body = {"registrationId": registration_id, "attestation": attestation, **members}
        told = self.call("PUT", f"/enrollments/{registration_id}", body)
        return SharedKey(told["attestation"]["symmetricKey"]["primaryKey"])

    def enroll_ca(self, group_id: str, pem: str) -> None:
        certificates = {"signingCertificates": {"primary": {"certificate": pem}}}
        body = {"enrollmentGroupId": group_id, "attestation": {"type": "x509", "x509": certificates}}
        self.call("PUT", f"/enrollmentGroups/{group_id}", body)

    def change(self, path: str, **members: object) -> None:
        body = self.call("GET", path)
        self.call("PUT", path, {**body, **members}, **{"If-Match": "*"})


@contextmanager
def database_of(folder: Path, name: str) -> Iterator[str]:
    """The address of an empty database: on the server that DATABASE_URL names, or else a file of SQLite."""
    server = os.environ.get("DATABASE_URL", "")
    if not server.startswith("postgres"):
        yield f"sqlite:///{folder / 'shared.sqlite3'}"
        return
    with closing(psycopg.connect(server, autocommit=True)) as connection:
        name = f"{name}_{os.getpid()}"  # another worker of the run may make the same
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@contextmanager
def cluster(folder: Path, url: str, *, nodes: int = 2, **environment: str) -> Iterator[Cluster]:
    """So many nodes on the database, none of which is started yet. Each has a data folder of its own."""
    shared = {
        "DATABASE_URL": url,
        "DPS_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "DPS_HISTORY_KEY": Fernet.generate_key().decode(),
        "DPS_SECRET_KEY": Fernet.generate_key().decode() * 2,
        "DPS_CHECKPOINT_FILE": str(folder / "history_checkpoints"),
        **environment,
    }
    with ExitStack() as all_nodes:
        yield Cluster(
            [
                all_nodes.enter_context(
                    installation(made(folder / f"node-{number}"), prepared=number > 1, **shared)
                )
                for number in range(1, nodes + 1)
            ]
        )


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder
