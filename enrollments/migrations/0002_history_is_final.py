"""The database itself refuses to change or delete rows of the history (R15)."""

from django.db import migrations

TABLE = "enrollments_historyevent"

SQLITE = [
    f"CREATE TRIGGER history_no_{verb.lower()} BEFORE {verb} ON {TABLE} "
    "BEGIN SELECT RAISE(ABORT, 'rows of the history are never changed or deleted'); END"
    for verb in ("UPDATE", "DELETE")
]
POSTGRESQL = [
    """
    CREATE FUNCTION history_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'rows of the history are never changed or deleted'; END $$
    """,
    f"CREATE TRIGGER history_no_change BEFORE UPDATE OR DELETE ON {TABLE} "
    "FOR EACH ROW EXECUTE FUNCTION history_is_final()",
]
SQLITE_BACK = ["DROP TRIGGER history_no_update", "DROP TRIGGER history_no_delete"]
POSTGRESQL_BACK = [f"DROP TRIGGER history_no_change ON {TABLE}", "DROP FUNCTION history_is_final()"]


def add_triggers(apps, schema_editor):
    _run(schema_editor, SQLITE, POSTGRESQL)


def drop_triggers(apps, schema_editor):
    _run(schema_editor, SQLITE_BACK, POSTGRESQL_BACK)


def _run(schema_editor, sqlite, postgresql):
    for statement in postgresql if schema_editor.connection.vendor == "postgresql" else sqlite:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("enrollments", "0001_initial")]
    operations = [migrations.RunPython(add_triggers, drop_triggers)]
