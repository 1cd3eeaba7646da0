"""What tests share that grow a history: certificates that are made once, and back ends of their services."""

import pytest

from enrollments.actions.preview import limits
from tests.certificates import root
from tests.devices import enroll_ca
from tests.past.histories import grown
from tests.service_api.conftest import with_policy


@pytest.fixture(scope="module")
def forest():
    return grown()


@pytest.fixture
def api(settings, monkeypatch):
    """Back ends of a service, with all rights; and acts that ask for previews wait for all of these."""
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)
    settings.ROOT_URLCONF = "dpsportal.device_urls"
    settings.MIDDLEWARE = ["dpsportal.request_log.RequestLogMiddleware"]
    return lambda service: with_policy(service.access_policies.get())


@pytest.fixture
def ca(service):
    minted = root("Root")
    enroll_ca(service, minted, "root")
    return minted
