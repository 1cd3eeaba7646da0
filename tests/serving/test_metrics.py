"""The metrics listener: what several processes counted, added up, for whoever scrapes (docs/metrics.md)."""

import json
import re
import ssl
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dpsportal.serving.supervisor import PROJECT_DIR
from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import CertificateFiles
from tests.certificates import root
from tests.live import free_port, installation

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    bind = f"127.0.0.1:{free_port()}"
    folder = tmp_path_factory.mktemp("metrics")
    with installation(folder, DPS_METRICS_BIND=bind, DPS_WORKERS="2") as live:
        live.start("device")
        live.start("metrics")
        yield live


def scraped(live, accept="text/plain"):
    request = urllib.request.Request(
        f"http://{live.environment['DPS_METRICS_BIND']}/metrics", headers={"Accept": accept}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def samples(live):
    """Values by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(scraped(live)[1])
        for sample in family.samples
    }


def of(found, name, **labels):
    """The sum of all samples of this name that have these labels."""
    return sum(
        value for key, value in found.items() if key[0] == name and set(labels.items()) <= set(key[1:])
    )


def a_device(folder, leaf, registration_id):
    return Device(registration_id, CertificateFiles(*leaf.write(folder, registration_id)))


def test_what_became_of_devices_is_counted_over_all_workers(live, tmp_path):
    ca = root("Metrics CA")
    live.enroll_ca("metrics", ca)
    for name in (f"pump-{number}" for number in range(6)):
        assert live.register(a_device(tmp_path, ca.leaf(name), name)).outcome is Outcome.ASSIGNED
    stranger = a_device(tmp_path, root("Another").leaf("pump-9"), "pump-9")
    assert live.register(stranger).outcome is Outcome.UNAUTHORIZED

    found = samples(live)

    registered = {"service": "local", "operation": "register", "mechanism": "x509", "transport": "https"}
    assert of(found, "dps_registrations_total", outcome="assigned", **registered) == 6
    assert of(found, "dps_registrations_total", outcome="unauthorized", **registered) == 1
    assert of(found, "dps_registrations_total", operation="poll", outcome="assigned") == 6
    assert of(found, "dps_attempts_total", service="local") == 7
    assert of(found, "dps_device_assignments_total", service="local") == 6
    assert of(found, "dps_attestation_attempts_total", status="success", protocol="https") == 6
    assert of(found, "dps_attestation_attempts_total", status="failure", protocol="https") == 1
    assert of(found, "dps_registration_seconds_count", operation="register") == 7
    assert of(found, "dps_decision_seconds_count") >= 7
    assert of(found, "dps_history_rows_total", event="device.assigned") == 6
    assert of(found, "dps_http_requests_total", listener="device", method="PUT", status="202") == 6


def test_the_database_is_asked_at_each_scrape(live):
    found = samples(live)

    assert found[("dps_database_up",)] == 1
    assert found[("dps_history_sealed_rows",)] + found[("dps_history_waiting_rows",)] >= 1


def test_a_name_that_a_stranger_makes_up_is_no_label(live):
    for method in ("PROPFIND", "GET"):
        request = urllib.request.Request(f"{live.device_url}/0ne00000000/made-up-by-me", method=method)
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=10, context=_trusting(live))

    text = scraped(live)[1]

    assert "made-up-by-me" not in text
    assert "PROPFIND" not in text
    assert 'method="other"' in text


def test_a_scraper_may_ask_for_openmetrics(live):
    content_type, text = scraped(live, OPENMETRICS)

    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


def test_nothing_else_is_served_there(live):
    with pytest.raises(urllib.error.HTTPError) as missing:
        urllib.request.urlopen(f"http://{live.environment['DPS_METRICS_BIND']}/sign-in/", timeout=10)

    assert missing.value.code == 404


@pytest.mark.parametrize("file", ["dashboard.json", "alerts.yml"])
def test_dashboard_and_alerts_ask_for_metrics_that_exist(live, file, tmp_path):
    name = f"asked-{file.partition('.')[0]}"
    ca = root(f"{name} CA")
    live.enroll_ca(name, ca)
    live.register(a_device(tmp_path, ca.leaf(name), name))
    text = (PROJECT_DIR / "docs" / "metrics" / file).read_text()
    if file.endswith("json"):
        assert json.loads(text)["panels"]
    known = {key[0] for key in samples(live)}

    asked = set(re.findall(r"\bdps_[a-z_]+", text))

    assert asked
    assert asked - known == set()


def _trusting(live):
    return ssl.create_default_context(cafile=live.ca_file)
