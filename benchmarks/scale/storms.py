"""What healthy devices feel of a storm: they register at a steady pace, without and with ten times as many refusals."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from benchmarks.devices import Device, Fleet, Unexpected
from benchmarks.measure import Amount, Besides, Cost, Figure, Part, Ratio
from benchmarks.scale.names import FOREIGN
from benchmarks.scale.sites import Site
from dpsportal.serving.supervisor import PROJECT_DIR

# Of healthy devices, in a second. Each registration is two requests, and the storm is ten times as many.
REGISTRATIONS_PER_SECOND = 10
REFUSED_PER_SECOND = 10 * 2 * REGISTRATIONS_PER_SECOND
# Who is refused besides disabled ones: unknown ones, and ones whose certificates lead nowhere.
UNKNOWN, WITHOUT_CA = 8, 4
CALM, STORM = "healthy.calm", "healthy.storm"
SLOWER = 2.0
# Devices that register here are others than in other parts.
HEALTHY = 2


def storms(sites: list[Site]) -> list[Part]:
    return [_at(site) for site in sites]


def _at(site: Site) -> Part:
    key, size = site.key, site.bench.size
    times = max(1, round(size.storm_seconds * REGISTRATIONS_PER_SECOND))
    fleet = Fleet(site.with_keys(2 * times, HEALTHY))
    refused = _refused(site)
    return Part(
        f"{site.title} enrollments: {REGISTRATIONS_PER_SECOND} healthy registrations a second",
        [
            Figure(f"{key}.{CALM}", "healthy device, no storm", times, _healthy(site, fleet, [])),
            Figure(f"{key}.{STORM}", "healthy device, in a storm", times, _healthy(site, fleet, refused)),
        ],
        [
            Ratio(
                f"{site.title}: healthy p95 in a tenfold storm to p95 without",
                f"{key}.{STORM}",
                f"{key}.{CALM}",
                clock=Besides.P95,
                at_most=SLOWER,
                row="healthy p95 in a tenfold storm to p95 without",
                column=site.column,
            )
        ],
        [
            *(
                Amount(f"{title}, {what.value}", f"{key}.{when}", what)
                for when, title in ((CALM, "no storm"), (STORM, "in a storm"))
                for what in (Besides.P50, Besides.P95)
            ),
            Amount("refused requests a second in the storm", f"{key}.{STORM}", Besides.REFUSED),
        ],
    )


def _refused(site: Site) -> list[Device]:
    # The last ones, which no refusal of another part asks for.
    foreigners = site.with_certificates(FOREIGN, site.station.certificates)[-WITHOUT_CA:]
    return [*islice(site.strangers("storm"), UNKNOWN), *site.disabled_in_storms, *foreigners]


def _healthy(site: Site, fleet: Fleet, refused: list[Device]) -> Callable[[int], Cost]:
    """Each is answered when it is; its time counts from when it was due, so that waiting for others counts as well."""

    def repeat(times: int) -> Cost:
        devices = fleet.take(times)
        with site.bench.line(devices[0]) as line, _storm(site, refused) as answers:
            line.warmed()
            took = []
            begin, cpu = time.monotonic(), site.bench.worker.cpu()
            for number, device in enumerate(devices):
                due = begin + number / REGISTRATIONS_PER_SECOND
                time.sleep(max(0.0, due - time.monotonic()))
                line.register(device)
                took.append(time.monotonic() - due)
            cpu, seconds = site.bench.worker.cpu() - cpu, time.monotonic() - begin
        return Cost(
            cpu / times,
            statistics.mean(took),
            {
                Besides.P50: statistics.median(took),
                Besides.P95: _p95(took),
                Besides.REFUSED: sum(answers.values()) / seconds,
            },
        )

    return repeat


def _p95(took: list[float]) -> float:
    return statistics.quantiles(took, n=20, method="inclusive")[-1] if len(took) > 1 else took[0]


@contextmanager
def _storm(site: Site, refused: list[Device]) -> Iterator[dict[str, int]]:
    """Goes on while this does; how many answers of which status there were, when it is over."""
    answers: dict[str, int] = {}
    if not refused:
        yield answers
        return
    told = {
        "port": site.bench.live.device_port,
        "ca_file": str(site.bench.live.ca_file),
        "id_scope": site.station.id_scope,
        "per_second": REFUSED_PER_SECOND,
        "devices": [
            {
                "registration_id": device.registration_id,
                "authorization": device.authorization,
                "files": site.files(device),
            }
            for device in refused
        ],
    }
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.scale.refused"],
        cwd=PROJECT_DIR,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
        if process.stdout.readline() != "connected\n":
            raise Unexpected("the refused devices did not connect")
        try:
            yield answers
        finally:
            process.stdin.close()
            answers |= json.loads(process.stdout.readline())
        # 202 is what a disabled device is told, whom its poll then refuses.
        if strange := answers.keys() - {"202", "401", "429"}:
            raise Unexpected(f"refused devices were answered {sorted(strange)}")
