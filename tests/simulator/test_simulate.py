"""`manage.py simulate` against real listeners."""

import base64
import hmac
import json
import shutil
import signal
import subprocess
from collections import Counter

import pytest

from dpsportal.serving.supervisor import PROJECT_DIR
from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import TpmKeys
from enrollments.simulator.profiles import PROFILES
from enrollments.simulator.software_tpm import SoftwareTpm
from enrollments.simulator.virtual_tpm import VirtualTpm
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


@pytest.mark.parametrize("mechanism", ["x509", "symmetric", "symmetric-group", "tpm"])
def test_every_profile_registers_and_hears_when_it_is_disabled(live_listeners, tmp_path, mechanism):
    prefix = f"profiles-{mechanism}"
    again = ("--devices", 6, "--profile", "all", "--mechanism", mechanism, "--prefix", prefix)
    kept = ("--write-pki", tmp_path)

    enroll = ("--enroll", *(["--allow-key-groups"] if mechanism == "symmetric-group" else []))
    admitted = simulate(live_listeners, *enroll, *again, *kept)
    shut_out(live_listeners, prefix, mechanism)
    after = simulate(live_listeners, *again, *kept)

    for report, outcome in ((admitted, "assigned"), (after, "disabled")):
        assert {one["profile"]: one["outcome"] for one in report["results"]} == dict.fromkeys(
            PROFILES, outcome
        )
    assert {one["hub_key_used"] for one in admitted["results"]} == {mechanism == "tpm"}
    assert {one["detail"] for one in admitted["results"]} == {""}


def shut_out(live, prefix: str, mechanism: str) -> None:
    """A group with one command; six individual enrollments in one process instead of six."""
    groups = {"x509": f"{prefix}-root", "symmetric-group": f"{prefix}-group"}
    if mechanism in groups:
        live.manage("disable", "group", groups[mechanism], "--reason", "test")
        return
    live.python(
        "from enrollments.actions.enrollments import disable_enrollment\n"
        "from enrollments.audit.actor import Actor, Way\n"
        "service = ProvisioningService.objects.get(name='local')\n"
        "actor = Actor('user', 'alice', Way.PORTAL)\n"
        f"for number in range(1, 7): disable_enrollment(service, f'{prefix}-000{{number}}', actor=actor)\n"
    )


@pytest.mark.parametrize("kind", ["virtual", "swtpm"])
def test_the_key_that_a_tpm_ends_up_with_is_that_of_its_device_at_the_hub(live_listeners, tmp_path, kind):
    """Twice, since a second registration hands the key out anew."""
    if kind == "swtpm" and shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    name = f"hub-key-{kind}"
    tpm = VirtualTpm.new() if kind == "virtual" else SoftwareTpm(tmp_path / "tpm")
    live_listeners.python(
        "from enrollments.actions.enrollment_specs import IndividualSpec\n"
        "from enrollments.actions.enrollments import add_individual_enrollment\n"
        "from enrollments.audit.actor import Actor, Way\n"
        f"spec = IndividualSpec(mechanism='tpm', registration_id={name!r}, endorsement_key={tpm.endorsement_key!r})\n"
        "service = ProvisioningService.objects.get(name='local')\n"
        "add_individual_enrollment(service, spec, actor=Actor('user', 'alice', Way.PORTAL))\n"
    )
    device = Device(name, TpmKeys(tpm))

    for _ in range(2):
        result = live_listeners.register(device)

        assert (result.outcome, result.hub_key_used) == (Outcome.ASSIGNED, True)
        key = live_listeners.python(f"print(HubDevice.objects.get(device_id={name!r}).primary_key)").split()[
            -1
        ]
        assert tpm.sign(b"text") == hmac.digest(base64.b64decode(key), b"text", "sha256")


@pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed")
def test_a_device_with_swtpm_registers(live_listeners):
    report = simulate(
        live_listeners,
        "--enroll",
        "--devices",
        2,
        "--mechanism",
        "tpm",
        "--tpm",
        "swtpm",
        "--prefix",
        "swtpm",
    )

    assert [(one["outcome"], one["hub_key_used"]) for one in report["results"]] == [("assigned", True)] * 2


