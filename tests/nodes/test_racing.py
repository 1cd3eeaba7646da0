"""R12 by racing: devices that register through two nodes all the time, and changes that are answered by either."""

import random
import time
from itertools import repeat

import pytest

from enrollments.simulator.credentials import CertificateFiles
from enrollments.simulator.exchanges import Device
from tests.certificates import root
from tests.nodes.callers import Caller
from tests.nodes.clusters import BackEnd, Cluster, cluster, database_of
from tests.serving.listeners import wait_until

PATIENCE = 120
BEFORE, AFTER = 2, 4
# Below the rate at which a single device is held back.
PAUSE = 0.3
NEW_KEYS = {"type": "symmetricKey", "symmetricKey": {"primaryKey": "cHJp" * 16, "secondaryKey": "c2Vj" * 16}}


@pytest.fixture
def two_nodes(tmp_path):
    with database_of(tmp_path, "racing") as url, cluster(tmp_path, url) as nodes:
        nodes.start()
        yield nodes


def disable_group(back_end: BackEnd, group: str, _: list[str]) -> None:
    back_end.change(f"/enrollmentGroups/{group}", provisioningStatus="disabled")


def delete_group(back_end: BackEnd, group: str, _: list[str]) -> None:
    back_end.call("DELETE", f"/enrollmentGroups/{group}")


def deny_each(back_end: BackEnd, _: str, names: list[str]) -> None:
    for name in names:
        back_end.enroll_keys(name, provisioningStatus="disabled")


def disable_each(back_end: BackEnd, _: str, names: list[str]) -> None:
    for name in names:
        back_end.change(f"/enrollments/{name}", provisioningStatus="disabled")


def delete_each(back_end: BackEnd, _: str, names: list[str]) -> None:
    for name in names:
        back_end.call("DELETE", f"/enrollments/{name}")


def regenerate_each(back_end: BackEnd, _: str, names: list[str]) -> None:
    for name in names:
        back_end.change(f"/enrollments/{name}", attestation=NEW_KEYS)


def nothing(_: BackEnd, __: str, ___: list[str]) -> None:
    """Those beside whom everything else happens."""


BELOW_A_GROUP = {disable_group: "disabled", delete_group: "401", deny_each: "disabled"}
SINGLY = {disable_each: "disabled", delete_each: "401", regenerate_each: "401", nothing: "assigned"}
DEVICES_EACH = 3


def callers_of(nodes: Cluster, change, folder) -> list[Caller]:
    back_end = nodes.back_end(0)
    kind = change.__name__.replace("_", "-")
    names = [f"{kind}-{number}" for number in range(DEVICES_EACH)]
    if change in BELOW_A_GROUP:
        ca = root(kind)
        back_end.enroll_ca(kind, ca.pem)
        credentials = [CertificateFiles(*ca.leaf(name).write(folder, name)) for name in names]
    else:
        credentials = [back_end.enroll_keys(name) for name in names]
    return [
        Caller(nodes.endpoints, repeat(Device(name, credential)), first=number % 2, pause=PAUSE)
        for number, (name, credential) in enumerate(zip(names, credentials, strict=True))
    ]


def test_racing_through_two_nodes_nothing_is_given_that_was_decided_after_a_change(two_nodes, tmp_path):
    fleet = {change: callers_of(two_nodes, change, tmp_path) for change in (*BELOW_A_GROUP, *SINGLY)}
    everybody = [caller for callers in fleet.values() for caller in callers]
    changed_at: dict = {}

    for caller in everybody:
        caller.start()
    assert wait_until(
        lambda: all(outcomes(caller).count("assigned") >= BEFORE for caller in everybody), seconds=PATIENCE
    )
    order = list(fleet)
    random.Random(12).shuffle(order)
    for number, change in enumerate(order):
        names = [caller.told[0].registration_id for caller in fleet[change]]
        change(two_nodes.back_end(number % 2), change.__name__.replace("_", "-"), names)
        changed_at[change] = time.time()
    assert wait_until(
        lambda: all(
            len(outcomes(caller, changed_at[change])) >= AFTER
            for change, callers in fleet.items()
            for caller in callers
        ),
        seconds=PATIENCE,
    )
    for caller in everybody:
        caller.stop.set()
    for caller in everybody:
        caller.join(PATIENCE)

    for change, callers in fleet.items():
        expected = {**BELOW_A_GROUP, **SINGLY}[change]
        for caller in callers:
            # One that is refused all the time is told to wait, and one that goes on is told by the PUT nothing yet.
            heard = set(outcomes(caller, changed_at[change])) - {"429", "assigning"}
            assert heard <= {expected}, (change.__name__, heard)
            assert two_nodes.nodes[0].rows(
                "SELECT count(*) AS number FROM enrollments_registrationrecord WHERE registration_id = ?"
                " AND status = 'assigned'",
                caller.told[0].registration_id,
            ) == [{"number": 0 if expected == "disabled" else 1}]
    assert two_nodes.history_verifies()


def outcomes(caller: Caller, since: float = 0.0) -> list[str]:
    return [one.what for one in list(caller.told) if one.asked_at >= since]
