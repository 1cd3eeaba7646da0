"""Listeners that several tests share."""

import pytest

from dpsportal.serving.server_certificate import ensure_server_certificate
from tests.live import installation
from tests.serving.listeners import PATIENT, STRICT, running_listener


@pytest.fixture(scope="session")
def server_certificate(tmp_path_factory):
    return ensure_server_certificate(tmp_path_factory.mktemp("server-certificate"))


@pytest.fixture(scope="session")
def tls_listener(tmp_path_factory, server_certificate):
    certificate, key = server_certificate
    with running_listener(
        tmp_path_factory.mktemp("tls"), PATIENT, certificate=certificate, key=key
    ) as listener:
        yield listener


@pytest.fixture(scope="session")
def plain_listener(tmp_path_factory):
    with running_listener(tmp_path_factory.mktemp("plain"), PATIENT) as listener:
        yield listener


@pytest.fixture(scope="session")
def strict_tls_listener(tmp_path_factory, server_certificate):
    certificate, key = server_certificate
    with running_listener(
        tmp_path_factory.mktemp("strict-tls"), STRICT, certificate=certificate, key=key
    ) as listener:
        yield listener


@pytest.fixture(scope="session")
def strict_plain_listener(tmp_path_factory):
    with running_listener(tmp_path_factory.mktemp("strict-plain"), STRICT) as listener:
        yield listener


@pytest.fixture(params=["tls", "plain"])
def listener(request):
    """Each of the two kinds, with deadlines that no test lives to see."""
    return request.getfixturevalue(f"{request.param}_listener")


@pytest.fixture(params=["tls", "plain"])
def strict_listener(request):
    """Each of the two kinds, with deadlines of one second."""
    return request.getfixturevalue(f"strict_{request.param}_listener")


@pytest.fixture(scope="session")
def behind_proxies(tmp_path_factory):
    """A whole installation that devices reach directly, or through proxies at 127.0.0.1. Tests share it."""
    with installation(tmp_path_factory.mktemp("behind-proxies"), DPS_TRUSTED_PROXIES="127.0.0.1") as live:
        live.start("device")
        live.start("proxied")
        yield live
