"""One query answers the search for paths and says whose the keys are, unless a key is held in very many places."""

import pytest
from django.utils import timezone

from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.judging import judge
from enrollments.actions.judging.lookup import MOST_ROWS
from enrollments.attestation.credential import PresentedCredential
from enrollments.policy.decision import Verdict
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_device, shows

pytestmark = pytest.mark.django_db


@pytest.fixture(params=["few", "many"])
def top(request, service):
    """A CA that is enrolled, and a helper of as many other groups."""
    top = root("Root A")
    enroll_ca(service, top, "top")
    for number in range(3 if request.param == "few" else MOST_ROWS + 3):
        enroll_ca(service, top.intermediate(f"Plant {number}"), f"plant-{number}", helpers=(top.parsed,))
    return top


def judged(service, *chain, registration_id="pump-042"):
    return judge(service, registration_id, shows(*chain), at=timezone.now()).decision


def test_nearest_group_admits(service, top):
    line = top.intermediate("Line 9")

    decision = judged(service, line.leaf("pump-042"), line)

    assert (decision.verdict, decision.entry.name) == (Verdict.ADMIT, "top")


def test_disabled_individual_bars_by_its_key(service, top):
    leaf = top.leaf("pump-042")
    enroll_device(service, leaf)
    assert judged(service, leaf).entry.name == "pump-042"
    disable_enrollment(service, "pump-042", actor=ALICE)

    again = top.leaf("pump-043", key=leaf.key)

    assert judged(service, leaf).verdict is Verdict.DISABLED
    assert judged(service, again, registration_id="pump-043").verdict is Verdict.DISABLED


def test_certificate_of_another_enabled_individual_signs_nothing(service, top):
    """It is no CA, and no bar either as long as its entry is enabled."""
    stranger = top.intermediate("pump-077")
    enroll_device(service, stranger)

    alone = PresentedCredential(certificates=(stranger.leaf("pump-042").der,))

    decision = judge(service, "pump-042", alone, at=timezone.now()).decision

    assert decision.verdict is Verdict.UNAUTHORIZED


@pytest.mark.parametrize("top", ["few"], indirect=True)
def test_ordinary_chain_takes_three_queries(service, top, django_assert_num_queries):
    leaf = top.leaf("pump-042")
    with django_assert_num_queries(3):  # what decisions read, the individual enrollment, the keys
        judged(service, leaf)
