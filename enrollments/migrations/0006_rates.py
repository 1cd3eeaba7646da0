import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0005_allocation_webhooks'),
    ]

    operations = [
        migrations.AddField(
            model_name='provisioningservice',
            name='device_registrations_per_minute',
            field=models.PositiveSmallIntegerField(default=12, help_text='How often one device may register, 1 to 60.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(60)]),
        ),
        migrations.AddField(
            model_name='provisioningservice',
            name='longest_retry_after_seconds',
            field=models.PositiveIntegerField(default=300, help_text='Retry-After of a refused device doubles with each refusal in a row, up to this many seconds (1 to 86400). Most clients believe nothing above 300.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(86400)]),
        ),
        migrations.AddField(
            model_name='provisioningservice',
            name='registrations_per_minute',
            field=models.PositiveIntegerField(default=10000, help_text='How many registrations of all devices together are taken, 1 to 1000000. Refused ones do not count.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000000)]),
        ),
        migrations.AddConstraint(
            model_name='provisioningservice',
            constraint=models.CheckConstraint(condition=models.Q(('device_registrations_per_minute__gte', 1), ('device_registrations_per_minute__lte', 60), ('longest_retry_after_seconds__gte', 1), ('longest_retry_after_seconds__lte', 86400), ('registrations_per_minute__gte', 1), ('registrations_per_minute__lte', 1000000)), name='service_rates_in_range'),
        ),
    ]
