"""The history: what one row costs to be sealed and to be verified, and what sealing adds to a change."""

import importlib.util
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.installation import Bench
from benchmarks.measure import Cost, Figure, Part, Ratio
from enrollments.actions.enrollments import disable_enrollment, enable_enrollment
from enrollments.audit import checkpoints, upkeep
from enrollments.audit.export import export_lines
from enrollments.audit.sealer import seal_everything
from enrollments.audit.verify import verify_database
from enrollments.audit.verify_export import verify_export
from tests.audit.histories import fill
from tests.devices import ALICE, enroll_keys, new_service

SEAL, DATABASE, EXPORT = "history.seal", "history.verify", "history.verify-export"
TOOL, TOOL_DATABASE = "history.tool-export", "history.tool"
# A verifier is to go through 100,000 rows a second.
SECONDS = 1 / 100_000
CHANGE, CHANGE_AND_SEAL = "history.change", "history.change-and-seal"


def history(bench: Bench) -> Part:
    rows = bench.size.history_rows
    fill(rows)
    checkpoint = checkpoints.make_checkpoint()
    export = bench.live.data_dir / "history.jsonl"
    export.write_bytes(b"".join(export_lines(checkpoint)))
    database = bench.live.data_dir / "db.sqlite3"
    keys = [checkpoints.verifier_key()]
    tool = _tool()
    tool_keys = [tool.Key(str(keys[0]))]
    return Part(
        "The history: one row",
        [
            Figure(SEAL, "sealing", rows, _sealing),
            Figure(
                DATABASE,
                "verifying the database",
                rows,
                _per_row(lambda: verify_database(keys).rows),
                below=SECONDS,
            ),
            Figure(
                EXPORT,
                "verifying an export",
                rows,
                _per_row(lambda: verify_export(io.BytesIO(export.read_bytes()), keys).rows),
                below=SECONDS,
            ),
            Figure(
                TOOL,
                "tools/verify_history.py: an export",
                rows,
                _per_row(lambda: tool.verify(tool.Export(export), tool_keys, [])["rows"]),
                below=SECONDS,
            ),
            Figure(
                TOOL_DATABASE,
                "tools/verify_history.py: the database",
                rows,
                _per_row(lambda: tool.verify(tool.Database(database), tool_keys, [])["rows"]),
                below=SECONDS,
            ),
            Figure(CHANGE, "a change, not its turn to seal", bench.size.slow_calls, _changes("later")),
            Figure(CHANGE_AND_SEAL, "a change, then sealing", bench.size.slow_calls, _changes("now")),
        ],
        [Ratio("a change with sealing to one without", CHANGE_AND_SEAL, CHANGE)],
    )


def _sealing(rows: int) -> Cost:
    fill(rows)
    return _per_row(seal_everything)(rows)


def _per_row(act: Callable[[], int]) -> Callable[[int], Cost]:
    """`act` says how many rows it went through; others may have been written meanwhile."""

    def repeat(times: int) -> Cost:
        wall, cpu = time.perf_counter(), time.process_time()
        rows = act()
        if rows < times:
            raise RuntimeError(f"{rows} rows of {times} were gone through")
        return Cost((time.process_time() - cpu) / rows, (time.perf_counter() - wall) / rows)

    return repeat


def _tool() -> Any:
    path = Path(__file__).parents[2] / "tools" / "verify_history.py"
    spec = importlib.util.spec_from_file_location("verify_history", path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{path} cannot be loaded")
    tool: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def _changes(sealing: str) -> Callable[[int], Cost]:
    service = new_service(f"sealing-{sealing}")
    enroll_keys(service, "pump-042")
    acts = (disable_enrollment, enable_enrollment)

    def repeat(times: int) -> Cost:
        wall, cpu = time.perf_counter(), time.process_time()
        for number in range(times):
            upkeep.sealing.next_at = 0.0 if sealing == "now" else float("inf")
            acts[number % 2](service, "pump-042", actor=ALICE)
        spent = Cost((time.process_time() - cpu) / times, (time.perf_counter() - wall) / times)
        upkeep.sealing.next_at = 0.0
        seal_everything()
        return spent

    return repeat
