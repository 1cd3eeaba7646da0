"""The verifiers, each in a process of its own as auditors run them, and on an installation of its own.

Apart from the others, whose rows it would go through, and whose objects lie between its own.
`python -m benchmarks.verifying NAME [FILE KEY]` prints how many rows it went through, its CPU time, with that of the
processes that it started and waited for, and its wall time;
`prepare` makes the history, exports it into the file, and prints the verifier key.
"""

import importlib.util
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import Cost

DATABASE, EXPORT, TOOL_EXPORT, TOOL_DATABASE = "database", "export", "tool-export", "tool-database"
PROJECT_DIR = Path(__file__).parents[1]


class Verifiers:
    """`rows`: of the history that is made in this folder."""

    def __init__(self, folder: Path, rows: int) -> None:
        folder.mkdir()
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        self._environment = {**environment, "DPS_DATA_DIR": str(folder)}
        self._export, self._database = folder / "history.jsonl", folder / "db.sqlite3"
        self._key: str = self._said("prepare", str(self._export), str(rows))

    def of_rows(self, name: str) -> Callable[[int], Cost]:
        file = self._database if name == TOOL_DATABASE else self._export

        def repeat(times: int) -> Cost:
            rows, cpu, wall = self._said(name, str(file), self._key)
            if rows < times:
                raise RuntimeError(f"{rows} rows of {times} were gone through")
            return Cost(cpu / rows, wall / rows)

        return repeat

    def _said(self, *arguments: str) -> Any:
        command = [sys.executable, "-m", "benchmarks.verifying", *arguments]
        ran = subprocess.run(
            command, cwd=PROJECT_DIR, env=self._environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return json.loads(ran.stdout.splitlines()[-1])


def main(name: str, file: str = "", key: str = "") -> None:
    if name == "prepare":
        print(json.dumps(_prepare(Path(file), int(key))))
        return
    check = {DATABASE: _database, EXPORT: _export, TOOL_EXPORT: _tool, TOOL_DATABASE: _tool}[name]
    act = check(name, file, key)
    act()  # what is read and compiled once
    wall, cpu = time.perf_counter(), _cpu()
    rows = act()
    print(json.dumps([rows, _cpu() - cpu, time.perf_counter() - wall]))


def _cpu() -> float:
    of_others = os.times()
    return time.process_time() + of_others.children_user + of_others.children_system


def _prepare(export: Path, rows: int) -> str:
    _set_up()
    from django.core.management import call_command

    from enrollments.audit import checkpoints
    from enrollments.audit.export import export_lines
    from tests.audit.histories import fill

    call_command("migrate", verbosity=0)
    fill(rows)
    export.write_bytes(b"".join(export_lines(checkpoints.make_checkpoint())))
    return str(checkpoints.verifier_key())


def _database(name: str, file: str, key: str) -> Callable[[], int]:
    _set_up()
    from enrollments.audit import checkpoints
    from enrollments.audit.verify_database import verify_database

    keys = [checkpoints.verifier_key()]
    return lambda: verify_database(keys).rows


def _export(name: str, file: str, key: str) -> Callable[[], int]:
    _set_up()
    from enrollments.audit import checkpoints
    from enrollments.audit.verify_export import verify_export

    keys, content = [checkpoints.verifier_key()], Path(file).read_bytes()
    return lambda: verify_export(io.BytesIO(content), keys).rows


def _tool(name: str, file: str, key: str) -> Callable[[], int]:
    spec = importlib.util.spec_from_file_location(
        "verify_history", PROJECT_DIR / "tools" / "verify_history.py"
    )
    if spec is None or spec.loader is None:
        raise RuntimeError("tools/verify_history.py cannot be loaded")
    tool: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    source = partial(tool.Export if name == TOOL_EXPORT else tool.Database, Path(file))
    return lambda: int(tool.verify(source(), [tool.Key(key)], [])["rows"])


def _set_up() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpsportal.settings")
    django.setup()


if __name__ == "__main__":
    main(*sys.argv[1:])
