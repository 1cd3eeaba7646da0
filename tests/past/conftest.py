"""What tests share that grow a history."""

import pytest

from tests.service_api.conftest import with_policy


@pytest.fixture
def api(settings):
    """Back ends of a service, with all rights."""
    settings.ROOT_URLCONF = "dpsportal.device_urls"
    settings.MIDDLEWARE = ["dpsportal.request_log.RequestLogMiddleware"]
    return lambda service: with_policy(service.access_policies.get())
