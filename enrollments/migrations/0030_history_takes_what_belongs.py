"""The database takes into the history what can be sealed, gives each seal the next place, and lets no row stop waiting.

Triggers and no constraints: on SQLite these would be added by building the table anew, which loses its triggers; and
what somebody put in before must not keep anybody from migrating. The verifiers name that.
"""

from django.db import migrations

EVENTS = 'enrollments_historyevent'
SEALS = 'enrollments_historyseal'
CHECKPOINTS = 'enrollments_historycheckpoint'
WAITING = 'enrollments_unsealedevent'

NO_ROW = 'this is no row of the history'
NO_SEAL = 'a seal takes the next place of the history, for a row that waits for it'
NO_CHECKPOINT = 'a checkpoint is of a row in its place in the history'
NO_WAITING = 'rows of the history wait from when they are written until they have their seal'

# Beyond it nothing could come next. Ahead of it: on SQLite a row of ID -1 would be in the way of each that is given one.
LAST = 10**18 - 1
NOTHING_BEFORE = '0' * 64
TEXTS = (
    'event service_name actor_kind actor_name way subject_kind subject_id subject_name reason address request_id client'
).split()
DAY = '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]'
FRACTION = '.[0-9][0-9][0-9][0-9][0-9][0-9]'


def _is_number(column):
    return f"(typeof(NEW.{column}) = 'integer' AND NEW.{column} BETWEEN 1 AND {LAST})"


def _is_hash(column):
    return f"(typeof(NEW.{column}) = 'text' AND length(NEW.{column}) = 64 AND NEW.{column} NOT GLOB '*[^0-9a-f]*')"


def _is_moment(column):
    return f"(typeof(NEW.{column}) = 'text' AND (NEW.{column} GLOB '{DAY}{FRACTION}' OR NEW.{column} GLOB '{DAY}'))"


def _is_state(column):
    """JSON it is by the column's own constraint."""
    return f"(NEW.{column} IS NULL OR (typeof(NEW.{column}) = 'text' AND NEW.{column} GLOB '{{*'))"


IS_ROW = ' AND '.join(
    [
        _is_number('id'),
        *(f"typeof(NEW.{column}) = 'text'" for column in TEXTS),
        "typeof(NEW.service_id) IN ('integer', 'null')",
        _is_moment('at'),
        _is_state('"before"'),
        _is_state('"after"'),
    ]
)
# Where places are in order, the one before is there, and nobody has this one: the column is unique.
IS_NEXT = (
    f'CASE NEW."index" WHEN 1 THEN NEW.previous_hash = \'{NOTHING_BEFORE}\' '
    f'ELSE EXISTS (SELECT 1 FROM {SEALS} WHERE "index" = NEW."index" - 1 AND hash = NEW.previous_hash) END'
)
WAITS = f'EXISTS (SELECT 1 FROM {WAITING} WHERE event_id = NEW.event_id)'
IS_SIGNED = f'EXISTS (SELECT 1 FROM {SEALS} WHERE "index" = NEW.size AND hash = NEW.head)'
MAY_WAIT = (
    f'EXISTS (SELECT 1 FROM {EVENTS} WHERE id = NEW.event_id) '
    f'AND NOT EXISTS (SELECT 1 FROM {SEALS} WHERE event_id = NEW.event_id)'
)
HAS_ITS_SEAL = f'EXISTS (SELECT 1 FROM {SEALS} WHERE event_id = OLD.event_id)'


def _sqlite(name, when, table, condition, refusal):
    return (
        f'CREATE TRIGGER IF NOT EXISTS history_{name} {when} ON {table} '
        f"WHEN NOT ({condition}) BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
    )


SQLITE = [
    # Afterwards: before a row is there, the ID that it will be given is not known.
    _sqlite('events_typed', 'AFTER INSERT', EVENTS, IS_ROW, NO_ROW),
    _sqlite(
        'seals_next',
        'BEFORE INSERT',
        SEALS,
        ' AND '.join(
            [
                _is_number('"index"'),
                _is_number('event_id'),
                _is_hash('previous_hash'),
                _is_hash('hash'),
                IS_NEXT,
                WAITS,
            ]
        ),
        NO_SEAL,
    ),
    _sqlite(
        'checkpoints_typed',
        'AFTER INSERT',
        CHECKPOINTS,
        ' AND '.join(
            [
                _is_number('id'),
                _is_number('size'),
                _is_hash('head'),
                _is_moment('at'),
                "typeof(NEW.note) = 'text'",
                IS_SIGNED,
            ]
        ),
        NO_CHECKPOINT,
    ),
    _sqlite(
        'waiting_begins', 'BEFORE INSERT', WAITING, f'{_is_number("event_id")} AND {MAY_WAIT}', NO_WAITING
    ),
    _sqlite('waiting_no_update', 'BEFORE UPDATE', WAITING, '0', NO_WAITING),
    _sqlite('waiting_ends', 'BEFORE DELETE', WAITING, HAS_ITS_SEAL, NO_WAITING),
]
NAMES = {
    'history_events_typed': EVENTS,
    'history_seals_next': SEALS,
    'history_checkpoints_typed': CHECKPOINTS,
    'history_waiting_begins': WAITING,
    'history_waiting_no_update': WAITING,
    'history_waiting_ends': WAITING,
}
SQLITE_BACK = [f'DROP TRIGGER {name}' for name in NAMES]


