"""What `import_enrollments` says: what is foreseen, what became of it, and what is wrong with which line."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from enrollments.actions.outcomes import Outcome
from enrollments.actions.preview import Coming, Preview
from enrollments.actions.preview.table import Echo, csv_of_parts
from enrollments.actions.preview.words import coming_in_lines, in_lines, turning_in_line
from enrollments.actions.schedule import as_text
from enrollments.management.exported_files import write_exported
from enrollments.models import ImportRun
from enrollments.transfer.foreseen import Foreseen
from enrollments.transfer.words import NOT_CARRIED_OUT, found, problem_rows

SHOWN = 20
SHOWN_IN_JSON = 1000


def foreseen_in_lines(seen: Foreseen) -> list[str]:
    lines = [*in_lines(seen.now), *coming_in_lines(seen.comings)]
    if seen.later is not None:
        lines += [turning_in_line(seen.turning), *in_lines(seen.later), *coming_in_lines(seen.later_comings)]
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


def _by_time(comings: Iterable[Coming], before: str = "") -> dict[str, Preview]:
    return {f"{before}{_when(one)}": one.preview for one in comings}


def _when(coming: Coming) -> str:
    stays = "in by this " if coming.stays else ""
    return f"{stays}at other times" if coming.at is None else f"{stays}from {as_text(coming.at)} on"


def write_devices(path: Path, seen: Foreseen, run: ImportRun) -> None:
    """Each known device with what becomes of it, as CSV."""
    parts = {"once carried out": seen.now, **_by_time(seen.comings)}
    if seen.later is not None:
        turned = "once its entries have turned"
        parts |= {turned: seen.later, **_by_time(seen.later_comings, f"{turned}, ")}
    text = csv_of_parts(parts)
    write_exported(path, text, "preview as CSV", {"change": f"import {run.pk}"}, service=run.service)
