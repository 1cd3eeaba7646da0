"""The index of the history by time goes: another one has all that it has (0037)."""

from django.db import migrations


class Migration(migrations.Migration):
    WHILE_SERVING = (
        'The version before reads by the other index what it read by this one. Where it verifies the history, it says that this '
        'one is missing.'
    )

    dependencies = [
        ('enrollments', '0037_history_texts'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='historyevent',
            name='history_by_time',
        ),
    ]
