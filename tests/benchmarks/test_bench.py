"""The benchmark runs, and what it prints and writes has its shape. How fast anything is, no test says."""

import json
import subprocess
import sys

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


def test_the_whole_benchmark_runs_and_tells_what_it_measured(tmp_path):
    file = tmp_path / "below" / "results.json"

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--size", "tiny", "--json", str(file)],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert file.exists(), done.stderr
    written = json.loads(file.read_text())
    check_figures(written["figures"])
    check_targets([*written["figures"].values(), *written["ratios"]], done)
    check_ratios(written["ratios"])
    check_table(done.stdout, written)
    assert (written["size"], written["rounds"]) == ("tiny", 1)
    assert {"cores", "python", "django", "sqlite", "openssl", "cryptography"} < set(written["machine"])


def check_figures(figures: dict) -> None:
    assert {key.partition(".")[0] for key in figures} == SUBJECTS
    for figure in figures.values():
        assert figure["title"] and figure["subject"] and figure["times"] > 0
        for clock in ("cpu", "wall"):
            assert figure[clock]["median"] > 0
            assert figure[clock]["spread"] >= 0
    targets = {key: one["below"] for key, one in figures.items() if one["below"] is not None}
    assert targets == HELD_TO_SECONDS


def check_ratios(ratios: list[dict]) -> None:
    """Held to a quarter are the throttled, and what is written down about a registration; to three fifths the ceilings."""
    targets = {(one["of"], one["to"]): one["below"] for one in ratios if one["below"] is not None}

    assert targets == {**dict.fromkeys(HELD_TO_A_QUARTER, 0.25), **dict.fromkeys(HELD_TO_TWICE, 2)}
    shares = [one for one in ratios if one["at_least"] is not None]
    assert {(one["of"], one["to"]) for one in shares} == SHARES_OF_THE_CEILING
    assert {one["at_least"] for one in shares} == {0.6}
    assert sorted(one["clock"] for one in shares) == ["cpu", "cpu", "wall", "wall"]


def check_targets(measured: list[dict], done: subprocess.CompletedProcess) -> None:
    """The exit code says whether all targets are met."""
    missed = [one for one in measured if one["met"] is False]

    assert done.returncode == (1 if missed else 0)
    assert done.stdout.count("NOT MET") == len(missed)


def check_table(printed: str, written: dict) -> None:
    lines = [line.strip() for line in printed.splitlines()]
    for told in (*written["figures"].values(), *written["ratios"]):
        assert any(line.startswith(told["title"]) for line in lines), told["title"]
