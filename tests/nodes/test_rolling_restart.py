"""Two nodes behind a proxy, restarted one after the other under load: no device notices.

Debian's HAProxy and nginx, configured by the very text of docs/scaling.md and docs/behind-a-proxy.md.
"""

import os
import signal
import subprocess
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from dpsportal.serving.supervisor import PROJECT_DIR
from enrollments.simulator.exchanges import Endpoint, why_not_ready
from tests.certificates import root
from tests.live import free_port
from tests.nodes.callers import Caller, everything_told, new_devices
from tests.nodes.clusters import Cluster, cluster, database_of
from tests.serving.listeners import wait_until
from tests.serving.test_real_proxies import DOCUMENTED_LISTENER, documented, found_or_skipped

pytestmark = pytest.mark.skipif(
    os.environ.get("DATABASE_URL", "").startswith("postgres"),
    reason="what it shows has nothing to do with the database",
)
PAGE = PROJECT_DIR / "docs" / "scaling.md"
CALLERS = 6
SOME = 15
PATIENCE = 120


@pytest.fixture
def two_nodes(tmp_path):
    with (
        database_of(tmp_path, "rolling") as url,
        cluster(tmp_path, url, DPS_TRUSTED_PROXIES="127.0.0.1") as nodes,
    ):
        yield nodes


@contextmanager
def proxied_by(command: list[str], endpoint: Endpoint):
    process = subprocess.Popen(command)
    try:
        assert wait_until(lambda: not why_not_ready(endpoint), seconds=20)
        yield endpoint
    finally:
        process.terminate()
        process.wait(20)


def haproxy(nodes: Cluster, folder: Path):
    """Passes connections on unopened, so both nodes need to be believed."""
    port, program = free_port(), found_or_skipped("haproxy")
    text = documented(
        "haproxy",
        PAGE,
        **{
            "bind :443": f"bind 127.0.0.1:{port}",
            "10.0.0.1:8443": f"127.0.0.1:{nodes.nodes[0].device_port}",
            "10.0.0.2:8443": f"127.0.0.1:{nodes.nodes[1].device_port}",
        },
    )
    (folder / "haproxy.cfg").write_text(text)
    both = folder / "both.pem"
    both.write_text("".join(node.ca_file.read_text() for node in nodes.nodes))
    endpoint = Endpoint("127.0.0.1", port, nodes.nodes[0].id_scope, both)
    return proxied_by([program, "-db", "-f", str(folder / "haproxy.cfg")], endpoint)


def nginx(nodes: Cluster, folder: Path):
    """Ends TLS, with the certificate of the first node."""
    port, program = free_port(), found_or_skipped("nginx")
    tls = nodes.nodes[0].data_dir / "tls"
    upstream = documented(
        "nginx",
        PAGE,
        **{
            "10.0.0.1:8444": f"127.0.0.1:{nodes.nodes[0].proxied_port}",
            "10.0.0.2:8444": f"127.0.0.1:{nodes.nodes[1].proxied_port}",
        },
    )
    server = documented(
        "nginx",
        **{
            "listen 443 ": f"listen 127.0.0.1:{port} ",
            "/etc/nginx/tls/device.pem": str(tls / "server.pem"),
            "/etc/nginx/tls/device.key": str(tls / "server.key"),
            DOCUMENTED_LISTENER: "dpsportal",
        },
    )
    folders = "".join(
        f"{kind}_temp_path {folder / kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder / 'pid'}; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders}\n{upstream}\n{server}}}\n"
    )
    command = [program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    endpoint = Endpoint("127.0.0.1", port, nodes.nodes[0].id_scope, nodes.nodes[0].ca_file)
    return proxied_by(command, endpoint)


@pytest.mark.parametrize(("proxy", "listener"), [(haproxy, "device"), (nginx, "proxied")])
def test_no_request_is_lost(two_nodes, tmp_path, proxy, listener):
    two_nodes.start()  # the device listener also makes the certificate that nginx has here
    if listener == "proxied":
        for node in two_nodes.nodes:
            node.start("proxied")
    ca = root("plant-7")
    two_nodes.back_end(0).enroll_ca("plant-7", ca.pem)
    with proxy(two_nodes, tmp_path) as endpoint:
        callers = [Caller([endpoint], new_devices(ca, tmp_path)) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()

        def goes_on() -> None:
            so_far = len(everything_told(callers))
            assert wait_until(lambda: len(everything_told(callers)) >= so_far + SOME, seconds=PATIENCE)

        goes_on()
        for node in two_nodes.nodes:
            process = node.processes[listener]
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
            goes_on()
            node.start(listener)
            goes_on()
        for caller in callers:
            caller.stop.set()
        for caller in callers:
            caller.join(PATIENCE)

    heard = Counter(one.what for one in everything_told(callers))
    assert set(heard) == {"assigned", "assigning"}, heard
