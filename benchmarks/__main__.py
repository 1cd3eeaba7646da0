"""`python -m benchmarks`: measure, print one table, and write one JSON file where told. See docs/benchmarks.md."""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.digest import digest
from benchmarks.installation import bench
from benchmarks.measure import Cost, Part, is_met, take_turns, without_dangling_ratios
from benchmarks.scale.servers import POSTGRESQL, SQLITE, has_postgresql
from benchmarks.scale.sites import sites
from benchmarks.scale.subjects import SUBJECTS as AT_SCALE
from benchmarks.sizes import SIZES, Size
from benchmarks.stored import Stored
from benchmarks.subjects.names import SUBJECTS
from benchmarks.tables import as_json, as_text


@dataclass
class Run:
    """What there is so far. Figures of one session take turns with each other, and ratios stay within it."""

    size: str
    json_file: Path | None
    parts: list[Part] = field(default_factory=list)
    costs: dict[str, Sequence[Cost]] = field(default_factory=dict)

    def take_turns(self, parts: Sequence[Part], rounds: int) -> None:
        """Raises KeyboardInterrupt where somebody interrupted, having kept what there was."""
        figures = [figure for part in parts for figure in part.figures]
        costs, interrupted = take_turns(figures, rounds, tell)
        if all(costs.values()):
            self.parts += without_dangling_ratios(parts)
            self.costs |= costs
            self.write()
        if interrupted:
            raise KeyboardInterrupt

    def write(self) -> None:
        if self.json_file is not None:
            self.json_file.parent.mkdir(parents=True, exist_ok=True)
            self.json_file.write_text(json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n")

    def as_json(self) -> dict[str, Any]:
        return as_json(self.parts, self.costs, size=self.size)

    @property
    def meets_its_targets(self) -> bool:
        held = [one for part in self.parts for one in (*part.figures, *part.ratios, *part.amounts)]
        return not any(is_met(self.costs, one) is False for one in held)


def main() -> int:
    """0 where every target is met, 1 where one is not, 130 where somebody interrupted."""
    options = _options()
    size = SIZES[options.size]
    size = replace(
        size,
        rounds=options.rounds or size.rounds,
        scale_rounds=options.rounds or size.scale_rounds,
        enrollments=tuple(options.enrollments) if options.enrollments else size.enrollments,
    )
    run, interrupted = Run(options.size, options.json), False
    # Being told to stop is like Ctrl-C: what is running is ended, and what was measured is told.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if chosen := [name for name in SUBJECTS if name in options.only]:
            _one_installation(run, chosen, size)
        if chosen := [name for name in AT_SCALE if name in options.only]:
            _at_scale(run, chosen, size.at_scale, options.databases)
    except KeyboardInterrupt:
        interrupted = True
    tell("")
    if run.parts:
        print(as_text(run.parts, run.costs), digest(run.parts, run.costs), sep="\n\n", end="\n\n")
        stored = Stored(options.stored)
        print(stored.compared(run.as_json()))
        if options.store:
            stored.store(run.as_json())
    return 130 if interrupted else int(not run.meets_its_targets)


def _options() -> argparse.Namespace:
    subjects, databases = [*SUBJECTS, *AT_SCALE], [SQLITE, POSTGRESQL]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures into this file too")
    parser.add_argument("--size", choices=SIZES, default="full", help="tiny only shows that everything works")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each figure is repeated")
    parser.add_argument("--only", nargs="+", choices=subjects, default=subjects, metavar="SUBJECT")
    parser.add_argument("--databases", nargs="+", choices=databases, metavar="DATABASE")
    parser.add_argument("--enrollments", nargs="+", type=int, metavar="N", help="how many at each site")
    parser.add_argument("--stored", type=Path, default=Stored.FILE, help="figures of an earlier run")
    parser.add_argument("--store", action="store_true", help="keep the figures of this run there")
    options = parser.parse_args()
    if not options.databases:
        options.databases = databases if has_postgresql() else [SQLITE]
        if POSTGRESQL not in options.databases:
            tell("without PostgreSQL, whose server is not installed")
    return options


def _one_installation(run: Run, chosen: Sequence[str], size: Size) -> None:
    with tempfile.TemporaryDirectory(prefix="dpsportal-bench-") as folder, bench(Path(folder), size) as made:
        parts = []
        for name in chosen:
            tell(f"preparing {name}")
            parts.append(SUBJECTS[name]()(made))
        run.take_turns(parts, size.rounds)


def _at_scale(run: Run, chosen: Sequence[str], size: Size, databases: Sequence[str]) -> None:
    with sites(size, databases, tell) as made:
        parts = []
        for name in chosen:
            tell(f"preparing {name}")
            parts += AT_SCALE[name](made)
        run.take_turns(parts, size.rounds)


def tell(sentence: str) -> None:
    """Progress: one line that changes for whoever watches, a line each in a log."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{sentence}", end="", file=sys.stderr, flush=True)
    elif sentence:
        print(f"{datetime.now(UTC):%H:%M:%S} {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
