"""What tests share that grow a history."""

import pytest

from tests.certificates import root
from tests.devices import enroll_ca
from tests.service_api.conftest import with_policy


@pytest.fixture
def api(settings):
    """Back ends of a service, with all rights."""
    settings.ROOT_URLCONF = "dpsportal.device_urls"
    settings.MIDDLEWARE = ["dpsportal.request_log.RequestLogMiddleware"]
    return lambda service: with_policy(service.access_policies.get())


@pytest.fixture
def ca(service):
    minted = root("Root")
    enroll_ca(service, minted, "root")
    return minted
