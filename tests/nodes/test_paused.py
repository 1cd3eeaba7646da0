"""R12 with two nodes: a registration is paused on one at each of its steps, a change answered by the other.

Where the registration holds the lock, the change has to wait for it, and what it gave is ended by the next poll.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import psycopg
import pytest

from enrollments.simulator.credentials import CertificateFiles
from enrollments.simulator.exchanges import Conversation, Device
from tests.certificates import root
from tests.nodes.clusters import BackEnd, Cluster, cluster, database_of
from tests.serving.listeners import wait_until

PATIENCE = 30
numbers = count(1)


@dataclass
class Case:
    """A device that one node knows, and the other one's administrator."""

    name: str
    back_end: BackEnd
    ask: Conversation

    @property
    def entry(self) -> str:
        return f"/enrollments/{self.name}"

    @property
    def group(self) -> str:
        return f"/enrollmentGroups/{self.name}"


def disable_individual(case: Case) -> None:
    case.back_end.change(case.entry, provisioningStatus="disabled")


def delete_individual(case: Case) -> None:
    case.back_end.call("DELETE", case.entry)


def regenerate_keys(case: Case) -> None:
    case.back_end.change(case.entry, attestation={"type": "symmetricKey", "symmetricKey": NEW_KEYS})


def disable_group(case: Case) -> None:
    case.back_end.change(case.group, provisioningStatus="disabled")


def delete_group(case: Case) -> None:
    case.back_end.call("DELETE", case.group)


def deny_singly(case: Case) -> None:
    case.back_end.enroll_keys(case.name.upper(), provisioningStatus="disabled")


NEW_KEYS = {"primaryKey": "cHJp" * 16, "secondaryKey": "c2Vj" * 16}
CHANGES = [
    disable_individual,
    delete_individual,
    regenerate_keys,
    disable_group,
    delete_group,
    deny_singly,
]
OF_GROUPS = {disable_group, delete_group, deny_singly}


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paused")
    with database_of(folder, "paused") as url, cluster(folder, url) as nodes:
        nodes.nodes[0].start("device", config="tests.nodes.gunicorn_pausing")
        nodes.nodes[1].start("device")
        yield nodes


@pytest.fixture
def case(two_nodes: Cluster, request, tmp_path):
    """A device that is enrolled as the change needs it, known to the first node alone until now."""
    name, change = f"pump-{next(numbers)}", request.getfixturevalue("change")
    back_end = two_nodes.back_end(1)
    if change in OF_GROUPS:
        ca = root(name)
        back_end.enroll_ca(name, ca.pem)
        credential = CertificateFiles(*ca.leaf(name).write(tmp_path, name))
    else:
        credential = back_end.enroll_keys(name)
    return Case(name, back_end, Conversation(Device(name, credential), two_nodes.endpoints[0]))


class Paused:
    """A question to the first node that waits there at a step."""

    def __init__(self, two_nodes: Cluster, step: str, question: Callable) -> None:
        folder = two_nodes.nodes[0].data_dir
        self._go_on, paused = folder / "go-on", folder / "paused"
        (folder / "pause.new").write_text(step)
        (folder / "pause.new").rename(folder / "pause")
        self.running = Running(question)
        assert wait_until(paused.exists, seconds=PATIENCE), step
        paused.unlink()

    def resumed(self) -> object:
        self._go_on.touch()
        return self.running.result()


class Running:
    def __init__(self, work: Callable) -> None:
        self._results: list = []
        self._thread = threading.Thread(target=lambda: self._results.append(work()))
        self._thread.start()

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> object:
        self._thread.join(PATIENCE)
        assert self._results
        return self._results[0]


def is_waiting(two_nodes: Cluster, change: Running) -> bool:
    """Whether the change waits for the lock; where the database cannot tell, whether it takes its time."""
    if not two_nodes.is_postgresql:
        time.sleep(0.2)
        return not change.is_done
    with psycopg.connect(two_nodes.nodes[0].environment["DATABASE_URL"]) as connection:
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return (
            wait_until(
                lambda: change.is_done or connection.execute(waiting).fetchone()[0] > 0, seconds=PATIENCE
            )
            and not change.is_done
        )


def told(answer) -> str:
    """What a device makes of an answer."""
    return answer.body.get("status") or str(answer.status)