def test_profiles_are_dealt_out_in_turn(live_listeners):
    report = simulate(
        live_listeners,
        "--enroll",
        "--devices",
        8,
        "--mechanism",
        "mixed",
        "--profile",
        "all",
        "--prefix",
        "dealt",
    )

    dealt = {result["registration_id"]: result["profile"] for result in report["results"]}
    names = list(PROFILES)
    assert [dealt[f"dealt-000{number}"] for number in range(1, 9)] == [*names, *names[:2]]
    assert outcomes(report) == {"assigned": 8}


def test_a_storm_is_counted_and_healthy_devices_beside_it_are_assigned(live_listeners):
    storm = ("--storm", "--seconds", 2, "--devices", 3, "--concurrency", 2, "--mechanism", "symmetric")

    told = simulate(live_listeners, *storm, "--healthy", 1, "--prefix", "storm")

    assert told["storm"]["requests"] == sum(told["storm"]["statuses"].values()) > 3
    assert "401" in told["storm"]["statuses"]
    assert set(told["storm"]["statuses"]) <= {"401", "429"}
    assert outcomes(told["healthy"]) == {"assigned": told["healthy"]["devices"]}
    assert {result["registration_id"] for result in told["healthy"]["results"]} == {"storm-healthy-0001"}


def test_enrolling_the_healthy_lets_no_device_of_the_storm_in(live_listeners):
    """They would come in through a root that both had in common."""
    told = simulate(live_listeners, "--storm", "--seconds", 1, "--devices", 1, "--healthy", 1)

    assert set(told["storm"]["statuses"]) <= {"401", "429"}


def test_the_text_of_a_storm_has_both_tables(live_listeners):
    done = live_listeners.manage(
        "simulate", "--storm", "polite", "--seconds", 1, "--devices", 2, "--healthy", 1, "--hurry", "0.05"
    )

    assert done.stdout.startswith("Outcome")
    assert "per second" in done.stdout
    assert "Healthy devices beside it: 1." in done.stdout
    assert "assigned" in done.stdout.partition("Healthy")[2]


def test_a_storm_that_reaches_nobody_fails(live_listeners):
    done = live_listeners.manage(
        *("simulate", "--storm", "--seconds", 1, "--devices", 1, "--host", f"127.0.0.1:{free_port()}"),
        check=False,
    )

    assert done.returncode == 1
    assert "No device could reach" in done.stderr


@pytest.mark.parametrize("mechanism", ["x509", "symmetric", "symmetric-group"])
def test_a_fleet_that_nobody_enrolled_is_unauthorized(live_listeners, mechanism):
    report = simulate(live_listeners, "--devices", 2, "--mechanism", mechanism)

    assert outcomes(report) == {"unauthorized": 2}
    assert all(result["tracking_id"] for result in report["results"])


def test_a_tpm_that_nobody_enrolled_is_not_found(live_listeners):
    report = simulate(live_listeners, "--devices", 1, "--mechanism", "tpm")

    (result,) = report["results"]
    assert result["outcome"] == "error"
    assert result["detail"].startswith("404201: ")


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


def interrupted(live, *options, once: str) -> dict:
    """The report of a run that is interrupted when a query finds six rows."""
    process = subprocess.Popen(
        live.command("simulate", "--json", *options),
        cwd=PROJECT_DIR,
        env=live.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the suite in the background has us ignore Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert wait_until(lambda: len(live.rows(once)) >= 6, seconds=30)

    process.send_signal(signal.SIGINT)

    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in stderr
    return json.loads(stdout)


def test_ctrl_c_ends_it_with_the_table_so_far(live_listeners):
    report = interrupted(
        live_listeners,
        *("--devices", 100, "--concurrency", 2, "--prefix", "cut", "--hurry", "0.2"),
        *("--enroll", "--mechanism", "symmetric"),
        once="SELECT 1 FROM enrollments_registrationrecord WHERE registration_id LIKE 'cut-%'",
    )

    assert report["interrupted"] is True
    assert 0 < report["devices"] < 100


def test_ctrl_c_ends_a_storm_with_the_figures_so_far(live_listeners):
    report = interrupted(
        live_listeners,
        *("--storm", "--seconds", 600, "--devices", 8, "--prefix", "cut-storm", "--mechanism", "symmetric"),
        once="SELECT 1 FROM enrollments_registrationattempt WHERE claimed_registration_id LIKE 'cut-storm-%'",
    )

    assert report["interrupted"] is True
    assert report["storm"]["requests"] >= 6
    assert 0 < report["storm"]["seconds"] < 60
