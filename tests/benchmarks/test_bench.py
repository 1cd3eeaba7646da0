"""The benchmark runs, and what it prints and writes has its shape. How fast anything is, no test says."""

import json
import signal
import subprocess
import sys

import pytest

from benchmarks.scale.servers import POSTGRESQL, SQLITE, has_postgresql
from benchmarks.sizes import SIZES
from benchmarks.subjects import history_pages
from benchmarks.subjects.history_pages import PAGES
from benchmarks.subjects.names import SUBJECTS as ONE_INSTALLATION
from dpsportal.serving.supervisor import PROJECT_DIR

SUBJECTS = {
    "tpm",
    "sas",
    "body",
    "registration",
    "ceiling",
    "listener",
    "refusal",
    "evidence",
    "preview",
    "history",
    "history-page",
    "history-export",
    "past",
    "enrolling",
    "query",
}
HELD_TO_SECONDS = {
    "preview.disable": 2,
    "preview.delete": 2,
    "history.verify": 1e-5,
    "history.verify-export": 1e-5,
    "history.tool-export": 1e-5,
    "history.tool": 1e-5,
    **dict.fromkeys(PAGES, 0.1),
}
HELD_TO_A_QUARTER = {
    ("evidence.again", "registration.x509"),
    ("evidence.first", "registration.x509"),
    ("evidence.first", "registration.token"),
    ("refusal.token.held-back", "registration.token"),
    ("refusal.token.too-often", "registration.token"),
    ("refusal.x509.held-back", "registration.x509"),
    ("refusal.x509.too-often", "registration.x509"),
}
HELD_TO_TWICE = {("query.middle-page", "query.first-page"), ("query.last-page", "query.first-page")}

SHARES_OF_THE_CEILING = {
    ("ceiling.token", "registration.token"),
    ("ceiling.x509.new-connection", "registration.x509.new-connection"),
}
AT_EACH_SITE = {
    *("token", "x509", "ceiling.token", "ceiling.x509"),
    *("unknown", "disabled", "held-back", "x509-unknown", "x509-held-back"),
    *("healthy.calm", "healthy.storm"),
    *(f"page.{page}" for page in ("list", "search-exact", "search-prefix", "detail", "detail-certificate")),
    *(f"page.{page}" for page in ("groups", "registrations", "registration", "history")),
}
AT_SCALE = ["scale_registrations", "scale_storms", "scale_pages"]


def run(*options: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, options)],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_everything_over_one_installation_runs_and_tells_what_it_measured(tmp_path):
    file = tmp_path / "below" / "results.json"

    done = run("--size", "tiny", "--json", file, "--only", *ONE_INSTALLATION)

    assert file.exists(), done.stderr
    written = json.loads(file.read_text())
    check_figures(written["figures"])
    check_targets([*written["figures"].values(), *written["ratios"]], done)
    check_ratios(written["ratios"])
    check_table(done.stdout, written)
    assert written["size"] == "tiny"
    assert {one["rounds"] for one in written["figures"].values()} == {1}
    assert {"cores", "python", "django", "sqlite", "openssl", "cryptography"} < set(written["machine"])


def check_figures(figures: dict) -> None:
    assert {key.partition(".")[0] for key in figures} == SUBJECTS
    for figure in figures.values():
        assert figure["title"] and figure["subject"] and figure["times"] > 0
        for clock in ("cpu", "wall"):
            assert figure[clock]["median"] > 0
            assert figure[clock]["spread"] >= 0
    targets = {key: one["below"] for key, one in figures.items() if "below" in one}
    assert targets == HELD_TO_SECONDS


def check_ratios(ratios: list[dict]) -> None:
    """Held to a quarter are the throttled, and what is written down of a registration; to a share, the ceilings."""
    targets = {(one["of"], one["to"]): one["below"] for one in ratios if "below" in one}

    assert targets == {**dict.fromkeys(HELD_TO_A_QUARTER, 0.25), **dict.fromkeys(HELD_TO_TWICE, 2)}
    shares = [one for one in ratios if "at_least" in one]
    assert {(one["of"], one["to"]) for one in shares} == SHARES_OF_THE_CEILING
    assert {one["at_least"] for one in shares} == {0.6}
    assert sorted(one["clock"] for one in shares) == ["cpu", "cpu", "wall", "wall"]


