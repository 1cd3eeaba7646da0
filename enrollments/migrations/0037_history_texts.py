"""The index of the history by time gets the texts that are looked for row by row, so that SQLite need not read the rows.

It takes the place of another one, which the next migration drops. On PostgreSQL both are the same but for their names.
"""

from django.db import migrations

import enrollments.models.beside
from enrollments.models.migrating import AddIndexMeanwhile


class Migration(migrations.Migration):
    WHILE_SERVING = (
        'It is built while rows are written, and the version before reads by it what it read by the other. Where that version '
        'verifies an SQLite database, it says that this index does not belong there.'
    )
    atomic = False  # nothing is built concurrently within a transaction

    dependencies = [
        ('enrollments', '0036_throttled_attempts'),
    ]

    operations = [
        AddIndexMeanwhile(
            model_name='historyevent',
            index=enrollments.models.beside.IndexWithMore(
                beside=('actor_name', 'subject_name', 'reason'),
                fields=['service_id', 'at', 'id'],
                name='history_by_time_with_texts',
            ),
        ),
    ]
