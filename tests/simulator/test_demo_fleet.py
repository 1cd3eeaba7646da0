"""`manage.py demo_fleet`: every outcome occurs, and a second run changes nothing that somebody changed."""

import stat

import pytest

from tests.live import free_port, installation


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """An installation in which the demonstration has run once, and its report."""
    with installation(tmp_path_factory.mktemp("demo")) as live:
        live.start("device")
        yield live, live.json_of("demo_fleet")


def of(report: dict) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for result in report["results"]:
        told.setdefault(result["registration_id"], []).append(result["outcome"])
    return {name: sorted(outcomes) for name, outcomes in told.items()}


def test_every_outcome_occurs(shown):
    _, report = shown

    told = of(report)

    assert told["pump-01"] == told["sensor-01"] == told["meter-01"] == told["gauge-01"] == ["assigned"]
    assert told["valve-01"] == told["meter-02"] == told["gauge-03"] == ["disabled"]
    assert told["pump-07"] == ["disabled"]
    assert told["stray-01"] == told["pump-99"] == told["ghost-01"] == ["unauthorized"]
    assert told["gauge-02"] == ["assigned", "unauthorized"]
    assert told["gauge-04"] == ["failed"]
    assert told["lamp-01"] == told["lamp-02"] == ["assigned"]
    assert told["lamp-03"] == ["unauthorized"]


def test_possession_is_proven_of_one_ca_and_asked_of_another(shown):
    live, _ = shown

    told = {
        one["name"]: (one["verified"], one["code"] is not None)
        for one in live.json_of("ca_certificates", "list")
    }

    assert told == {
        "demo-root": (True, False),
        "demo-pumps": (False, True),
        "demo-valves": (False, False),
    }


def test_the_tpm_of_the_demonstration_has_the_key_for_its_hub(shown):
    _, report = shown

    (press,) = (result for result in report["results"] if result["registration_id"] == "press-01")

    assert (press["outcome"], press["hub_key_used"]) == ("assigned", True)


def test_the_demonstration_says_why_it_takes_symmetric_key_groups(shown):
    live, _ = shown

    told = live.rows(
        "SELECT reason FROM enrollments_historyevent WHERE event = 'service.changed'"
        " AND after LIKE '%symmetric_key_groups%'"
    )

    assert [row["reason"] for row in told] == ["demonstration fleet"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("stray-01", "not_enrolled"),
        ("pump-99", "common_name_differs"),
        ("gauge-02", "token_signature_wrong"),
        ("ghost-01", "no_credential"),
    ],
)
def test_each_refusal_has_its_cause(shown, name, reason):
    live, _ = shown

    causes = live.rows(
        "SELECT reason FROM enrollments_registrationattempt"
        " WHERE claimed_registration_id = ? AND outcome = 'refused'",
        name,
    )

    assert {row["reason"] for row in causes} == {reason}


def test_the_device_that_is_denied_was_admitted_before_and_its_key_is_barred(shown):
    live, _ = shown

    events = live.rows(
        "SELECT event FROM enrollments_historyevent WHERE subject_name = 'pump-07' ORDER BY id"
    )
    held = live.rows(
        "SELECT 1 FROM enrollments_heldcertificate AS held JOIN enrollments_individualenrollment AS entry"
        " ON entry.id = held.individual_id WHERE entry.registration_id = 'pump-07' AND NOT entry.enabled"
    )

    assert events[0]["event"] == "device.assigned"
    assert len(events) == 2
    assert len(held) == 1


def test_a_second_run_ends_the_same_and_leaves_changes_alone(shown):
    live, first = shown
    live.python(
        "from enrollments.actions.enrollment_groups import enable_enrollment_group\n"
        "from enrollments.audit.actor import Actor, Way\n"
        "service = ProvisioningService.objects.get(name='local')\n"
        "actor = Actor('user', 'alice', Way.PORTAL)\n"
        "enable_enrollment_group(service, 'demo-valves', actor=actor)\n"
    )
    history = "SELECT * FROM enrollments_historyevent WHERE event LIKE 'group.%' OR event LIKE 'enrollment.%'"
    before = live.rows(history)

    second = of(live.json_of("demo_fleet"))

    valves = {name: ["assigned"] for name in second if name.startswith("valve")}
    assert second == {**of(first), **valves}
    assert live.rows(history) == before


def test_the_keys_of_the_demonstration_are_for_their_owner_alone(shown):
    live, _ = shown

    keys = [
        path for path in (live.data_dir / "demo-pki").rglob("*") if path.suffix in (".key", ".symmetric-key")
    ]

    assert len(keys) > 20
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_without_a_listener_it_says_so_and_enrolls_nothing(shown, monkeypatch):
    live, _ = shown
    monkeypatch.setitem(live.environment, "DPS_DEVICE_BIND", f"127.0.0.1:{free_port()}")
    before = live.rows("SELECT * FROM enrollments_historyevent")

    done = live.manage("demo_fleet", "--wait", "0.5", check=False)

    assert done.returncode == 1
    assert "was not ready within" in done.stderr
    assert live.rows("SELECT * FROM enrollments_historyevent") == before
