"""An index of the changes that can shut out, for the filter of the history: they are few among many changes.

Its condition is that of this version. Whoever changes that makes another index, since a query uses one alone whose
condition it repeats word for word.
"""

from django.db import migrations, models

from enrollments.models.history_shut_outs import ShutOutByChange
from enrollments.models.migrating import AddIndexMeanwhile


class Migration(migrations.Migration):
    WHILE_SERVING = 'It is built while rows are written, and the version before asks nothing by it.'
    atomic = False  # nothing is built concurrently within a transaction

    dependencies = [
        ('enrollments', '0024_key_of_attempts'),
    ]

    operations = [
        AddIndexMeanwhile(
            model_name='historyevent',
            index=models.Index(
                condition=models.Q(ShutOutByChange()),
                fields=['service_id', 'at', 'id'],
                name='history_shut_out_by_change',
            ),
        ),
    ]
