"""A station from outside: a process that fills an installation's database and then asks its pages."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Thread
from typing import Any

from benchmarks.devices import Unexpected
from benchmarks.measure import Besides, Cost
from dpsportal.serving.supervisor import PROJECT_DIR
from tests.live import LiveListeners


class Station(AbstractContextManager["Station"]):
    """`certificates`: how many devices of each kind with certificates there are. `key`: the one of all with keys."""

    def __init__(
        self,
        live: LiveListeners,
        enrollments: int,
        certificates: int,
        folder: Path,
        tell: Callable[[str], None],
    ) -> None:
        self.certificates = certificates
        command = [
            *(sys.executable, "-m", "benchmarks.scale.station", "--enrollments", str(enrollments)),
            *("--certificates", str(certificates), "--folder", str(folder)),
        ]
        self._process = subprocess.Popen(
            command,
            cwd=PROJECT_DIR,
            # Its pages load no files.
            env={**live.environment, "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C is for the benchmark, which ends it.
            start_new_session=True,
        )
        Thread(target=self._pass_on, args=(tell,), daemon=True).start()
        told = self._read()
        self.id_scope: str = told["id_scope"]
        self.key: str = told["key"]
        self.pages: list[str] = told["pages"]

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def page(self, name: str, times: int) -> Cost:
        """What it costs on the average; queries and bytes as they were the last time."""
        asked = [self._asked(name) for _ in range(times)]
        return Cost(
            sum(one["cpu"] for one in asked) / times,
            sum(one["wall"] for one in asked) / times,
            {Besides.QUERIES: asked[-1]["queries"], Besides.BYTES: asked[-1]["bytes"]},
        )

    def _asked(self, name: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        told = self._read()
        if told["status"] != 200:
            raise Unexpected(f"page {name}: {told}")
        return told

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Unexpected(f"a station ended with exit status {self._process.wait()}")
        told: dict[str, Any] = json.loads(line)
        return told

    def _pass_on(self, tell: Callable[[str], None]) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            tell(line.rstrip())