def check_targets(measured: list[dict], done: subprocess.CompletedProcess) -> None:
    """The exit code says whether all targets are met."""
    missed = [one for one in measured if one.get("met") is False]

    assert done.returncode == (1 if missed else 0)
    assert done.stdout.count("NOT MET") == len(missed)


def check_table(printed: str, written: dict) -> None:
    lines = [line.strip() for line in printed.splitlines()]
    for told in (*written["figures"].values(), *written["ratios"]):
        assert any(line.startswith(told["title"]) for line in lines), told["title"]


@pytest.mark.parametrize(
    "database",
    [
        SQLITE,
        pytest.param(
            POSTGRESQL,
            marks=pytest.mark.skipif(not has_postgresql(), reason="PostgreSQL's server is not installed"),
        ),
    ],
)
def test_installations_of_several_sizes_are_measured_side_by_side(tmp_path, database):
    file = tmp_path / "results.json"

    done = run("--size", "tiny", "--json", file, "--only", *AT_SCALE, "--databases", database)

    assert file.exists(), done.stderr
    written = json.loads(file.read_text())
    figures, ratios, amounts = written["figures"], written["ratios"], written["amounts"]
    sites = [f"{database}.{number}" for number in SIZES["tiny"].enrollments]
    assert set(figures) == {f"{site}.{what}" for site in sites for what in AT_EACH_SITE}
    check_targets([*ratios, *amounts], done)
    check_table(done.stdout, written)
    few, many = sites
    held = {(one["of"], one["to"], one["clock"]): one for one in ratios if "met" in one}
    for site in sites:
        assert held[f"{site}.ceiling.token", f"{site}.token", "wall"]["at_least"] == 0.6
        assert held[f"{site}.ceiling.x509", f"{site}.x509", "wall"]["at_least"] == 0.6
        assert held[f"{site}.held-back", f"{site}.token", "cpu"]["at_most"] == 0.25
        assert held[f"{site}.healthy.storm", f"{site}.healthy.calm", "p95"]["at_most"] == 2
    assert held[f"{few}.token", f"{many}.token", "wall"]["at_least"] == 0.9
    assert held[f"{many}.token", f"{few}.token", "memory"]["at_most"] == 1.1
    assert held[f"{many}.page.history", f"{few}.page.history", "wall"]["at_most"] == 1.5
    told = {(one["of"], one["what"]): one for one in amounts}
    for site in sites:
        assert told[f"{site}.page.list", "queries"]["at_most"] == 12
        assert told[f"{site}.page.list", "bytes"]["at_most"] == 60_000
        assert told[f"{site}.healthy.storm", "refused"]["median"] > 0


def test_a_run_that_is_told_to_stop_keeps_the_figures_that_it_has(tmp_path):
    file = tmp_path / "results.json"
    options = ["--size", "tiny", "--only", "bodies", "--rounds", "100000000", "--json", str(file)]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=PROJECT_DIR,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            if "round 5 of" in line:
                process.send_signal(signal.SIGTERM)
                break
        printed, _ = process.communicate()

    assert process.returncode == 130
    written = json.loads(file.read_text())
    assert {key.partition(".")[0] for key in written["figures"]} == {"body"}
    assert all(one["rounds"] >= 4 for one in written["figures"].values())
    check_table(printed, written)


def test_what_is_no_subject_is_not_measured():
    done = run("--only", "weather")

    assert done.returncode == 2
    assert "weather" in done.stderr


class Growing:
    """A process with a long history, in which one format takes memory that grows."""

    def __init__(self, format):
        self.format, self.asked = format, []

    def ask(self, what, query):
        self.asked.append((what, query))
        grown = history_pages.MOST_GROWTH_MIB + 2 if query == f"format={self.format}" else 1
        return {"peak_mib": 80 + grown}


@pytest.mark.parametrize("format", history_pages.FORMATS)
def test_no_format_of_an_export_may_take_memory_that_grows(format):
    words = history_pages.FORMATS[format]
    with pytest.raises(RuntimeError, match=f"exporting the history as {words} took"):
        history_pages._peak_of_exporting_all(Growing(format))


def test_every_format_is_exported_whole():
    long = Growing("none")

    assert history_pages._peak_of_exporting_all(long) == 81
    assert long.asked == [("page", ""), *(("export", f"format={one}") for one in history_pages.FORMATS)]
