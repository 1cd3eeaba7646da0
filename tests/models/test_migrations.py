"""Migrations run while the version before still serves: first expand, and contract a version later.

From 0021 on, each says what the version before makes of it: `WHILE_SERVING = "…"`. Whatever could break that version,
or hold up a table that devices write to, says there why it may, and is named here. docs/scaling.md has the rule in
words.
"""

from collections.abc import Iterator

import pytest
from django.db import connection, migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from enrollments.models.migrating import AddIndexMeanwhile

LAST_BEFORE_THE_RULE = 20
# In which something is found: whoever adds one here has read in its WHILE_SERVING why it may be so.
MAY_ALL_THE_SAME = {
    "0021_search_by_beginning",
    "0029_unfit_leaves",
    "0030_history_takes_what_belongs",
    "0033_agreed_on",
}
HARMLESS = (
    migrations.CreateModel,
    migrations.AlterModelOptions,
    migrations.AlterModelManagers,
    migrations.SeparateDatabaseAndState,
)
GONE_FOR_THE_VERSION_BEFORE = (
    migrations.DeleteModel,
    migrations.RemoveField,
    migrations.RenameField,
    migrations.RenameModel,
    migrations.AlterModelTable,
)


def problems_of(migration: migrations.Migration, before: ProjectState) -> Iterator[str]:
    """What the version before would trip over, or wait for."""
    state, new = before.clone(), set()
    for operation in migration.operations:
        if isinstance(operation, migrations.CreateModel):
            new.add(operation.name_lower)
        elif getattr(operation, "model_name_lower", None) not in new:
            yield from _problems_of(operation, migration, state)
        operation.state_forwards("enrollments", state)
    if migration.atomic and len(touched := _tables_locked(migration.operations, new)) > 1:
        yield f"{', '.join(sorted(touched))}: locked in one transaction, in which registrations deadlock with it"


def _tables_locked(operations: list[Operation], new: set[str]) -> set[str]:
    """Those that exist already; to refer to one locks it too."""
    names = set()
    for operation in operations:
        names.add(getattr(operation, "model_name_lower", getattr(operation, "name_lower", "")))
        fields = dict(getattr(operation, "fields", ())).values()
        for field in (*fields, *filter(None, [getattr(operation, "field", None)])):
            if field.remote_field:
                names.add(str(field.remote_field.model).lower().removeprefix("enrollments."))
    return names - new - {""}


def _problems_of(operation: Operation, migration: migrations.Migration, state: ProjectState) -> Iterator[str]:
    what = operation.describe()
    if isinstance(operation, GONE_FOR_THE_VERSION_BEFORE):
        yield f"{what}: the version before still reads it"
    elif isinstance(operation, migrations.AddField):
        if not (operation.field.many_to_many or operation.field.null or _has_db_default(operation.field)):
            yield f"{what}: rows that the version before adds leave it out; give it null or db_default"
    elif isinstance(operation, migrations.AlterField):
        old = state.models["enrollments", operation.model_name_lower].fields[operation.name]
        if _is_altered(old, operation):
            yield (
                f"{what}: the version before has it otherwise, and may have prepared statements that fail then; the "
                "table may be written anew"
            )
    elif isinstance(operation, AddIndexMeanwhile):
        if migration.atomic or len(migration.operations) > 1:
            yield f"{what}: needs atomic = False, and a migration of its own"
    elif isinstance(operation, migrations.AddIndex):
        yield f"{what}: nobody can write meanwhile; see AddIndexMeanwhile"
    elif isinstance(operation, migrations.AddConstraint):
        yield f"{what}: all rows are looked at under a lock, and what the version before writes may break it"
    elif isinstance(operation, migrations.RunPython | migrations.RunSQL):
        yield f"{what}: nobody knows for how long it locks what"
    elif not isinstance(operation, (*HARMLESS, migrations.RemoveIndex, migrations.RemoveConstraint)):
        yield f"{what}: nothing is known of it here"


def _has_db_default(field: models.Field) -> bool:
    return field.db_default is not models.NOT_PROVIDED


def _is_altered(old: models.Field, operation: migrations.AlterField) -> bool:
    """Choices, help and the like are nothing to a database."""
    new = operation.field
    for field in (old, new):
        field.set_attributes_from_name(operation.name)
    return connection.SchemaEditorClass(connection)._field_should_be_altered(old, new)


def later_migrations() -> list[tuple[str, migrations.Migration, ProjectState]]:
    loader = MigrationLoader(None, ignore_no_migrations=True)
    ours = sorted(name for app, name in loader.disk_migrations if app == "enrollments")
    return [
        (
            name,
            loader.disk_migrations["enrollments", name],
            loader.project_state(("enrollments", name), at_end=False),
        )
        for name in ours
        if int(name[:4]) > LAST_BEFORE_THE_RULE
    ]


