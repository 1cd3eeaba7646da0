"""Up to which row of the history whoever started an import has seen what it does."""

from django.db import migrations, models


def agree_to_what_runs(apps, schema_editor):
    """What was started before goes on: as if it had been started now."""
    rows = apps.get_model('enrollments', 'HistoryEvent').objects
    latest = rows.aggregate(latest=models.Max('pk'))['latest'] or 0
    apps.get_model('enrollments', 'ImportRun').objects.filter(state='running').update(agreed_on=latest)


class Migration(migrations.Migration):
    WHILE_SERVING = 'The column is empty where the version before starts an import; such an import lets nobody in after this.'

    dependencies = [
        ('enrollments', '0032_refused_again'),
    ]

    operations = [
        migrations.AddField(
            model_name='importrun',
            name='agreed_on',
            field=models.BigIntegerField(null=True),
        ),
        migrations.RunPython(agree_to_what_runs, migrations.RunPython.noop),
    ]
