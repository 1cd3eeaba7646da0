"""SIGKILL under load, of workers and then of everything: what a device was told is there afterwards, and nothing half.

Real devices over HTTPS, each with a certificate of its own; two nodes with two workers each.
"""

import os
import random
import signal
from collections import Counter

import pytest

from tests.certificates import root
from tests.nodes.callers import UNREACHABLE, Caller, everything_told, new_devices
from tests.nodes.clusters import cluster
from tests.nodes.postgres import children_of, server
from tests.serving.listeners import wait_until

CALLERS = 6
# So many answers "assigned" between two kills.
SOME = 8
PATIENCE = 120


@pytest.fixture
def database(tmp_path):
    """The address of a database, and its server if it has one: of the kind that the other tests have, but killable."""
    if not os.environ.get("DATABASE_URL", "").startswith("postgres"):
        yield f"sqlite:///{tmp_path / 'shared.sqlite3'}", None
        return
    with server() as running:
        yield running.url, running


def test_killed_under_load_it_keeps_what_it_told_and_nothing_half(database, tmp_path):
    url, database_server = database
    chance, ca = random.Random(6), root("plant-7")
    with cluster(tmp_path, url, DPS_WORKERS="2") as nodes:
        nodes.start()
        nodes.back_end(0).enroll_ca("plant-7", ca.pem)
        callers = [Caller(nodes.endpoints, new_devices(ca, tmp_path), first=n % 2) for n in range(CALLERS)]

        def assigned():
            return [one for one in everything_told(callers) if one.what == "assigned"]

        def goes_on():
            so_far = len(assigned())
            assert all(caller.is_alive() for caller in callers)
            assert wait_until(lambda: len(assigned()) >= so_far + SOME, seconds=PATIENCE), Counter(
                one.what for one in everything_told(callers)
            )

        for caller in callers:
            caller.start()
        goes_on()
        for _ in range(2):
            for node in nodes.nodes:
                workers = children_of(node.processes["device"].pid)
                os.kill(chance.choice(workers), signal.SIGKILL)
            goes_on()
        for _ in range(2):
            for node in nodes.nodes:
                node.stop("device")  # SIGKILL, all processes of it
            if database_server is not None:
                database_server.kill()
                database_server.start()
            nodes.start()
            goes_on()
        if database_server is not None:
            database_server.kill()  # and the nodes go on without being started again
            database_server.start()
            goes_on()
        for caller in callers:
            caller.stop.set()
        for caller in callers:
            caller.join(PATIENCE)

        told, answers = assigned(), Counter(one.what for one in everything_told(callers))
        records = {
            one["registration_id"]: one
            for one in nodes.nodes[0].rows(
                "SELECT r.registration_id, r.status, r.device_id, h.host_name, r.leaf_thumbprint"
                " FROM enrollments_registrationrecord r LEFT JOIN enrollments_linkedhub h ON h.id = r.hub_id"
            )
        }
        held = nodes.nodes[0].rows("SELECT device_id, thumbprint_sha256 FROM enrollments_hubdevice")
        events = nodes.nodes[0].rows(
            "SELECT subject_name FROM enrollments_historyevent WHERE event = 'device.assigned'"
        )
        kept = nodes.nodes[0].rows("SELECT thumbprint_sha256 FROM enrollments_certificate")

        assert answers[UNREACHABLE]  # they were really in the middle of it
        for one in told:
            record = records[one.registration_id]
            assert (record["status"], record["device_id"], record["host_name"]) == (
                "assigned",
                one.state["deviceId"],
                one.state["assignedHub"],
            )
        assert {one["status"] for one in records.values()} == {"assigned"}
        assert {(one["device_id"], one["leaf_thumbprint"]) for one in records.values()} == {
            (one["device_id"], one["thumbprint_sha256"]) for one in held
        }
        assert sorted(one["subject_name"] for one in events) == sorted(records)
        assert {one["leaf_thumbprint"] for one in records.values()} <= {
            one["thumbprint_sha256"] for one in kept
        }
        assert nodes.history_verifies()