def _function(name, condition, refusal, answer):
    return (
        f'CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN '
        f"IF NOT ({condition}) THEN RAISE EXCEPTION '{refusal}'; END IF; RETURN {answer}; END $$"
    )


def _postgresql(name, when, table, level='ROW', function=''):
    return (
        f'CREATE OR REPLACE TRIGGER {name} {when} ON {table} FOR EACH {level} EXECUTE FUNCTION {function or name}()'
    )


IS_HASH = "NEW.{} ~ '^[0-9a-f]{{64}}$'"
# Types are looked after by PostgreSQL, save that JSON has a null beside that of the column.
IS_STATE = "(NEW.{0} IS NULL OR jsonb_typeof(NEW.{0}) = 'object')"
POSTGRESQL = [
    _function(
        'history_events_typed',
        f'NEW.id BETWEEN 1 AND {LAST} AND ' + ' AND '.join(map(IS_STATE.format, ('before', 'after'))),
        NO_ROW,
        'NEW',
    ),
    _postgresql('history_events_typed', 'BEFORE INSERT', EVENTS),
    _function(
        'history_seals_next',
        f'NEW."index" BETWEEN 1 AND {LAST} AND {IS_HASH.format("hash")} AND {IS_NEXT} AND {WAITS}',
        NO_SEAL,
        'NEW',
    ),
    _postgresql('history_seals_next', 'BEFORE INSERT', SEALS),
    _function('history_checkpoints_typed', IS_SIGNED, NO_CHECKPOINT, 'NEW'),
    _postgresql('history_checkpoints_typed', 'BEFORE INSERT', CHECKPOINTS),
    _function('history_waiting_begins', MAY_WAIT, NO_WAITING, 'NEW'),
    _postgresql('history_waiting_begins', 'BEFORE INSERT', WAITING),
    _function('history_waiting_ends', HAS_ITS_SEAL, NO_WAITING, 'OLD'),
    _postgresql('history_waiting_ends', 'BEFORE DELETE', WAITING),
    _function('history_waiting_stays', 'false', NO_WAITING, 'NULL'),
    _postgresql('history_waiting_no_update', 'BEFORE UPDATE', WAITING, function='history_waiting_stays'),
    _postgresql('history_waiting_no_truncate', 'BEFORE TRUNCATE', WAITING, 'STATEMENT', 'history_waiting_stays'),
]
POSTGRESQL_BACK = [
    *(
        f'DROP TRIGGER {name} ON {table}'
        for name, table in (NAMES | {'history_waiting_no_truncate': WAITING}).items()
    ),
    *(
        f'DROP FUNCTION {name}()'
        for name in (
            'history_events_typed',
            'history_seals_next',
            'history_checkpoints_typed',
            'history_waiting_begins',
            'history_waiting_ends',
            'history_waiting_stays',
        )
    ),
]


def add_triggers(apps, schema_editor):
    _run(schema_editor, SQLITE, POSTGRESQL)


def drop_triggers(apps, schema_editor):
    _run(schema_editor, SQLITE_BACK, POSTGRESQL_BACK)


def _run(schema_editor, sqlite, postgresql):
    for statement in postgresql if schema_editor.connection.vendor == 'postgresql' else sqlite:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    # Each trigger by itself: who waits for one table holds no other.
    atomic = False
    WHILE_SERVING = (
        'Triggers that look at what is written from then on. The version before writes nothing that they refuse: its '
        'sealer gives places in order, to rows that wait, and takes them off the list once they have them.'
    )

    dependencies = [
        ('enrollments', '0029_unfit_leaves'),
    ]

    operations = [
        migrations.RunPython(add_triggers, drop_triggers),
    ]
