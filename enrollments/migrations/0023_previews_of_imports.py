"""What the preview of an import said, kept with the import that was started on it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    WHILE_SERVING = 'The column is empty where the version before starts an import; no preview is shown of that one.'

    dependencies = [
        ('enrollments', '0022_unusable_imports'),
    ]

    operations = [
        migrations.AddField(
            model_name='importrun',
            name='foreseen',
            field=models.JSONField(null=True),
        ),
    ]
