"""The history: what one row costs to be sealed and to be verified, and what sealing adds to a change."""

import time
from collections.abc import Callable

from benchmarks import verifying
from benchmarks.installation import Bench
from benchmarks.measure import Clock, Cost, Figure, Part, Ratio
from benchmarks.verifying import Verifiers
from enrollments.actions.enrollments import disable_enrollment, enable_enrollment
from enrollments.audit import upkeep
from enrollments.audit.sealer import seal_everything
from tests.audit.histories import fill
from tests.devices import ALICE, enroll_keys, new_service

SEAL, DATABASE, EXPORT = "history.seal", "history.verify", "history.verify-export"
TOOL, TOOL_DATABASE = "history.tool-export", "history.tool"
# A verifier is to go through 100,000 rows a second, with as many processors as there are.
SECONDS = 1 / 100_000
CHANGE, CHANGE_AND_SEAL = "history.change", "history.change-and-seal"


def history(bench: Bench) -> Part:
    rows = bench.size.history_rows
    verified = rows * 50
    verifiers = Verifiers(bench.live.data_dir / "verified", verified)
    return Part(
        "The history: one row",
        [
            Figure(SEAL, "sealing", rows, _sealing),
            *(
                Figure(key, title, verified, verifiers.of_rows(name), below=SECONDS, clock=Clock.WALL)
                for key, title, name in (
                    (DATABASE, "verifying the database", verifying.DATABASE),
                    (EXPORT, "verifying an export", verifying.EXPORT),
                    (TOOL, "tools/verify_history.py: an export", verifying.TOOL_EXPORT),
                    (TOOL_DATABASE, "tools/verify_history.py: the database", verifying.TOOL_DATABASE),
                )
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
