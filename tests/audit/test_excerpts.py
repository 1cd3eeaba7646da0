"""Exports of what a filter found, checked by both verifiers against a history that has every row."""

import json
from pathlib import Path

import pytest

from enrollments.actions.history import take_checkpoint
from enrollments.audit import checkpoints
from enrollments.audit.canonical import link_hash, row_hash
from enrollments.audit.excerpt import excerpt_lines, rows_with_seals
from enrollments.audit.export import export_lines
from enrollments.audit.notes import BadNote
from enrollments.audit.verify_export import verify_excerpt
from enrollments.errors import HistoryDisagrees
from enrollments.models import HistoryCheckpoint, HistoryEvent, HistorySeal
from tests.audit.histories import fill
from tests.audit.tampering import by_tool, tampered
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db


def by_us(excerpt, whole):
    with excerpt.open("rb") as rows, whole.open("rb") as all_rows:
        return verify_excerpt(rows, all_rows, [checkpoints.verifier_key()])


def problem(excerpt, whole) -> str:
    """What both say, in the same words where they speak of a row."""
    done = by_tool(excerpt, "--against", str(whole))
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(done.stdout)["problem"]
    try:
        ours = by_us(excerpt, whole).problem
    except BadNote as refused:
        return f"{told['what']}; {refused.message}"
    assert ours.index == told["index"]
    return f"{told['what']}; {ours.what}"


def test_excerpt_stands_in_the_whole(files):
    excerpt, whole = files

    done = by_tool(excerpt, "--against", str(whole))
    ours = by_us(excerpt, whole)

    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    assert (report["excerpt_rows"], report["rows"], report["signed_rows"]) == (9, 60, 60)
    assert (ours.ok, ours.excerpt_rows, ours.rows, ours.signed) == (True, 9, 60, 60)


def test_excerpt_stands_in_the_whole_of_its_service_whose_other_rows_are_hidden(files):
    excerpt, whole = files
    whole.write_bytes(b"".join(export_lines(HistoryCheckpoint.objects.get(), service_id=9001)))

    assert by_tool(excerpt, "--against", str(whole)).returncode == 0
    ours = by_us(excerpt, whole)
    assert (ours.ok, ours.opaque) == (True, 40)


def test_excerpt_needs_a_whole_and_a_whole_needs_none(files):
    """Nobody is to be told that a history was changed who only called the verifier wrongly."""
    excerpt, whole = map(str, files)

    for arguments in ([excerpt], [whole, "--against", whole], [excerpt, "--against", excerpt]):
        assert by_tool(Path(arguments[0]), *arguments[1:]).returncode == 2, arguments
        code, sentence = refusal_of("audit_verify", *arguments)
        assert (code, "not as it was sealed" in sentence) == (2, False)
    assert "--against" in refusal_of("audit_verify", excerpt)[1]
    assert refusal_of("audit_verify", "--against", whole)[0] == 2
    assert refusal_of("audit_verify", excerpt, "--against", "nowhere.jsonl")[0] == 2


def test_command_says_how_many_rows_of_the_excerpt_stand_in_the_whole(files):
    excerpt, whole = map(str, files)

    assert "Of the excerpt      9, each in its place" in printed_by(
        "audit_verify", excerpt, "--against", whole
    )
    assert json_of("audit_verify", excerpt, "--against", whole)["excerpt_rows"] == 9


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            lambda lines: [*lines[:3], lines[3].replace(b'"way":"portal"', b'"way":"forged"'), *lines[4:]],
            "not the row",
        ),
        (lambda lines: [*lines[:3], *lines[4:]], "says that it has 9 rows, and 8 are here"),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], "there twice"),
        (lambda lines: lines[:-1], "cut off"),
        (lambda lines: [*lines, lines[2]], "after"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b"\\n60\\n", b"\\n61\\n")], "not fit"),
    ],
    ids=[
        "a word changed",
        "a row taken out",
        "a row twice",
        "cut off",
        "something after the end",
        "another checkpoint",
    ],
)
def test_excerpt_that_was_changed_is_found(files, change, what):
    excerpt, whole = files
    excerpt.write_bytes(b"".join(change(excerpt.read_bytes().splitlines(keepends=True))))

    told = problem(excerpt, whole)
    assert all(what in one for one in told.split("; ")), told


def test_row_that_was_made_up_with_a_seal_that_fits_it_does_not_stand_in_the_whole(files):
    """Hashes are no secret: anybody can seal a row of their own. Only the whole knows which one stands there."""
    excerpt, whole = files
    lines = excerpt.read_bytes().splitlines(keepends=True)
    row, seal = lines[3].rsplit(b',"seal":', 1)
    form = row.removeprefix(b'{"event":').replace(b'"way":"portal"', b'"way":"forged"')
    place = json.loads(seal.rstrip()[:-1])
    place["hash"] = link_hash(place["index"], place["previous"], row_hash(form))
    forged = json.dumps(place, separators=(",", ":"), sort_keys=True).encode()
    lines[3] = b'{"event":' + form + b',"seal":' + forged + b"}\n"
    excerpt.write_bytes(b"".join(lines))

    assert "is not the one that stands here" in problem(excerpt, whole)


def test_whole_that_was_changed_is_found_first(files):
    excerpt, whole = files
    whole.write_bytes(whole.read_bytes().replace(b'"way":"portal"', b'"way":"forged"', 1))

    assert "not the row that was sealed" in problem(excerpt, whole)


def test_whole_from_before_the_excerpt_is_said_to_be_that_perhaps(files):
    excerpt, whole = files
    before = whole.read_bytes()
    fill(3, seed=5)
    later, _ = take_checkpoint()
    ids = list(HistoryEvent.objects.order_by("-pk").values_list("pk", flat=True))[:2]
    excerpt.write_bytes(b"".join(excerpt_lines({"filter": {}}, iter(rows_with_seals(ids)), later.note)))
    whole.write_bytes(before)

    assert (
        problem(excerpt, whole).count("or it was exported before the excerpt was: export it once more") == 2
    )


def test_row_that_is_changed_ends_the_excerpt(files):
    seal = HistorySeal.objects.earliest("index")
    with (
        tampered(f"UPDATE enrollments_historyevent SET reason = 'x' WHERE id = {seal.event_id}"),
        pytest.raises(HistoryDisagrees, match="is not the row that was sealed as #1"),
    ):
        rows_with_seals([seal.event_id])


def test_row_that_is_gone_ends_the_excerpt(files):
    seal = HistorySeal.objects.earliest("index")
    with (
        tampered(f"DELETE FROM enrollments_historyseal WHERE event_id = {seal.event_id}"),
        pytest.raises(HistoryDisagrees, match="has no seal"),
    ):
        rows_with_seals([seal.event_id])
