"""Seals and checkpoints of the history, and who waits for a seal: kept up to date and final by triggers (R15)."""

from django.db import migrations, models

EVENTS = "enrollments_historyevent"
SEALS = "enrollments_historyseal"
CHECKPOINTS = "enrollments_historycheckpoint"
WAITING = "enrollments_unsealedevent"

# The names of what is final, and of the columns by which a row is found again.
FINAL = {"seals": (SEALS, '"index"'), "checkpoints": (CHECKPOINTS, "id")}
REFUSAL = "rows of the history are never changed or deleted"

SQLITE = [
    f"CREATE TRIGGER history_awaits_seal AFTER INSERT ON {EVENTS} "
    f"BEGIN INSERT INTO {WAITING} (event_id) VALUES (NEW.id); END",
    *(
        f"CREATE TRIGGER history_{name}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
        for name, (table, _) in FINAL.items()
        for verb in ("UPDATE", "DELETE")
    ),
    # INSERT OR REPLACE deletes the row that stands in its way without asking the triggers of DELETE.
    *(
        f"CREATE TRIGGER history_{name}_no_replace BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key}{also}) "
        f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
        for name, (table, key), also in (
            ("events", (EVENTS, "id"), ""),
            ("seals", FINAL["seals"], " OR event_id = NEW.event_id"),
            ("checkpoints", FINAL["checkpoints"], ""),
        )
    ),
]
SQLITE_BACK = [
    "DROP TRIGGER history_awaits_seal",
    *(f"DROP TRIGGER history_{name}_no_{verb}" for name in FINAL for verb in ("update", "delete")),
    *(f"DROP TRIGGER history_{name}_no_replace" for name in ("events", "seals", "checkpoints")),
]
POSTGRESQL = [
    f"""
    CREATE FUNCTION history_awaits_seal() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO {WAITING} (event_id) VALUES (NEW.id); RETURN NULL; END $$
    """,
    f"CREATE TRIGGER history_awaits_seal AFTER INSERT ON {EVENTS} "
    "FOR EACH ROW EXECUTE FUNCTION history_awaits_seal()",
    *(
        f"CREATE TRIGGER history_{name}_no_change BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION history_is_final()"
        for name, (table, _) in FINAL.items()
    ),
    *(
        f"CREATE TRIGGER history_{name}_no_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION history_is_final()"
        for name, table in (("events", EVENTS), ("seals", SEALS), ("checkpoints", CHECKPOINTS))
    ),
]
POSTGRESQL_BACK = [
    f"DROP TRIGGER history_awaits_seal ON {EVENTS}",
    "DROP FUNCTION history_awaits_seal()",
    *(f"DROP TRIGGER history_{name}_no_change ON {table}" for name, (table, _) in FINAL.items()),
    *(
        f"DROP TRIGGER history_{name}_no_truncate ON {table}"
        for name, table in (("events", EVENTS), ("seals", SEALS), ("checkpoints", CHECKPOINTS))
    ),
]


def add_triggers(apps, schema_editor):
    _run(schema_editor, SQLITE, POSTGRESQL)


def drop_triggers(apps, schema_editor):
    _run(schema_editor, SQLITE_BACK, POSTGRESQL_BACK)


def _run(schema_editor, sqlite, postgresql):
    for statement in postgresql if schema_editor.connection.vendor == "postgresql" else sqlite:
        schema_editor.execute(statement)


def let_former_rows_wait(apps, schema_editor):
    """Rows from before are sealed by the sealer, oldest first, like all others."""
    schema_editor.execute(f"INSERT INTO {WAITING} (event_id) SELECT id FROM {EVENTS} ORDER BY id")


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0009_individual_constraints'),
    ]

    operations = [
        migrations.CreateModel(
            name='UnsealedEvent',
            fields=[
                ('event_id', models.BigIntegerField(primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name='HistorySeal',
            fields=[
                ('index', models.BigIntegerField(primary_key=True, serialize=False)),
                ('previous_hash', models.CharField(max_length=64)),
                ('hash', models.CharField(max_length=64)),
                ('event', models.OneToOneField(db_constraint=False, on_delete=models.deletion.DO_NOTHING, related_name='seal', to='enrollments.historyevent')),
            ],
        ),
        migrations.CreateModel(
            name='HistoryCheckpoint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('size', models.BigIntegerField()),
                ('head', models.CharField(max_length=64)),
                ('at', models.DateTimeField()),
                ('note', models.TextField()),
            ],
            options={
                'indexes': [models.Index(fields=['size'], name='history_checkpoint_by_size')],
            },
        ),
        migrations.CreateModel(
            name='CheckpointDelivery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('destination', models.CharField(max_length=10, unique=True)),
                ('size', models.BigIntegerField(default=0)),
                ('delivered_at', models.DateTimeField(null=True)),
                ('tried_at', models.DateTimeField(null=True)),
                ('problem', models.CharField(blank=True, max_length=500)),
            ],
        ),
        migrations.AddField(
            model_name='signinfailures',
            name='recorded',
            field=models.BooleanField(default=False),
        ),
        migrations.RunPython(add_triggers, drop_triggers),
        migrations.RunPython(let_former_rows_wait, migrations.RunPython.noop),
    ]
