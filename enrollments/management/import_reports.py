"""What `import_enrollments` says: what is foreseen, what became of it, and what is wrong with which line."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from enrollments.actions.outcomes import Outcome
from enrollments.actions.preview.table import Echo, csv_of_parts
from enrollments.actions.preview.words import in_lines, turning_in_line
from enrollments.management.exported_files import write_exported
from enrollments.models import ImportRun
from enrollments.transfer.foreseen import Foreseen
from enrollments.transfer.words import NOT_CARRIED_OUT, found, problem_rows

SHOWN = 20
SHOWN_IN_JSON = 1000


def foreseen_in_lines(seen: Foreseen) -> list[str]:
    lines = in_lines(seen.now)
    if seen.later is not None:
        lines += [turning_in_line(seen.turning), *in_lines(seen.later)]
    return lines


def problems_in_lines(run: ImportRun) -> Iterator[str]:
    problems = run.problems.order_by("line", "at_run")
    for one in problems[:SHOWN]:
        named = f"line {one.line}{f' ({one.name})' if one.name else ''}"
        yield f"{named}{f' {NOT_CARRIED_OUT}' if one.at_run else ''}: {one.sentence}"
    if (more := problems.count() - SHOWN) > 0:
        yield f"and {more} more: write them into a file with --errors."


def run_as_json(run: ImportRun, counts: dict[str, int], *, dry_run: bool) -> dict[str, Any]:
    told = {"import": run.pk, "service": run.service.name, "state": run.state, "dry_run": dry_run}
    problems = run.problems.order_by("line", "at_run")
    return {
        **told,
        "lines": run.lines,
        "bad_lines": run.bad_lines,
        **{one.value: counts.get(one, 0) for one in Outcome},
        "problems": [
            {"line": one.line, "entry": one.name, "problem": one.sentence, "found": found(one)}
            for one in problems[:SHOWN_IN_JSON]
        ],
    }


def write_errors(run: ImportRun, path: Path | None) -> None:
    """What is wrong with which line, as CSV."""
    if path is not None:
        text = map(csv.writer(Echo()).writerow, problem_rows(run))
        write_exported(path, text, f"problems of import {run.pk}", {}, service=run.service)


def write_devices(path: Path, seen: Foreseen, run: ImportRun) -> None:
    """Each known device with what becomes of it, as CSV."""
    later = {"once its entries have turned": seen.later} if seen.later is not None else {}
    text = csv_of_parts({"once carried out": seen.now, **later})
    write_exported(path, text, "preview as CSV", {"change": f"import {run.pk}"}, service=run.service)
