"""R12: devices that register beside "delete, but keep these devices out" are kept out, whenever exactly they come."""

import pytest

from enrollments.actions import deleting
from enrollments.actions.deleting import delete_and_deny
from enrollments.models import ProvisioningService
from tests.actions.test_r12_at_once import Pause, finish, in_thread
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, new_service, register

pytestmark = pytest.mark.django_db(transaction=True)


def test_whoever_registers_until_the_entry_is_gone_is_out_when_it_is(monkeypatch):
    service = new_service()
    top = root("Root")
    line = top.intermediate("Line")
    enroll_ca(service, top, "root")
    low = enroll_ca(service, line, "line")
    leaves = [line.leaf(f"pump-{number}") for number in range(12)]
    register(service, leaves[0])
    pause = Pause()
    monkeypatch.setattr(deleting, "names_left_open", pause.after(deleting.names_left_open))

    def come(mine):
        for leaf in mine:
            register(ProvisioningService.objects.get(pk=service.pk), leaf)
        return True

    keeping_out, results = in_thread(lambda: delete_and_deny(service, [low], actor=ALICE))
    assert pause.reached.wait(15)
    # Some while it waits, others beside its last step, wherever that is.
    come(leaves[1:4])
    others = [in_thread(lambda mine=leaves[start::2]: come(mine)) for start in (4, 5)]
    pause.go_on.set()
    finish(keeping_out, *(thread for thread, _ in others))

    assert [told for _, told in others] == [[True], [True]]
    service = ProvisioningService.objects.get(pk=service.pk)
    denied = set(service.individualenrollments.values_list("registration_id", flat=True))
    assert results[0].denied == len(denied)
    for leaf in leaves:
        name = leaf.parsed.common_names[0]
        through = service.registrations.get(registration_id=name).entry_name
        # Who came after the deletion was nobody's newcomer: nobody knew of it, and the group above is as it was.
        assert register(service, leaf).outcome == ("disabled" if through == "line" else "assigned"), name
    assert {f"pump-{number}" for number in range(4)} <= denied
