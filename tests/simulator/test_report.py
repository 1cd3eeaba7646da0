"""What a fleet's results come to."""

from io import StringIO

from enrollments.management.progress import Progress
from enrollments.simulator.client import Outcome, Result
from enrollments.simulator.report import Summary


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_latencies_are_figures_that_were_measured():
    summary = Summary()
    for hundredths in range(100, 0, -1):
        summary.add(Result("d", Outcome.ASSIGNED, register_seconds=hundredths / 100, total_seconds=2))

    assert summary.latencies() == {
        "register": {"p50": 500, "p95": 950, "max": 1000},
        "total": {"p50": 2000, "p95": 2000, "max": 2000},
    }


def test_a_single_device_is_its_own_percentile_and_none_has_none():
    alone = Summary([Result("d", Outcome.ASSIGNED, register_seconds=0.25)])

    assert alone.latencies()["register"] == {"p50": 250, "p95": 250, "max": 250}
    assert alone.latencies()["total"] == {"p50": None, "p95": None, "max": None}


def test_the_table_names_every_outcome_and_the_commonest_words():
    failed = Result("d", Outcome.FAILED, "400208: no hub", total_seconds=1)

    lines = Summary([failed, failed]).as_text().splitlines()

    assert [line.split()[0] for line in lines[2:9]] == [outcome.value for outcome in Outcome]
    assert lines[-1].split() == ["2", "failed", "400208:", "no", "hub"]


def test_nobody_reached_it_only_where_somebody_tried_and_none_did():
    lost = Result("d", Outcome.UNREACHABLE)

    assert Summary([lost, lost]).nobody_reached_the_service
    assert not Summary([lost, Result("e", Outcome.UNAUTHORIZED)]).nobody_reached_the_service
    assert not Summary().nobody_reached_the_service


def told(stream: StringIO, monkeypatch) -> str:
    seconds = iter([0, 0.01, 10, 20])
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    progress = Progress(stream)
    for text in ("too soon", "a long text", "short"):
        progress.tell(text)
    progress.close()
    return stream.getvalue()


def test_on_a_terminal_one_line_changes_and_is_taken_away(monkeypatch):
    assert told(Terminal(), monkeypatch) == "\ra long text\rshort      \r     \r"


def test_elsewhere_there_are_plain_lines(monkeypatch):
    assert told(StringIO(), monkeypatch) == "a long text\nshort\n"
