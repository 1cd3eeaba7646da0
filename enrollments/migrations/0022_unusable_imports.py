"""A list that cannot be imported as a whole is called unusable; devices are refused. The database does not notice."""

from django.db import migrations, models


class Migration(migrations.Migration):
    WHILE_SERVING = 'Nothing changes but a word on pages.'

    dependencies = [
        ('enrollments', '0021_search_by_beginning'),
    ]

    operations = [
        migrations.AlterField(
            model_name='importrun',
            name='state',
            field=models.CharField(choices=[('receiving', 'Being uploaded'), ('checking', 'Being checked'), ('checked', 'Checked'), ('running', 'Running'), ('paused', 'Paused'), ('done', 'Done'), ('cancelled', 'Cancelled'), ('refused', 'Unusable')], default='receiving', max_length=12),
        ),
    ]
