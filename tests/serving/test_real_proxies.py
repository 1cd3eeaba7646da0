"""Real devices through Debian's nginx and HAProxy, configured by the very text of docs/behind-a-proxy.md."""

import base64
import http.client
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dpsportal.serving.supervisor import PROJECT_DIR
from enrollments.simulator.client import Device, Endpoint, Outcome
from enrollments.simulator.credentials import CertificateFiles, SharedKey
from tests.certificates import Minted, root, self_signed
from tests.live import LiveListeners, free_port
from tests.serving.listeners import wait_until

PAGE = PROJECT_DIR / "docs" / "behind-a-proxy.md"
# What the page says stands in files and at addresses of a machine that is none of ours.
DOCUMENTED_LISTENER = "127.0.0.1:8444"


@dataclass
class Proxy:
    """A proxy that runs before the proxied listener of a live installation."""

    name: str
    live: LiveListeners
    port: int
    log: Path

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.port, self.live.id_scope, self.live.ca_file)

    def outcome(self, registration_id: str, credential: CertificateFiles | SharedKey | None) -> Outcome:
        """How a registration ends, from the first request to the last poll."""
        return self.live.register(Device(registration_id, credential), self.endpoint).outcome

    def ask(
        self,
        registration_id: str,
        credential: CertificateFiles | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict]:
        """One request to register, with whatever headers the device cares to write."""
        context = self.endpoint.context()
        if credential:
            context.load_cert_chain(credential.chain, credential.key)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)
        path = f"/{self.live.id_scope}/registrations/{registration_id}/register?api-version=2021-06-01"
        with closing(connection):
            connection.request("PUT", path, headers=headers or {})
            answer = connection.getresponse()
            body = answer.read()
        return answer.status, json.loads(body) if body.startswith(b"{") else {}


def documented(language: str, page: Path = PAGE, **replacements: str) -> str:
    """The configuration of the page, with each documented value replaced; one that is missing is an error."""
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    for documented_value, value in replacements.items():
        assert documented_value in text
        text = text.replace(documented_value, value)
    return text


def found_or_skipped(program: str) -> str:
    """Where a program is. Without it the test is skipped, or fails where `DPS_PROXIES=required`."""
    # Debian keeps both where only root looks.
    if path := shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return path
    if os.environ.get("DPS_PROXIES") == "required":
        pytest.fail(f"DPS_PROXIES=required, and {program} was not found")
    pytest.skip(f"{program} was not found; install it, or leave these tests to where it is")


@contextmanager
def running(name: str, command: list[str], port: int, live: LiveListeners, folder: Path):
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    proxy = Proxy(name, live, port, log)
    try:
        assert wait_until(lambda: process.poll() is not None or _answers(proxy), seconds=20), log.read_text()
        assert process.poll() is None, log.read_text()
        yield proxy
    finally:
        process.terminate()
        process.wait(20)


def _answers(proxy: Proxy) -> bool:
    try:
        return proxy.ask("nobody")[0] == 401
    except OSError:
        return False


@contextmanager
def running_haproxy(live: LiveListeners, folder: Path, edit: Callable[[str], str] = str):
    program, port = found_or_skipped("haproxy"), free_port()
    tls = live.data_dir / "tls"
    pem = folder / "device.pem"
    pem.write_text((tls / "server.pem").read_text() + (tls / "server.key").read_text())
    text = documented(
        "haproxy",
        **{
            "bind :443 ": f"bind 127.0.0.1:{port} ",
            "/etc/haproxy/device.pem": str(pem),
            "/etc/ssl/certs/ca-certificates.crt": str(live.ca_file),
            DOCUMENTED_LISTENER: f"127.0.0.1:{live.proxied_port}",
        },
    )
    configuration = folder / "haproxy.cfg"
    configuration.write_text(edit(text))
    with running("haproxy", [program, "-db", "-f", str(configuration)], port, live, folder) as proxy:
        yield proxy


