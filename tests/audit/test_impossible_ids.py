"""Rows whose ID no row of the history can have: both verifiers name them, and nobody is held up by them."""

import contextlib
import importlib
from collections.abc import Iterator

import pytest
from django.test import Client

from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.enrollments_together import add_individual_enrollments
from enrollments.audit import checkpoints
from enrollments.audit.canonical import link_hash, row_hash
from enrollments.audit.chain import head, sealed_rows
from enrollments.audit.sealer import BATCH, seal_everything
from enrollments.audit.verify_database import verify_database
from enrollments.models import AttestationMechanism, HistoryEvent, HistorySeal, UnsealedEvent
from enrollments.models.history import LAST
from enrollments.policy.roles import Role
from tests.audit.histories import execute, fill
from tests.audit.loose import LOOSE_EVENTS, LOOSE_LIST
from tests.audit.tampering import (
    COLUMNS,
    EVENT,
    ON_SQLITE,
    SEAL,
    WAITING,
    WITH_TRIGGERS,
    by_us,
    copied,
    found_by_tool,
    tampered,
    undone,
    updated,
)
from tests.devices import ALICE, enroll_keys, new_service
from tests.factories import a_user

pytestmark = pytest.mark.django_db
only_sqlite = pytest.mark.skipif(not ON_SQLITE, reason="the tool reads files of SQLite")

# As SQL writes them, and how a problem names them: what is no whole number cannot be named.
IDS = {str(number): number for number in (0, -1, -5, LAST + 1, LAST + 6, 2**63 - 1, -(2**63))}
ODD = ("NULL", "'x'", "x'00ff'", "CAST(x'ff' AS TEXT)", "17.5", "1e300", "-1e300") if ON_SQLITE else ("NULL",)


@pytest.fixture
def service():
    fill(20)
    one = new_service("plant")
    enroll_keys(one, "pump-042")
    checkpoints.make_checkpoint()
    return one


def an_event(written: str) -> str:
    """A row of this ID, in the service."""
    return (
        f"INSERT INTO {EVENT} (id, {COLUMNS}) SELECT {written}, {COLUMNS} FROM {EVENT} "
        f"WHERE id = (SELECT MAX(id) FROM {EVENT} WHERE subject_name = 'pump-042' AND id < 1000000)"
    )


def put_in(written: str, *, listed: bool = False) -> list[str]:
    loose = [*LOOSE_EVENTS, *LOOSE_LIST] if written in ODD else []
    on_the_list = [f"INSERT INTO {WAITING} (event_id) VALUES ({written})"] if listed else []
    return [*loose, an_event(written), *on_the_list]


WAYS = {
    f"{written}{', waiting' if listed else ''}": (put_in(written, listed=listed), IDS.get(written))
    for written in (*IDS, *ODD)
    for listed in (False, True)
} | {
    f"{written}, on the list alone": (
        [*(LOOSE_LIST if written in ODD else []), f"INSERT INTO {WAITING} (event_id) VALUES ({written})"],
        IDS.get(written),
    )
    for written in (*IDS, *ODD)
}


def test_each_is_named(service):
    keys, found = [checkpoints.verifier_key()], {}
    for name, (statements, _) in WAYS.items():
        with tampered(*statements):
            found[name] = by_us(verify_database, keys)

    assert found == {name: (None, event_id) for name, (_, event_id) in WAYS.items()}
    assert verify_database(keys).ok


@only_sqlite
@pytest.mark.django_db(transaction=True)
def test_each_is_named_by_the_tool(service, tmp_path):
    found = {
        name: found_by_tool(copied(tmp_path / f"copy-{number}.sqlite3", *statements))
        for number, (name, (statements, _)) in enumerate(WAYS.items())
    }

    assert found == {name: (None, event_id) for name, (_, event_id) in WAYS.items()}


def sealed(event_id: int) -> list[str]:
    """A row of an ID that there cannot be, and a seal of it that fits."""
    with tampered(an_event(str(event_id))):
        form, last = _form(event_id), head()
        hash = link_hash(last.size + 1, last.hash, row_hash(form))
    values = f"{last.size + 1}, {event_id}, '{last.hash}', '{hash}'"
    seal = f'INSERT INTO {SEAL} ("index", event_id, previous_hash, hash) VALUES ({values})'
    return [an_event(str(event_id)), seal]


def _form(event_id: int) -> bytes:
    """As any verifier works it out for a seal of this row."""
    with undone():
        execute(
            f"INSERT INTO {SEAL} (\"index\", event_id, previous_hash, hash) VALUES (5000, {event_id}, 'x', 'x')"
        )
        *_, row = sealed_rows(5000)
        assert row.form is not None
        return row.form


@pytest.mark.parametrize("event_id", [-5, 0, LAST + 6, 2**63 - 1])
def test_one_that_was_sealed_is_named_as_well(service, event_id):
    with tampered(*sealed(event_id)):
        found = by_us(verify_database, [checkpoints.verifier_key()])

    assert found == (None, event_id)


@only_sqlite
@pytest.mark.django_db(transaction=True)
def test_one_that_was_sealed_is_named_by_the_tool(service, tmp_path):
    copy = copied(tmp_path / "copy.sqlite3", *sealed(LAST + 6))

    assert found_by_tool(copy) == (None, LAST + 6)


