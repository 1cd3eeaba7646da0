"""Who imports."""

import pytest

from enrollments.actions.people import add_person
from enrollments.policy.roles import Role
from tests.devices import ALICE


@pytest.fixture
def alice(db: None) -> None:
    """Whoever starts an import is asked about with each portion."""
    add_person("alice", role=Role.ADMINISTRATOR, service=None, actor=ALICE)
