"""Settings that contradict each other stop every command."""

import pytest

from enrollments.checks import proxied_listener_has_proxies


@pytest.mark.parametrize(
    ("bind", "proxies", "problems"),
    [
        pytest.param("", [], [], id="no proxied listener"),
        pytest.param("127.0.0.1:8444", ["127.0.0.1"], [], id="a proxied listener and its proxy"),
        pytest.param("127.0.0.1:8444", [], ["dpsportal.E003"], id="a proxied listener for nobody"),
    ],
)
def test_a_proxied_listener_needs_proxies(settings, bind, proxies, problems):
    settings.DPS_PROXIED_BIND, settings.DPS_TRUSTED_PROXIES = bind, proxies

    assert [problem.id for problem in proxied_listener_has_proxies()] == problems