@only_sqlite
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("written", ["x'ff'", "'x'", "NULL", "1e300"])
def test_seal_of_what_is_no_id_is_named_by_both(service, tmp_path, written):
    statements = [
        f"CREATE TABLE loose AS SELECT * FROM {SEAL}",
        f"DROP TABLE {SEAL}",
        f"ALTER TABLE loose RENAME TO {SEAL}",
        f'UPDATE {SEAL} SET event_id = {written} WHERE "index" = 7',
    ]
    with tampered(*statements):
        ours = by_us(verify_database, [checkpoints.verifier_key()])

    assert ours == found_by_tool(copied(tmp_path / "copy.sqlite3", *statements)) == (7, None)


# --- Nobody is held up -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def put_in_all_the_same(*statements: str) -> Iterator[None]:
    """As `tampered`, and with the triggers there again, as whoever did it would leave them."""
    with tampered(*statements):
        for name in reversed(WITH_TRIGGERS):
            migration = importlib.import_module(f"enrollments.migrations.{name}")
            for statement in migration.SQLITE if ON_SQLITE else migration.POSTGRESQL:
                execute(statement)
        yield


def pages(service, newest: int) -> list[str]:
    return [
        "/history/",
        f"/services/{service.name}/history/",
        f"/services/{service.name}/history/?event=shuts-out",
        f"/services/{service.name}/history/rows/{newest}/",
        f"/services/{service.name}/registrations/pump-042/history/",
        "/history/checkpoint/",
        *(f"/services/{service.name}/history/export/?format={form}" for form in ("jsonl", "csv", "xlsx")),
    ]


# On PostgreSQL a table whose IDs can be empty has been made to give none.
GIVES_NONE = set() if ON_SQLITE else {"NULL", "NULL, waiting"}


@pytest.mark.parametrize("name", [name for name in WAYS if name not in GIVES_NONE])
def test_nobody_is_held_up(service, name, client: Client):
    client.force_login(a_user(Role.AUDITOR, None))
    with put_in_all_the_same(*WAYS[name][0]):
        disable_enrollment(service, "pump-042", actor=ALICE, reason="stolen")
        newest = HistoryEvent.objects.get(event="enrollment.disabled", reason="stolen")
        seal_everything()

        assert HistorySeal.objects.filter(event_id=newest.pk).exists()
        for address in pages(service, newest.pk):
            answer = client.get(address)
            # One that is shown, has no seal and waits for none is in no export: none is made that would have it.
            is_refused = "/export/" in address and name.removeprefix("-").isdigit()
            assert answer.status_code == (409 if is_refused else 200), address
            content = b"".join(answer.streaming_content) if answer.streaming else answer.content
            assert content
            assert not is_refused or b"has no seal" in content
        export = client.get(f"/services/{service.name}/history/export/?format=jsonl&reason=stolen")
        assert export.status_code == 200
        assert b'"reason":"stolen"' in b"".join(export.streaming_content)
        assert by_us(verify_database, [checkpoints.verifier_key()]) == (None, WAYS[name][1])


def test_several_changes_at_once_are_possible(service):
    specs = [
        IndividualSpec(registration_id=f"pump-{number}", mechanism=AttestationMechanism.SYMMETRIC_KEY)
        for number in range(7)
    ]
    # Three IDs are left before the last one, and then none.
    with put_in_all_the_same(*put_in(str(LAST - 3), listed=True)):
        add_individual_enrollments(service, specs, actor=ALICE)
        seal_everything()

        added = HistoryEvent.objects.filter(event="enrollment.added", subject_name__startswith="pump-")
        assert sorted(added.exclude(subject_name="pump-042").values_list("subject_name", flat=True)) == [
            spec.registration_id for spec in specs
        ]
        assert not UnsealedEvent.objects.exists()
        assert verify_database([checkpoints.verifier_key()]).ok


@pytest.mark.parametrize("event_id", [-5, LAST + 6])
def test_portal_shows_the_row_without_a_link_and_goes_on_beyond_it(service, event_id, client: Client):
    client.force_login(a_user(Role.AUDITOR, None))
    ids = range(event_id, event_id - 30, -1) if event_id < 0 else range(event_id, event_id + 30)
    with put_in_all_the_same(*(an_event(str(one)) for one in ids)):
        url, shown, links = f"/services/{service.name}/history/", set(), ""
        page = url
        while page:
            answer = client.get(page)
            shown |= {row.event.pk for row in answer.context["rows"]}
            links += answer.content.decode()
            page = answer.context["page"].next_url and f"{url}{answer.context['page'].next_url}"
            assert len(links) < 10_000_000, "the pages come to an end"

        assert shown == set(HistoryEvent.objects.filter(service_id=service.pk).values_list("pk", flat=True))
        assert f"no row of the history can have the ID {event_id}" in links
        assert f"/rows/{event_id}/" not in links

        told = client.post(f"{url}checkpoint/check/").content.decode()
        assert "no row of the history can have its ID" in told
        assert "Look at this row" not in told


def test_row_that_cannot_be_sealed_is_named_behind_many_that_wait(service):
    fill(BATCH + 20, seed=9)
    with tampered(
        an_event("900000"),
        updated(EVENT, "before", "'null'", "id = 900000"),
        f"INSERT INTO {WAITING} (event_id) VALUES (900000)",
    ):
        found = by_us(verify_database, [checkpoints.verifier_key()])

    assert found == (None, 900000)
