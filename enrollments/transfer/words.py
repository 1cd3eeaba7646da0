"""An import in words, for pages and for the command."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from enrollments.actions.outcomes import Outcome
from enrollments.actions.preview.progress import Step
from enrollments.actions.preview.table import cell
from enrollments.models import ImportFormat, ImportProblem, ImportRun

# Devices are refused. A line is wrong by what it says when it is checked, or could not be carried out at its turn.
WRONG = "wrong"
NOT_CARRIED_OUT = "could not be carried out"
NOT_THE_LIST = "Something went wrong that is not the fault of the list; the log of the service says what."
# In place of a step, for a preview of everyone.
WAITING = "waiting"
UPDATING_RESETS = (
    "The operation update, and createOrUpdate of an entry that is there, make it what its line says: certificates "
    "and keys that the line leaves out stay, and everything else that it leaves out goes back to its default."
)
OUTCOMES = {
    Outcome.ADDED: "added",
    Outcome.ADDED_DISABLED: "added, disabled from the start",
    Outcome.CHANGED: "changed",
    Outcome.ENABLED: "enabled",
    Outcome.DISABLED: "disabled",
    Outcome.ENABLED_LATER: "disabled until a time, and let in from then on",
    Outcome.UNCHANGED: "as they are already",
}
_ENDINGS = {
    ".csv": ImportFormat.CSV,
    ".txt": ImportFormat.CSV,
    ".jsonl": ImportFormat.JSON_LINES,
    ".ndjson": ImportFormat.JSON_LINES,
    ".json": ImportFormat.JSON_LINES,
}


def foreseen_in_words(run: ImportRun) -> str:
    """`3 added, 1 wrong`."""
    return _in_words(run.planned, WRONG)


def done_in_words(run: ImportRun) -> str:
    """`3 added, 1 could not be carried out`."""
    return _in_words(run.counts, NOT_CARRIED_OUT)


def _in_words(counts: Mapping[str, int], refused: str) -> str:
    names = {**OUTCOMES, Outcome.REFUSED: refused}
    told = [f"{counts[one]} {words}" for one, words in names.items() if counts.get(one)]
    return ", ".join(told) or "nothing"


def figures(run: ImportRun) -> list[tuple[str, int, int]]:
    """Of each outcome how many lines were foreseen and how many there are; those that do not occur are left out."""
    told = [(words, run.planned.get(one, 0), run.counts.get(one, 0)) for one, words in OUTCOMES.items()]
    wrong, undone = run.planned.get(Outcome.REFUSED, 0), run.counts.get(Outcome.REFUSED, 0)
    told += [(WRONG, wrong, 0), (NOT_CARRIED_OUT, 0, undone)]
    return [one for one in told if any(one[1:])] or told[:1]


def found(problem: ImportProblem) -> str:
    return "when carried out" if problem.at_run else "when checked"


def problem_rows(run: ImportRun) -> Iterator[tuple[str, ...]]:
    """As CSV, the heads of the columns first."""
    yield "line", "entry", "problem", "found"
    for one in run.problems.order_by("line", "at_run").iterator(chunk_size=1000):
        yield str(one.line), cell(one.name), cell(one.sentence), found(one)


def format_of(file_name: str) -> ImportFormat | None:
    """As the name says; None where it says nothing."""
    endings = (format for ending, format in _ENDINGS.items() if file_name.lower().endswith(ending))
    return next(endings, None)


@dataclass(frozen=True, slots=True)
class HowFarInWords:
    """`of`: where it is known how many there are."""

    sentence: str
    done: int = 0
    of: int | None = None


_STEPS = {
    Step.READING: "lines read",
    Step.LOOKING: "looked at what lies above devices",
    Step.JUDGING: "devices judged",
}
_WAITS = (
    "All devices of another preview are being examined now, and that is done for one at a time: this one waits for its "
    "turn as long as somebody looks at its page."
)
_GOES_ON = "This goes on when you leave the page."


def in_short(step: Step, done: int, of: int | None) -> str:
    """`lines read: 1,000 of 100,000`."""
    return f"{_STEPS[step]}: {done:,}{f' of {of:,}' if of else ''}"


def how_far(progress: Mapping[str, Any]) -> HowFarInWords:
    """Of a preview, as it is kept; by this version or another: a step that is not known here says nothing."""
    if progress.get("step") == WAITING:
        return HowFarInWords(_WAITS)
    if progress.get("step") not in set(Step):
        return HowFarInWords(f"It begins. {_GOES_ON}")
    told = in_short(Step(progress["step"]), progress["done"], progress["of"])
    then = " This is about the time when its entries have turned." if progress["is_later"] else ""
    if progress.get("is_to_come"):  # not kept by the version before
        then += " This is about times to come at which other switches turn."
    sentence = f"{told[0].upper()}{told[1:]}.{then} {_GOES_ON}"
    return HowFarInWords(sentence, progress["done"], progress["of"])