@pytest.mark.django_db
def test_each_can_run_while_the_version_before_serves_or_says_why_it_may():
    found = {name: [*problems_of(migration, before)] for name, migration, before in later_migrations()}

    assert [f"{name}: {one}" for name in found.keys() - MAY_ALL_THE_SAME for one in found[name]] == []
    assert [name for name in sorted(MAY_ALL_THE_SAME) if not found[name]] == [], "nothing is to be excused"


@pytest.mark.django_db
def test_each_says_what_the_version_before_makes_of_it():
    """What it does with values that it does not know, nobody can find out by looking at operations."""
    found = [
        name for name, one, _ in later_migrations() if not getattr(one, "WHILE_SERVING", "").endswith(".")
    ]

    assert found == [], "say what the version before makes of it, or that it has to be stopped"


NEW = models.Index(fields=["device_id"], name="new_index")
RISKY = [
    migrations.RemoveField("registrationrecord", "substatus"),
    migrations.RenameField("registrationrecord", "substatus", "other"),
    migrations.DeleteModel("QuietPeriod"),
    migrations.RenameModel("QuietPeriod", "Pause"),
    migrations.AddField("registrationrecord", "new", models.IntegerField(default=0)),
    migrations.AlterField("registrationrecord", "assigned_at", models.DateTimeField()),
    migrations.AlterField("registrationrecord", "entry_name", models.CharField(max_length=10)),
    migrations.AddIndex("registrationrecord", NEW),
    AddIndexMeanwhile("registrationrecord", NEW),
    migrations.AddConstraint(
        "registrationrecord", models.CheckConstraint(name="new", condition=~models.Q(device_id="x"))
    ),
    migrations.RunPython(migrations.RunPython.noop),
    migrations.RunSQL("SELECT 1"),
    migrations.AlterUniqueTogether("registrationrecord", {("service", "device_id")}),
]
FINE = [
    migrations.AddField("registrationrecord", "new", models.IntegerField(null=True)),
    migrations.AddField("registrationrecord", "new", models.IntegerField(db_default=0)),
    migrations.AlterField(
        "registrationrecord", "entry_name", models.CharField(max_length=128, blank=True, help_text="x")
    ),
    migrations.RemoveIndex("registrationrecord", "registration_by_age"),
    migrations.CreateModel("New", [("id", models.BigAutoField(primary_key=True))]),
]


def migration_of(*operations: Operation, atomic: bool = True) -> migrations.Migration:
    migration = migrations.Migration("9999_new", "enrollments")
    migration.operations, migration.atomic = list(operations), atomic
    return migration


@pytest.fixture(scope="module")
def today() -> ProjectState:
    return MigrationLoader(None).project_state()


@pytest.mark.django_db
@pytest.mark.parametrize("operation", RISKY, ids=lambda one: one.describe())
def test_what_the_version_before_would_trip_over_is_found(operation, today):
    assert list(problems_of(migration_of(operation), today))


@pytest.mark.django_db
@pytest.mark.parametrize("operation", FINE, ids=lambda one: one.describe())
def test_what_it_does_not_notice_needs_no_reason(operation, today):
    assert list(problems_of(migration_of(operation), today)) == []
    assert (
        list(problems_of(migration_of(AddIndexMeanwhile("registrationrecord", NEW), atomic=False), today))
        == []
    )


@pytest.mark.django_db
def test_two_tables_in_one_transaction_are_found(today):
    one, other = (
        migrations.AddField(model, "new", models.IntegerField(null=True))
        for model in ("linkedhub", "hubdevice")
    )
    refers = migrations.CreateModel(
        "New", [("one", models.ForeignKey("enrollments.HubDevice", models.CASCADE))]
    )

    assert list(problems_of(migration_of(one, other), today))
    assert list(problems_of(migration_of(one, refers), today))
    assert list(problems_of(migration_of(refers, other), today)) == []
    assert list(problems_of(migration_of(one, other, atomic=False), today)) == []


@pytest.mark.django_db(transaction=True)
def test_an_index_is_added_meanwhile(today):
    operation = AddIndexMeanwhile("registrationrecord", NEW)
    after = today.clone()
    operation.state_forwards("enrollments", after)
    table = "enrollments_registrationrecord"

    def names() -> set[str]:
        with connection.cursor() as cursor:
            return set(connection.introspection.get_constraints(cursor, table))

    with connection.schema_editor(atomic=False) as editor:
        operation.database_forwards("enrollments", editor, today, after)
    added = names()
    with connection.schema_editor(atomic=False) as editor:
        operation.database_backwards("enrollments", editor, after, today)

    assert added - names() == {"new_index"}
