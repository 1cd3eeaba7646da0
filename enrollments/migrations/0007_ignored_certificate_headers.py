from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0006_rates'),
    ]

    operations = [
        migrations.CreateModel(
            name='IgnoredCertificateHeader',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('listener', models.CharField(max_length=10)),
                ('header', models.CharField(max_length=40)),
                ('day', models.DateField()),
                ('count', models.PositiveBigIntegerField(default=1)),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
                ('last_address', models.CharField(blank=True, max_length=45)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('listener', 'header', 'day'), name='ignored_certificate_headers_counted_per_day')],
            },
        ),
    ]