@contextmanager
def running_nginx(live: LiveListeners, folder: Path):
    program, port = found_or_skipped("nginx"), free_port()
    server = documented(
        "nginx",
        **{
            "listen 443 ": f"listen 127.0.0.1:{port} ",
            "/etc/nginx/tls/device.pem": str(live.data_dir / "tls" / "server.pem"),
            "/etc/nginx/tls/device.key": str(live.data_dir / "tls" / "server.key"),
            DOCUMENTED_LISTENER: f"127.0.0.1:{live.proxied_port}",
        },
    )
    folders = "".join(
        f"{kind}_temp_path {folder / kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {folder / 'pid'}; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders}\n{server}}}\n"
    )
    command = [program, "-e", "stderr", "-p", str(folder), "-c", str(configuration)]
    with running("nginx", command, port, live, folder) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def haproxy(behind_proxies, tmp_path_factory):
    with running_haproxy(behind_proxies, tmp_path_factory.mktemp("haproxy")) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def nginx(behind_proxies, tmp_path_factory):
    with running_nginx(behind_proxies, tmp_path_factory.mktemp("nginx")) as proxy:
        yield proxy


@pytest.fixture(params=["haproxy", "nginx"])
def proxy(request) -> Proxy:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def ca(behind_proxies) -> Minted:
    """A root that is enrolled, and nothing else of it held."""
    ca = root("Proxied Root")
    behind_proxies.enroll_ca("proxied-root", ca)
    return ca


@pytest.fixture
def files(tmp_path):
    """Certificate and key of a device as files, the leaf with its intermediates or with what is given."""

    def write(leaf: Minted, *others: Minted) -> CertificateFiles:
        chain, key = leaf.write(tmp_path, leaf.parsed.common_names[0])
        if others:
            chain.write_text("".join(one.pem for one in (leaf, *others)))
        return CertificateFiles(chain, key)

    return write


# --- what both hand on


def test_a_device_right_below_an_enrolled_root_is_assigned(proxy, ca, files):
    name = f"direct-{proxy.name}"

    assert proxy.outcome(name, files(ca.leaf(name))) is Outcome.ASSIGNED


def test_a_device_that_nobody_enrolled_is_refused_by_us_and_not_by_the_proxy(proxy, files):
    stranger = files(self_signed("stranger"))

    status, body = proxy.ask("stranger", stranger)

    assert (status, body["errorCode"]) == (401, 401002)


def test_a_certificate_proves_one_name_only(proxy, ca, files):
    assert proxy.outcome("another", files(ca.leaf(f"one-{proxy.name}"))) is Outcome.UNAUTHORIZED


def test_a_device_with_a_symmetric_key_is_assigned(proxy):
    name = f"keyed-{proxy.name}"
    key = proxy.live.enroll_keys(name)

    assert proxy.outcome(name, SharedKey(key)) is Outcome.ASSIGNED
    assert proxy.outcome(f"un{name}", SharedKey(key)) is Outcome.UNAUTHORIZED


def test_attempts_show_the_device_and_not_what_it_says_of_itself(proxy, ca):
    name = f"where-{proxy.name}"

    proxy.ask(name, headers={"X-Forwarded-For": "203.0.113.9"})

    (row,) = proxy.live.rows(
        "SELECT peer_address FROM enrollments_registrationattempt WHERE claimed_registration_id = ?", name
    )
    assert row["peer_address"] == "127.0.0.1"


# --- what a client writes itself