def what_was_given(two_nodes: Cluster, case: Case) -> list[dict]:
    return two_nodes.nodes[0].rows(
        "SELECT device_id FROM enrollments_hubdevice WHERE registration_key = ?", case.name
    ) + two_nodes.nodes[0].rows(
        "SELECT registration_id FROM enrollments_registrationrecord"
        " WHERE registration_key = ? AND status = 'assigned'",
        case.name,
    )


REFUSED = {"disabled", "401"}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", ["asked", "judged"])
def test_a_change_that_is_answered_before_the_lock_is_taken_counts(two_nodes, case, change, step):
    paused = Paused(two_nodes, step, case.ask.register)

    change(case)
    answer = paused.resumed()

    assert what_was_given(two_nodes, case) == []
    if answer.status == 202:  # in which nothing is said yet
        answer = case.ask.poll(answer.body["operationId"])
    assert told(answer) in REFUSED


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", ["locked", "seen to hold", "assigned", "counted"])
def test_a_change_waits_for_the_node_that_holds_the_lock_and_ends_what_it_gave(two_nodes, case, change, step):
    paused = Paused(two_nodes, step, case.ask.register)

    changing = Running(lambda: change(case))
    waited = is_waiting(two_nodes, changing)
    answer = paused.resumed()
    changing.result()

    assert waited
    assert told(answer) == "assigning"
    assert len(what_was_given(two_nodes, case)) == 2
    assert told(case.ask.poll(answer.body["operationId"])) in REFUSED


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", ["committed", "answering"])
def test_a_change_does_not_wait_for_an_answer_in_which_nothing_is_handed_out(two_nodes, case, change, step):
    paused = Paused(two_nodes, step, case.ask.register)

    change(case)
    answer = paused.resumed()

    assert "registrationState" not in answer.body
    assert told(case.ask.poll(answer.body["operationId"])) in REFUSED


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", ["asked", "judged", "result read"])
def test_a_change_that_is_answered_before_the_last_look_of_a_poll_counts(two_nodes, case, change, step):
    operation = case.ask.register().body["operationId"]
    paused = Paused(two_nodes, step, lambda: case.ask.poll(operation))

    change(case)

    assert told(paused.resumed()) in REFUSED


@pytest.mark.parametrize("change", CHANGES)
def test_after_the_last_look_of_a_poll_its_answer_is_older_than_the_change_and_the_only_one(
    two_nodes, case, change
):
    """Decided before the change was asked for, and on its way to the device: nobody can take it back."""
    operation = case.ask.register().body["operationId"]
    paused = Paused(two_nodes, "result answering", lambda: case.ask.poll(operation))

    change(case)

    assert told(paused.resumed()) == "assigned"
    assert told(case.ask.poll(operation)) in REFUSED


def start_quiet_period(two_nodes: Cluster, name: str) -> None:
    """As the portal does it, in a process of the other node."""
    two_nodes.nodes[1].python(
        "from datetime import timedelta\n"
        "from enrollments.actions.quiet_periods import start_quiet_period\n"
        "from enrollments.audit.actor import Actor, Way\n"
        "from enrollments.models import RegistrationAttempt\n"
        f"attempt = RegistrationAttempt.objects.filter(registration_key={name!r}).latest('pk')\n"
        "start_quiet_period(attempt.service, attempt, timedelta(hours=1),\n"
        "                   actor=Actor('cli', 'test', Way.COMMAND_LINE))\n"
    )


@pytest.mark.parametrize("change", [disable_individual])
def test_a_quiet_period_counts_for_a_device_that_is_just_being_refused(two_nodes, case, change):
    change(case)
    case.ask.register()
    paused = Paused(two_nodes, "judged", case.ask.register)

    start_quiet_period(two_nodes, case.name)

    assert told(paused.resumed()) == "429"


@pytest.mark.parametrize("change", [disable_individual])
def test_a_quiet_period_does_not_keep_out_whom_the_other_node_has_just_let_in(two_nodes, case, change):
    change(case)
    case.ask.register()
    start_quiet_period(two_nodes, case.name)
    paused = Paused(two_nodes, "judged", case.ask.register)

    case.back_end.change(case.entry, provisioningStatus="enabled")
    answer = paused.resumed()

    assert told(answer) == "assigning"
    assert told(case.ask.poll(answer.body["operationId"])) == "assigned"


def test_the_history_of_all_that_verifies(two_nodes):
    assert two_nodes.history_verifies()
