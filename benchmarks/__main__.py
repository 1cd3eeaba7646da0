"""`python -m benchmarks`: measure, print one table, and write one JSON file where told. See docs/benchmarks.md."""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.installation import bench
from benchmarks.measure import is_met, take_turns, without_dangling_ratios
from benchmarks.sizes import SIZES
from benchmarks.tables import as_json, as_text


def main() -> int:
    """0 where every target is met, 1 where one is not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures into this file too")
    parser.add_argument("--size", choices=SIZES, default="full", help="tiny only shows that everything works")
    parser.add_argument("--only", action="append", metavar="SUBJECT", help="a subject of benchmarks/subjects")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each figure is repeated")
    options = parser.parse_args()
    size = SIZES[options.size]
    size = replace(size, rounds=options.rounds or size.rounds)
    with tempfile.TemporaryDirectory(prefix="dpsportal-bench-") as folder, bench(Path(folder), size) as made:
        from benchmarks.subjects import SUBJECTS  # they import models, which need the settings

        chosen = {subject.__name__: subject for subject in SUBJECTS}
        if unknown := sorted(set(options.only or ()) - chosen.keys()):
            parser.error(f"no subject is called {', '.join(unknown)}; there are {', '.join(chosen)}")
        parts = []
        for name, subject in chosen.items():
            if not options.only or name in options.only:
                _tell(f"preparing {name}")
                parts.append(subject(made))
        parts = without_dangling_ratios(parts)
        figures = [figure for part in parts for figure in part.figures]
        costs = take_turns(figures, size.rounds, _tell)
    _tell("")
    print(as_text(parts, costs))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        told = as_json(parts, costs, rounds=size.rounds, size=options.size)
        options.json.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    targets = [one for part in parts for one in (*part.figures, *part.ratios)]
    return int(any(is_met(costs, one) is False for one in targets))


def _tell(sentence: str) -> None:
    """Progress: one line that changes for whoever watches, a line each in a log."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{sentence}", end="", file=sys.stderr, flush=True)
    elif sentence:
        print(f"{datetime.now(UTC):%H:%M:%S} {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