SPELLINGS = ["Client-Cert", "client-cert", "Client_Cert", "CLIENT_CERT"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_certificate_that_a_client_writes_itself_does_not_arrive(proxy, ca, spelling):
    victim = ca.leaf(f"victim-{proxy.name}")

    status, body = proxy.ask(f"victim-{proxy.name}", headers={spelling: header_of(victim)})

    assert (status, body["errorCode"]) == (401, 401002)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_device_that_writes_another_ones_certificate_is_judged_by_its_own(proxy, ca, files, spelling):
    victim = ca.leaf(f"victim-{proxy.name}")
    own = files(ca.leaf(f"own-{proxy.name}"))
    written = {spelling: header_of(victim)}

    as_victim, _ = proxy.ask(f"victim-{proxy.name}", own, written)
    as_itself, _ = proxy.ask(f"own-{proxy.name}", own, written)

    assert (as_victim, as_itself) == (401, 202)


def test_an_intermediate_that_a_client_writes_itself_does_not_arrive(proxy, ca, files):
    """It would do no harm, a device may send what it likes: but the configurations say that they remove it."""
    lower = ca.intermediate("Written Lower")
    leaf = lower.leaf(f"written-{proxy.name}")
    leaf_alone = files(leaf, leaf)

    status, _ = proxy.ask(leaf.parsed.common_names[0], leaf_alone, {"Client-Cert-Chain": header_of(lower)})

    assert status == 401


def test_what_the_page_tells_to_try_shows_a_proxy_that_lets_the_header_through(proxy):
    status, body = proxy.ask("tried", headers={"Client-Cert": ":AAAA:"})

    assert (status, body["errorCode"]) == (401, 401002)


def test_a_proxy_that_does_not_remove_the_header_would_be_found_so(behind_proxies, tmp_path):
    """The test above can fail: without the two lines that remove, the header comes through."""

    def without_removal(text: str) -> str:
        assert text.count("http-request del-header") == 2
        return re.sub(r"^ *http-request del-header .*\n", "", text, flags=re.MULTILINE)

    with running_haproxy(behind_proxies, tmp_path, without_removal) as careless:
        status, body = careless.ask("tried", headers={"Client-Cert": ":AAAA:"})

    assert (status, body["errorCode"]) == (400, 400006)


def header_of(minted: Minted) -> str:
    return f":{base64.b64encode(minted.der).decode()}:"


# --- intermediates


def test_haproxy_hands_on_the_intermediates(haproxy, ca, files):
    leaf = ca.intermediate("Upper").intermediate("Middle").intermediate("Lower").leaf("deep-haproxy")

    assert haproxy.outcome("deep-haproxy", files(leaf)) is Outcome.ASSIGNED


def test_haproxy_without_the_intermediate_is_as_the_device_without_it(haproxy, ca, files):
    leaf = ca.intermediate("Not sent").leaf("short-haproxy")

    assert haproxy.outcome("short-haproxy", files(leaf, leaf)) is Outcome.UNAUTHORIZED


def test_nginx_hands_on_the_leaf_alone_so_an_intermediate_has_to_be_held(nginx, ca, files):
    not_held = ca.intermediate("Not held").leaf("not-held-nginx")
    other = root("Helped Root")
    held = other.intermediate("Held")
    nginx.live.enroll_ca("helped-root", other, held)

    assert nginx.outcome("not-held-nginx", files(not_held)) is Outcome.UNAUTHORIZED
    assert nginx.outcome("held-nginx", files(held.leaf("held-nginx"))) is Outcome.ASSIGNED


def test_twelve_certificates_are_refused_as_they_are_without_a_proxy(haproxy, ca, files):
    lower = ca.intermediate("Lower of many")
    others = [ca.intermediate(f"Other {number}") for number in range(10)]
    ten = files(lower.leaf("ten-haproxy"), lower, *others[:8])
    twelve = files(lower.leaf("twelve-haproxy"), lower, *others)

    assert haproxy.outcome("ten-haproxy", ten) is Outcome.ASSIGNED
    assert haproxy.outcome("twelve-haproxy", twelve) is Outcome.UNAUTHORIZED
    assert haproxy.live.register(Device("twelve-haproxy", twelve)).outcome is Outcome.UNAUTHORIZED


@pytest.mark.parametrize(("others", "status", "code"), [(8, 202, None), (60, 400, 400006)])
def test_a_chain_that_haproxy_has_no_room_for_is_an_error_and_no_missing_chain(
    behind_proxies, ca, files, tmp_path, others, status, code
):
    """The trap: its value is then empty. The colons around it make the difference."""
    lower = ca.intermediate("Lower in little room")
    more = [ca.intermediate(f"More {number}") for number in range(others)]
    credential = files(lower.leaf("roomy"), lower, *more)

    def as_by_default(text: str) -> str:
        assert "tune.bufsize 65536" in text
        return text.replace("tune.bufsize 65536", "tune.bufsize 16384")

    with running_haproxy(behind_proxies, tmp_path, as_by_default) as little_room:
        answered, body = little_room.ask("roomy", credential)

    assert (answered, body.get("errorCode")) == (status, code)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_no_session_is_resumed(proxy, tmp_path, version):
    session = tmp_path / "session.pem"
    first = s_client(proxy, version, "-sess_out", str(session))

    again = s_client(proxy, version, *(["-sess_in", str(session)] if session.exists() else []))

    for outcome in (first, again):
        assert b'{"status": "ok"}' in outcome
        assert b"Reused" not in outcome


def s_client(proxy: Proxy, *options: str) -> bytes:
    outcome = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port}", "-ign_eof", *options],
        input=b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        capture_output=True,
        timeout=30,
        check=False,
    )
    return outcome.stdout
