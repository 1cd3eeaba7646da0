from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0003_tpm_challenges'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='enrollmentgroup',
            index=models.Index(condition=models.Q(('mechanism', 'symmetricKey')), fields=['service', 'id'], name='group_with_keys'),
        ),
    ]
