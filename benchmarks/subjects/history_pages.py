"""The history's pages and exports, over a history that is long: they must not take longer than over a short one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from benchmarks.installation import Bench
from benchmarks.measure import Cost, Figure, Part, Ratio
from dpsportal.serving.supervisor import PROJECT_DIR
from tests.audit.histories import BEGIN

PLAIN = "history-page.plain"
# Each is answered by an index, but for the last, which looks through rows for as long as a page may.
PAGES = {
    PLAIN: ("newest rows", ""),
    "history-page.shuts-out": ("what shuts out", "event=shuts-out"),
    "history-page.actor": ("one actor", "actor=user:alice"),
    "history-page.nobody": ("an actor without a row", "actor=user:mallory"),
    "history-page.object": ("one object", "kind=IndividualEnrollment&subject=%3Dpump-000005"),
    "history-page.device": ("one device", "device=pump-000005"),
    "history-page.text": ("a reason that no row has", "reason=nowhere"),
}
FORMATS = {"jsonl": "JSON Lines", "csv": "CSV", "xlsx": "XLSX"}
# A page of a million rows may take so long.
SECONDS = 0.1
# What exporting all rows, in each format, may take more than a page did. Chunks are of a thousand rows, of some
# kilobytes each.
MOST_GROWTH_MIB = 64


class LongHistory:
    """The process with the long history."""

    def __init__(self, bench: Bench) -> None:
        folder = bench.live.data_dir / "long-history"
        folder.mkdir()
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.long_history", "--rows", str(bench.size.long_history_rows)],
            cwd=PROJECT_DIR,
            env={**environment, "DPS_DATA_DIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def ask(self, what: str, query: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what} {query}\n")
        self._process.stdin.flush()
        answer = self._read()
        if answer["status"] != 200:
            raise RuntimeError(f"{what} {query} was answered with {answer['status']}")
        return answer

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process with the long history has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def history_pages(bench: Bench) -> Part:
    rows, exported = bench.size.long_history_rows, bench.size.exported_rows
    long = LongHistory(bench)
    peak = _peak_of_exporting_all(long)
    pages = [
        Figure(key, f"a page: {words}", 3, _page(long, query), below=SECONDS)
        for key, (words, query) in PAGES.items()
    ]
    exports = [
        Figure(f"history-export.{format}", f"exporting a row as {words}", exported, _export(long, format))
        for format, words in FORMATS.items()
    ]
    return Part(
        f"The history's pages over {rows:,} rows; exporting three fifths of them took {peak} MiB at most",
        [*pages, *exports],
        [
            Ratio(f"a page of {words} to one of the newest rows", key, PLAIN)
            for key, (words, _) in PAGES.items()
        ][1:],
    )


def _page(long: LongHistory, query: str) -> Callable[[int], Cost]:
    def repeat(times: int) -> Cost:
        told = [long.ask("page", query) for _ in range(times)]
        return Cost(sum(one["cpu"] for one in told) / times, sum(one["wall"] for one in told) / times)

    return repeat


def _export(long: LongHistory, format: str) -> Callable[[int], Cost]:
    """So many rows as `times` says: the rows of the service within the seconds in which five rows were written each."""

    def repeat(times: int) -> Cost:
        until = BEGIN + timedelta(seconds=times * 5 // 3)
        told = long.ask("export", urlencode({"format": format, "until": f"{until:%Y-%m-%dT%H:%M:%S}"}))
        return Cost(told["cpu"] / times, told["wall"] / times)

    return repeat


def _peak_of_exporting_all(long: LongHistory) -> int:
    """Raises RuntimeError where exporting everything, in any format, takes memory that grows with it."""
    before: int = long.ask("page", "")["peak_mib"]
    peak = before
    for format, words in FORMATS.items():
        peak = long.ask("export", f"format={format}")["peak_mib"]
        if peak - before > MOST_GROWTH_MIB:
            raise RuntimeError(f"exporting the history as {words} took {peak - before} MiB")
    return peak
