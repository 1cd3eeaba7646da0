"""On PostgreSQL, an index that finds entries by how their IDs begin, whatever language the database sorts by.

Any other than "C" sorts letters in ways in which what begins alike does not stand together, so that LIKE has no use for
the index of the unique IDs: a search for one entry of a million read them all. SQLite compares byte by byte.

Built while entries are changed; nothing waits for it. A build that was broken off leaves an index that nothing uses, so
the next one begins anew.
"""

from django.db import migrations

INDEXES = (
    ('individual_by_beginning', 'enrollments_individualenrollment', 'registration_key'),
    ('group_by_beginning', 'enrollments_enrollmentgroup', 'group_key'),
)


def add_indexes(apps, schema_editor):
    if schema_editor.connection.vendor != 'postgresql':
        return
    remove_indexes(apps, schema_editor)
    for name, table, column in INDEXES:
        schema_editor.execute(f'CREATE INDEX CONCURRENTLY {name} ON {table} (service_id, {column} COLLATE "C")')


def remove_indexes(apps, schema_editor):
    if schema_editor.connection.vendor != 'postgresql':
        return
    for name, _, _ in INDEXES:
        schema_editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS {name}')


class Migration(migrations.Migration):

    WHILE_SERVING = 'Both indexes are built concurrently, and the version before does not know of them.'
    atomic = False  # nothing is built concurrently within a transaction

    dependencies = [
        ('enrollments', '0020_imports'),
    ]

    operations = [
        migrations.RunPython(add_indexes, remove_indexes),
    ]
