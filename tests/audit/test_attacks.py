"""What somebody with the database, its triggers gone, may try: both verifiers say it in a sentence that tells where."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from enrollments.audit import checkpoints
from enrollments.audit.canonical import link_hash, row_hash
from enrollments.audit.chain import sealed_rows
from enrollments.audit.export import export_lines
from enrollments.audit.notes import BadNote, Checkpoint, SigningKey, VerifierKey
from enrollments.audit.sealer import seal_everything
from enrollments.audit.verify_database import verify_database
from enrollments.audit.verify_export import verify_export
from enrollments.errors import HistoryDisagrees
from enrollments.models import HistoryCheckpoint, HistorySeal
from enrollments.models.history import LAST
from tests.audit.histories import execute, fill
from tests.audit.tampering import (
    CHECKPOINT,
    COLUMNS,
    EVENT,
    ON_SQLITE,
    SEAL,
    WAITING,
    by_tool,
    copied,
    key,
    tampered,
    undone,
    updated,
    with_triggers,
    without_triggers,
)

ROWS, HIT = 40, 25
only_sqlite = pytest.mark.skipif(not ON_SQLITE, reason="the tool reads files of SQLite")
pytestmark = [pytest.mark.django_db(transaction=True), only_sqlite]


@dataclass(frozen=True)
class World:
    """A history of which half and all was signed. `notes`: what was signed, kept by somebody; `ids`: by place."""

    notes: list[str]
    ids: dict[int, int]

    @property
    def row(self) -> int:
        return self.ids[HIT]


@pytest.fixture
def world() -> World:
    notes = []
    for seed in (1, 2):
        fill(ROWS // 2, seed=seed)
        notes.append(checkpoints.make_checkpoint().note)
    return World(notes, dict(HistorySeal.objects.values_list("index", "event_id")))


def sealed_by(place: int, event_id: int, previous: str) -> str:
    """A seal that fits the row with this ID, at a place: no key is needed for that."""
    form = next(row.form for row in sealed_rows(ROWS) if row.event_id == event_id)
    assert form is not None
    values = f"{place}, {event_id}, '{previous}', '{link_hash(place, previous, row_hash(form))}'"
    return f'INSERT INTO {SEAL} ("index", event_id, previous_hash, hash) VALUES ({values})'


# SQLite has no way to take a constraint away, but a table can be made anew.
LOOSE_SEALS = (
    f"CREATE TABLE loose AS SELECT * FROM {SEAL}",
    f"DROP TABLE {SEAL}",
    f"ALTER TABLE loose RENAME TO {SEAL}",
)


def last_hash() -> str:
    return HistorySeal.objects.get(pk=ROWS).hash


def swap_ids(one: int, other: int) -> tuple[str, ...]:
    return (
        f"UPDATE {EVENT} SET id = -{one} WHERE id = {one}",
        f"UPDATE {EVENT} SET id = {one} WHERE id = {other}",
        f"UPDATE {EVENT} SET id = {other} WHERE id = -{one}",
    )


NOT_THE_ROW = "it is not the row that was sealed"
# What is done, and what both have to say, place and row included.
ATTACKS: dict[str, tuple[Callable[[World], tuple[str, ...]], Callable[[World], str]]] = {
    "one event has two seals, the second of which fits": (
        lambda w: (*LOOSE_SEALS, sealed_by(ROWS + 1, w.row, last_hash())),
        lambda w: f"#{ROWS + 1} row {w.row}: it stands at #{HIT} already, and has a second seal here",
    ),
    "two seals are of one event": (
        lambda w: (*LOOSE_SEALS, updated(SEAL, "event_id", str(w.ids[HIT - 1]), f'"index" = {HIT}')),
        lambda w: f"#{HIT} row {w.ids[HIT - 1]}: {NOT_THE_ROW}",
    ),
    "two seals have one place": (
        lambda w: (
            *LOOSE_SEALS,
            f'INSERT INTO {SEAL} SELECT "index", previous_hash, hash, event_id FROM {SEAL} WHERE "index" = {HIT}',
        ),
        lambda w: f"#{HIT + 1}: #{HIT} stands in its place",
    ),
    "two events change IDs": (
        lambda w: swap_ids(w.row, w.ids[HIT + 3]),
        lambda w: f"#{HIT} row {w.row}: {NOT_THE_ROW}",
    ),
    "an event comes into another service": (
        lambda w: (
            updated(EVENT, "service_id", "9001", f"id = {w.row}"),
            updated(EVENT, "service_name", "'service-9001'", f"id = {w.row}"),
        ),
        lambda w: f"#{HIT} row {w.row}: {NOT_THE_ROW}",
    ),
    "an event belongs to no service": (
        lambda w: (updated(EVENT, "service_id", "NULL", f"id = {w.row}"),),
        lambda w: f"#{HIT} row {w.row}: {NOT_THE_ROW}",
    ),
    "an event is about another object": (
        lambda w: (updated(EVENT, "subject_id", "subject_id + 1", f"id = {w.row}"),),
        lambda w: f"#{HIT} row {w.row}: {NOT_THE_ROW}",
    ),
    "what two events say changes places": (
        lambda w: tuple(
            updated(EVENT, name, f"(SELECT {name} FROM {EVENT} WHERE id = {w.ids[HIT + 3]})", f"id = {w.row}")
            for name in ("subject_id", "subject_name", "request_id", "at")
        ),
        lambda w: f"#{HIT} row {w.row}: {NOT_THE_ROW}",
    ),
    "the first row is gone": (
        lambda w: (f"DELETE FROM {EVENT} WHERE id = {w.ids[1]}", f'DELETE FROM {SEAL} WHERE "index" = 1'),
        lambda w: "#1: its seal is missing: the first is #2",
    ),
    "rows in the middle are gone": (
        lambda w: (
            f"DELETE FROM {EVENT} WHERE id BETWEEN {w.row} AND {w.ids[HIT + 3]}",
            f'DELETE FROM {SEAL} WHERE "index" BETWEEN {HIT} AND {HIT + 3}',
        ),
        lambda w: f"#{HIT}: its seal is missing: after #{HIT - 1} comes #{HIT + 4}",
    ),
    "all is gone but the checkpoints": (
        lambda w: (f"DELETE FROM {EVENT}", f"DELETE FROM {SEAL}"),
        lambda w: "#1: the history was cut off",
    ),
    "a row is taken off the list of those that wait": (
        lambda w: (
            f"INSERT INTO {EVENT} (id, {COLUMNS}) SELECT id + 500, {COLUMNS} FROM {EVENT} WHERE id = {w.row}",
        ),
        lambda w: f"row {w.row + 500}: it has no seal and is not among the rows that wait for one",
    ),
    "strangers far behind the last row": (
        lambda w: (
            f"INSERT INTO {EVENT} (id, {COLUMNS}) SELECT {LAST}, {COLUMNS} FROM {EVENT} WHERE id = {w.row}",
            f"INSERT INTO {EVENT} (id, {COLUMNS}) SELECT id + 1000000, {COLUMNS} FROM {EVENT} WHERE id = {w.row}",
        ),
        lambda w: f"row {w.row + 1_000_000}: it has no seal and is not among the rows that wait for one",
    ),
    "a stranger has the last ID that there is": (
        lambda w: (
            f"INSERT INTO {EVENT} (id, {COLUMNS}) SELECT {LAST}, {COLUMNS} FROM {EVENT} WHERE id = {w.row}",
        ),
        lambda w: f"row {LAST}: it has no seal and is not among the rows that wait for one",
    ),
    "a row waits that is sealed": (
        lambda w: (f"INSERT INTO {WAITING} (event_id) VALUES ({w.row})",),
        lambda w: f"row {w.row}: it is on the list of rows that wait for their seal, and has it",
    ),
    "a checkpoint of the database says another number of rows": (
        lambda w: (f"UPDATE {CHECKPOINT} SET size = {HIT} WHERE size = {ROWS}",),
        lambda w: "is not what was signed",
    ),
    "a checkpoint of the database is signed by us and of another time": (
        lambda w: (f"UPDATE {CHECKPOINT} SET at = '2026-01-01 00:00:00' WHERE size = {ROWS}",),
        lambda w: "is not what was signed",
    ),
    "a checkpoint of the database has a forged origin": (
        lambda w: (f"UPDATE {CHECKPOINT} SET note = 'x' || note WHERE size = {ROWS}",),
        lambda w: "is not what was signed",
    ),
    "a checkpoint of the database is another one's": (
        lambda w: (
            f"UPDATE {CHECKPOINT} SET note = (SELECT note FROM {CHECKPOINT} WHERE size = {ROWS // 2})",
        ),
        lambda w: "is not what was signed",
    ),
}


def told_by_us(*kept: str) -> str:
    problem = verify_database([checkpoints.verifier_key()], kept).problem
    return str(problem or "")


def told_by_tool(path: Path, *more: str) -> str:
    """The sentence, as people see it."""
    done = by_tool(path, *more, as_json=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.partition("The history is not as it was sealed. ")[2].strip()


@pytest.mark.parametrize("attack", ATTACKS)
def test_both_say_what_was_done_to_the_database(world, attack, tmp_path):
    do, sentence = ATTACKS[attack]
    statements, wanted = do(world), sentence(world)

    with tampered(*statements):
        ours = told_by_us()
    tools = told_by_tool(copied(tmp_path / "copy.sqlite3", *statements))

    assert (wanted in ours, wanted in tools) == (True, True), (ours, tools)
    assert "\n" not in ours + tools


# --- What was signed ---------------------------------------------------------------------------------------------

MALLORY, OTHER = SigningKey(b"m" * 32), SigningKey(b"o" * 32)


def signed_as(name: str, signer: SigningKey, text: str) -> str:
    """A note that bears a name, signed with a key of another."""
    return signer.signed(text).replace(f"— {signer.verifier.name} ", f"— {name} ")


def text_of(note: str) -> str:
    return note.partition("\n\n")[0] + "\n"


def our_name() -> str:
    return checkpoints.verifier_key().name


FORGED: dict[str, tuple[Callable[[World], str], str, str]] = {
    "a forged origin": (
        lambda w: w.notes[-1].replace(our_name(), "dpsportal-history-0000000000000000", 1),
        "The signature of {name} does not fit this checkpoint",
        "{name} did not sign this",
    ),
    "an origin that another key of ours would have": (
        lambda w: checkpoints.signing_key().signed(text_of(w.notes[-1]).replace(our_name(), "another", 1)),
        "This checkpoint, which {name} signed, is of another history: another",
        "a checkpoint that {name} signed is of another history, another",
    ),
    "another number of rows": (
        lambda w: w.notes[-1].replace(f"\n{ROWS}\n", f"\n{HIT}\n"),
        "The signature of {name} does not fit this checkpoint",
        "{name} did not sign this",
    ),
    "another time": (
        lambda w: w.notes[-1].replace("time 20", "time 19"),
        "The signature of {name} does not fit this checkpoint",
        "{name} did not sign this",
    ),
    "signed by somebody under our name": (
        lambda w: signed_as(our_name(), MALLORY, text_of(w.notes[-1])),
        "names {name} as its signer, and was signed with another key",
        "names {name} as its signer, and was signed with another key",
    ),
    "signed by somebody else": (
        lambda w: MALLORY.signed(text_of(w.notes[-1])),
        f"signed by {MALLORY.verifier.name}, whose verifier key is not known here",
        f"signed by {MALLORY.verifier.name}, and no such key was given",
    ),
    "of another installation": (
        lambda w: OTHER.signed(Checkpoint(OTHER.verifier.name, 7, "ab" * 32, NOW).text()),
        f"signed by {OTHER.verifier.name}, whose verifier key is not known here",
        f"signed by {OTHER.verifier.name}, and no such key was given",
    ),
}
NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize("case", FORGED)
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "after a good one"])
def test_both_refuse_a_checkpoint_that_was_kept_and_forged(world, case, alone, tmp_path):
    forge, ours, tools = FORGED[case]
    kept, note = tmp_path / "kept.txt", forge(world)
    kept.write_text(note if alone else f"{world.notes[0]}\n{note}")

    with pytest.raises(CommandError) as refused:
        call_command("audit_verify", "--checkpoint", str(kept), stdout=StringIO())
    done = by_tool(copied(tmp_path / "copy.sqlite3"), "--checkpoint", str(kept), as_json=False)

    # By whom nobody is known here is no sign that anything was changed; it is no proof either.
    code = 2 if case in BY_STRANGERS else 1
    assert (refused.value.returncode, done.returncode) == (code, code)
    assert ours.format(name=our_name()) in str(refused.value)
    assert tools.format(name=our_name()) in done.stdout + done.stderr
    assert ("The history is not as it was sealed" in done.stdout) == (code == 1)
    assert "Every sealed row" not in done.stdout


BY_STRANGERS = {"signed by somebody else", "of another installation"}


@pytest.mark.parametrize("stranger", [MALLORY, OTHER], ids=["somebody", "another installation"])
def test_checkpoint_by_somebody_unknown_hides_nothing_that_was_changed(world, stranger, tmp_path):
    """Whoever changes a row, and hands a note of their own over with it, is found as without that note."""
    kept = tmp_path / "kept.txt"
    kept.write_text(stranger.signed(text_of(world.notes[-1])))
    changed = updated(EVENT, "actor_name", "'mallory'", f"id = {world.row}")

    with tampered(changed), pytest.raises(CommandError) as refused:
        call_command("audit_verify", "--checkpoint", str(kept), stdout=StringIO())
    done = by_tool(copied(tmp_path / "copy.sqlite3", changed), "--checkpoint", str(kept), as_json=False)

    assert (refused.value.returncode, done.returncode) == (1, 1)
    assert f"#{HIT}" in str(refused.value)
    assert f"#{HIT}" in done.stdout


def test_checkpoint_that_lost_its_form_on_the_way_is_not_passed_over(world, tmp_path):
    """Two of them in a file, of which a mail program made something of the second."""
    kept, copy = tmp_path / "kept.txt", copied(tmp_path / "copy.sqlite3")
    kept.write_text(f"{world.notes[0]}\n{world.notes[1].replace('—', '--')}")

    with pytest.raises(CommandError) as refused:
        call_command("audit_verify", "--checkpoint", str(kept), stdout=StringIO())

    assert "no checkpoint" in str(refused.value)
    assert "holds something that is no checkpoint" in told_by_tool(copy, "--checkpoint", str(kept))


def as_it_is_now(path: Path) -> Path:
    """What a transaction sees that is not done, as a file."""
    connection.ensure_connection()
    path.write_bytes(connection.connection.serialize())
    return path


def test_key_of_the_installation_that_was_exchanged_shows(world, settings, tmp_path):
    """Whoever has the machine signs anything, but not as before, and not what was signed before."""
    former = checkpoints.verifier_key()
    kept = tmp_path / "kept.txt"
    kept.write_text(world.notes[-1])
    settings.DPS_HISTORY_KEY = "A" * 43 + "="
    rewritten = (
        updated(EVENT, "actor_name", "'mallory'", f"id = {world.row}"),
        f"INSERT INTO {WAITING} (event_id) SELECT event_id FROM {SEAL}",
        f"DELETE FROM {SEAL}",
        f"DELETE FROM {CHECKPOINT}",
    )
    Path(checkpoints.settings.DPS_CHECKPOINT_FILE).unlink(missing_ok=True)

    with tampered(*rewritten):
        seal_everything()
        checkpoints.make_checkpoint()
        copy = as_it_is_now(tmp_path / "copy.sqlite3")
        assert told_by_us() == ""
        for statement in with_triggers():
            execute(statement)
        with pytest.raises(
            CommandError, match=f"signed by {former.name}, whose verifier key is not known here"
        ):
            call_command("audit_verify", "--checkpoint", str(kept), stdout=StringIO())
        with pytest.raises(CommandError, match=f"#{ROWS}: the checkpoint of .* for another row here"):
            call_command(
                "audit_verify", "--checkpoint", str(kept), "--verifier-key", str(former), stdout=StringIO()
            )

    by_former = by_tool(copy, "--checkpoint", str(kept), keys=(str(former),), as_json=False)
    # What this key signed contradicts the rows: that weighs more than what nobody here can check.
    assert by_former.returncode == 1
    assert f"#{ROWS}: the checkpoint of" in by_former.stdout
    by_both = by_tool(copy, "--checkpoint", str(kept), keys=(str(former), key()), as_json=False)
    assert f"#{ROWS}: the checkpoint of" in by_both.stdout


@pytest.mark.parametrize("and_goes_on", [False, True], ids=["as it was", "and goes on"])
def test_older_copy_of_the_database_that_was_put_back_shows(world, and_goes_on, tmp_path):
    """All of it, its triggers and checkpoints included. What tells is what was signed since, and is not in it."""
    half = ROWS // 2
    kept, copy = tmp_path / "kept.txt", tmp_path / "copy.sqlite3"
    kept.write_text(world.notes[-1])
    back = (
        f"DELETE FROM {EVENT} WHERE id > {world.ids[half]}",
        f'DELETE FROM {SEAL} WHERE "index" > {half}',
        f"DELETE FROM {CHECKPOINT} WHERE size > {half}",
    )
    Path(checkpoints.settings.DPS_CHECKPOINT_FILE).write_text(f"{world.notes[-1]}\n")
    with undone():
        for statement in (*without_triggers(), *back):
            execute(statement)
        for statement in with_triggers():
            execute(statement)
        if and_goes_on:
            fill(ROWS, seed=9)
            seal_everything()
        with pytest.raises(CommandError) as ours:
            call_command("audit_verify", stdout=StringIO())
        with pytest.raises(HistoryDisagrees):
            checkpoints.make_checkpoint()
        as_it_is_now(copy)

    said = (
        f"#{ROWS}: the checkpoint of"
        if and_goes_on
        else f"#{half + 1}: the history was cut off: the checkpoint of"
    )
    assert said in str(ours.value)
    assert told_by_tool(copy) == ""
    assert said in told_by_tool(copy, "--checkpoint", str(kept))


# --- Exports -----------------------------------------------------------------------------------------------------

Lines = list[bytes]


def with_seal(line: bytes, **changed: object) -> bytes:
    row, seal = line[:-2].rsplit(b',"seal":', 1)
    return row + b',"seal":' + canonical(json.loads(seal) | changed) + b"}\n"


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sealed_anew(lines: Lines) -> Lines:
    """The chain of these rows, worked out anew: whoever has them can do that. The checkpoint stays."""
    previous, anew = "0" * 64, []
    for index, line in enumerate(lines[:-1], 1):
        form = line.rpartition(b',"seal":')[0].removeprefix(b'{"event":')
        hash = link_hash(index, previous, row_hash(form))
        anew.append(with_seal(line, index=index, previous=previous, hash=hash))
        previous = hash
    return [*anew, lines[-1]]


def replaced(old: bytes, new: bytes) -> Callable[[Lines], Lines]:
    def of(lines: Lines) -> Lines:
        line = lines[HIT - 1].replace(old, new, 1)
        assert line != lines[HIT - 1]
        return [*lines[: HIT - 1], line, *lines[HIT:]]

    return of


ANOTHER = f"#{ROWS}: the checkpoint of", "was signed for another row here"
EXPORTS: dict[str, tuple[Callable[[Lines], Lines], tuple[str, ...]]] = {
    "rows left out at the beginning": (lambda s: s[3:], ("#1: its seal is missing: the first is #4",)),
    "rows left out in the middle": (
        lambda s: [*s[: HIT - 1], *s[HIT + 3 :]],
        (f"#{HIT}: its seal is missing: after #{HIT - 1} comes #{HIT + 4}",),
    ),
    "rows left out at the end": (
        lambda s: [*s[: HIT - 1], s[-1]],
        (f"#{HIT}: the history was cut off: the checkpoint of", f"was signed for {ROWS} rows"),
    ),
    "a row left out and sealed anew": (
        lambda s: sealed_anew([*s[: HIT - 1], *s[HIT:]]),
        (f"#{ROWS}: the history was cut off",),
    ),
    "a row changed and sealed anew": (
        lambda s: sealed_anew(replaced(b'"way":"portal"', b'"way":"device"')(s)),
        ANOTHER,
    ),
    "two rows that change places, sealed anew": (
        lambda s: sealed_anew([*s[: HIT - 1], s[HIT], s[HIT - 1], *s[HIT + 1 :]]),
        ANOTHER,
    ),
    "a row twice, sealed anew": (
        lambda s: sealed_anew([*s[:HIT], s[HIT - 1], *s[HIT:]]),
        # The row with the last place is not covered.
        (f"#{ROWS + 1}: it is not covered by the checkpoint of the export",),
    ),
    "an earlier checkpoint at the end of all rows": (
        lambda s: [*s[:-1], canonical({"checkpoint": HistoryCheckpoint.objects.get(size=20).note}) + b"\n"],
        (f"#{ROWS // 2 + 1}: it is not covered by the checkpoint of the export",),
    ),
    "a detail in after": (replaced(b'"after":', b'"after" :'), (f"#{HIT}", NOT_THE_ROW)),
    "another actor": (replaced(b'"actor_name":"', b'"actor_name":"x'), (f"#{HIT}", NOT_THE_ROW)),
    "another second": (
        replaced(b'"at":"2026-01-01T00:00:0', b'"at":"2026-01-01T00:00:1'),
        (f"#{HIT}", NOT_THE_ROW),
    ),
    "another reason": (replaced(b'"reason":"', b'"reason":"x'), (f"#{HIT}", NOT_THE_ROW)),
    "another service": (replaced(b'"service_id":9002', b'"service_id":9001'), (f"#{HIT}", NOT_THE_ROW)),
    "no service": (replaced(b'"service_id":9002', b'"service_id":null'), (f"#{HIT}", NOT_THE_ROW)),
    "another object": (replaced(b'"subject_id":"', b'"subject_id":"1'), (f"#{HIT}", NOT_THE_ROW)),
    "another ID": (replaced(b'"id":', b'"id":9'), (f"#{HIT}", NOT_THE_ROW)),
    "another program": (replaced(b'"client":"', b'"client":"x'), (f"#{HIT}", NOT_THE_ROW)),
    "another place": (
        replaced(f'"index":{HIT}'.encode(), f'"index":{HIT + 100}'.encode()),
        (f"#{HIT}: its seal is missing: after #{HIT - 1} comes #{HIT + 100}",),
    ),
    "another hash": (
        lambda s: [*s[: HIT - 1], with_seal(s[HIT - 1], hash="a" * 64), *s[HIT:]],
        (f"#{HIT}", NOT_THE_ROW),
    ),
    "another hash before": (
        lambda s: [*s[: HIT - 1], with_seal(s[HIT - 1], previous="a" * 64), *s[HIT:]],
        (f"#{HIT}", "its seal does not follow the one before"),
    ),
}


@pytest.mark.parametrize("attack", EXPORTS)
def test_both_say_what_was_done_to_an_export(world, attack, tmp_path):
    do, wanted = EXPORTS[attack]
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"".join(do(list(export_lines(HistoryCheckpoint.objects.get(size=ROWS))))))

    with path.open("rb") as lines:
        ours = str(verify_export(lines, [checkpoints.verifier_key()]).problem or "")
    tools = told_by_tool(path)

    assert all(part in ours and part in tools for part in wanted), (ours, tools)


def test_export_of_another_installation_is_not_taken_for_ours(world, tmp_path, settings):
    own = str(checkpoints.verifier_key())
    settings.DPS_HISTORY_KEY = "A" * 43 + "="
    path = tmp_path / "export.jsonl"
    fill(1, seed=4)
    path.write_bytes(b"".join(export_lines(checkpoints.make_checkpoint())))

    with path.open("rb") as lines, pytest.raises(BadNote, match=f"signed by {our_name()}"):
        verify_export(lines, [VerifierKey.read(own)])
    done = by_tool(path, keys=(own,), as_json=False)

    assert done.returncode == 2
    assert f"signed by {our_name()}, and no such key was given" in done.stderr
    assert "0 of " in done.stderr  # rows that anybody vouches for
    with pytest.raises(CommandError, match=f"Not checked: .* signed by {OTHER.verifier.name}") as refused:
        call_command("audit_verify", str(signed_by(OTHER, path)), stdout=StringIO())
    assert refused.value.returncode == 2


def signed_by(signer: SigningKey, path: Path) -> Path:
    """The same export, as if somebody else had signed it."""
    *lines, last = path.read_bytes().splitlines(keepends=True)
    text = text_of(json.loads(last)["checkpoint"])
    end = json.dumps({"checkpoint": signer.signed(text)}, ensure_ascii=False, separators=(",", ":")) + "\n"
    path.write_bytes(b"".join([*lines, end.encode()]))
    return path


def test_export_by_somebody_unknown_in_which_a_row_was_changed_is_wrong(world, tmp_path):
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"".join(export_lines(HistoryCheckpoint.objects.order_by("size").last())))
    signed_by(MALLORY, path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[HIT - 1] = lines[HIT - 1].replace(b'"actor_kind":"', b'"actor_kind":"x', 1)
    path.write_bytes(b"".join(lines))

    with pytest.raises(CommandError, match=f"#{HIT}") as refused:
        call_command("audit_verify", str(path), stdout=StringIO())
    done = by_tool(path, as_json=False)

    assert (refused.value.returncode, done.returncode) == (1, 1)
    assert f"#{HIT}" in done.stdout
