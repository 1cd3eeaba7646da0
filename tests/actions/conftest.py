"""What several tests of actions begin with."""

import pytest

from tests.certificates import root
from tests.devices import enroll_ca


@pytest.fixture
def top(service):
    top = root("Root A")
    enroll_ca(service, top)
    return top
