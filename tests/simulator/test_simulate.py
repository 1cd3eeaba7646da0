"""`manage.py simulate` against real listeners."""

import json
import signal
import subprocess
from collections import Counter

import pytest

from dpsportal.serving.supervisor import PROJECT_DIR
from tests.certificates import mint, root
from tests.live import free_port
from tests.serving.listeners import wait_until


def simulate(live, *options, check=True) -> dict:
    done = live.manage("simulate", "--hurry", "0.05", "--json", *options, check=check)
    return json.loads(done.stdout)


def outcomes(report: dict) -> dict:
    return {outcome: number for outcome, number in report["outcomes"].items() if number}


def test_an_enrolled_fleet_of_both_kinds_is_assigned(live_listeners):
    report = simulate(
        live_listeners,
        *("--enroll", "--devices", 7, "--mechanism", "mixed", "--intermediates", 2, "--prefix", "mixed"),
    )

    assert outcomes(report) == {"assigned": 7}
    records = live_listeners.rows(
        "SELECT mechanism, entry_name FROM enrollments_registrationrecord WHERE registration_id LIKE 'mixed-%'"
    )
    assert Counter(record["mechanism"] for record in records) == {"x509": 4, "symmetricKey": 3}
    assert {record["entry_name"] for record in records if record["mechanism"] == "x509"} == {"mixed-root"}
    latency = report["latency_ms"]["register"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["max"]


@pytest.mark.parametrize("mechanism", ["x509", "symmetric"])
def test_a_fleet_that_nobody_enrolled_is_unauthorized(live_listeners, mechanism):
    report = simulate(live_listeners, "--devices", 2, "--mechanism", mechanism)

    assert outcomes(report) == {"unauthorized": 2}
    assert all(result["tracking_id"] for result in report["results"])


def test_who_enrolled_the_fleet_is_history(live_listeners):
    simulate(live_listeners, "--enroll", "--devices", 1, "--prefix", "told")

    (row,) = live_listeners.rows(
        "SELECT * FROM enrollments_historyevent WHERE event = 'group.added' AND subject_name = 'told-root'"
    )
    assert (row["actor_kind"], row["way"], row["reason"]) == ("cli", "command line", "simulated fleet")


def test_a_kept_fleet_comes_back_as_itself_and_is_shut_out_with_its_group(live_listeners, tmp_path):
    again = ("--enroll", "--devices", 2, "--write-pki", tmp_path, "--mechanism", "mixed")
    assert outcomes(simulate(live_listeners, *again, "--prefix", "kept")) == {"assigned": 2}

    assert outcomes(simulate(live_listeners, *again)) == {"assigned": 2}
    live_listeners.manage("disable", "group", "kept-root", "--reason", "test")

    assert outcomes(simulate(live_listeners, *again)) == {"assigned": 1, "disabled": 1}


def test_a_device_from_files_registers_under_its_common_name(live_listeners, tmp_path):
    certificate, key = mint("from-files").write(tmp_path)
    files = ("--cert", certificate, "--key", key)

    before = simulate(live_listeners, *files)
    after = simulate(live_listeners, *files, "--enroll")

    assert [result["registration_id"] for result in before["results"]] == ["from-files"]
    assert (outcomes(before), outcomes(after)) == ({"unauthorized": 1}, {"assigned": 1})


def test_a_ca_from_files_issues_the_fleet(live_listeners, tmp_path):
    certificate, key = root("Given CA").write(tmp_path)

    report = simulate(
        live_listeners,
        *("--cert", certificate, "--key", key, "--issue", "--enroll", "--devices", 2, "--prefix", "issued"),
    )

    assert outcomes(report) == {"assigned": 2}


def test_the_text_is_a_table_and_progress_stays_out_of_it(live_listeners):
    done = live_listeners.manage("simulate", "--devices", 2)

    assert done.stdout.startswith("Outcome")
    assert "unauthorized  2" in done.stdout
    assert "p50" in done.stdout
    assert "explain --tracking-id" in done.stdout


def test_where_nobody_reaches_the_service_the_command_fails(live_listeners):
    done = live_listeners.manage(
        "simulate", "--devices", 2, "--hurry", 0, "--host", f"127.0.0.1:{free_port()}", check=False
    )

    assert done.returncode == 1
    assert "No device could reach https://127.0.0.1:" in done.stderr
    assert "unreachable   2" in done.stdout


def test_a_name_that_is_taken_by_other_keys_is_refused(live_listeners, tmp_path):
    options = ("--enroll", "--devices", 1, "--prefix", "taken", "--mechanism", "symmetric")
    simulate(live_listeners, *options)

    done = live_listeners.manage("simulate", *options, check=False)

    assert done.returncode == 1
    assert "taken-0001 is already enrolled" in done.stderr


def test_ctrl_c_ends_it_with_the_table_so_far(live_listeners):
    process = subprocess.Popen(
        live_listeners.command(
            *("simulate", "--devices", 100, "--concurrency", 2, "--prefix", "cut", "--hurry", "0.2"),
            *("--enroll", "--mechanism", "symmetric", "--json"),
        ),
        cwd=PROJECT_DIR,
        env=live_listeners.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the suite in the background has us ignore Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    records = "SELECT 1 FROM enrollments_registrationrecord WHERE registration_id LIKE 'cut-%'"
    assert wait_until(lambda: len(live_listeners.rows(records)) >= 6, seconds=30)

    process.send_signal(signal.SIGINT)

    stdout, stderr = process.communicate(timeout=30)
    report = json.loads(stdout)
    assert process.returncode == 0
    assert report["interrupted"] is True
    assert 0 < report["devices"] < 100
    assert "Traceback" not in stderr
