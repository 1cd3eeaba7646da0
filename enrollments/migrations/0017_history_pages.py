"""What the pages of the history need: the client on each row, an index for each filter, and what people keep of them."""

import django.db.models.deletion
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models

# Django would make the whole table anew on SQLite, and lose the triggers that keep it final.
ADD_CLIENT = "ALTER TABLE enrollments_historyevent ADD COLUMN client varchar(200) NOT NULL DEFAULT ''"
# On SQLite a column cannot go while an index or trigger is looked at again; none of them names it.
DROP_CLIENT = "ALTER TABLE enrollments_historyevent DROP COLUMN client"


class Migration(migrations.Migration):

    dependencies = [
        ('enrollments', '0016_time_boxed_entries'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunSQL(
            ADD_CLIENT,
            DROP_CLIENT,
            state_operations=[
                migrations.AddField(
                    model_name='historyevent',
                    name='client',
                    field=models.CharField(blank=True, db_default='', default='', max_length=200),
                ),
            ],
        ),
        migrations.RemoveIndex(
            model_name='historyevent',
            name='history_by_actor',
        ),
        migrations.RemoveIndex(
            model_name='historyevent',
            name='history_by_subject',
        ),
        migrations.AddIndex(
            model_name='historyevent',
            index=models.Index(fields=['service_id', 'subject_kind', 'at'], name='history_by_kind'),
        ),
        migrations.AddIndex(
            model_name='historyevent',
            index=models.Index(fields=['service_id', 'event', 'at'], name='history_by_event'),
        ),
        migrations.AddIndex(
            model_name='historyevent',
            index=models.Index(fields=['service_id', 'way', 'at'], name='history_by_way'),
        ),
        migrations.AddIndex(
            model_name='historyevent',
            index=models.Index(fields=['service_id', 'actor_name', 'at'], name='history_by_actor'),
        ),
        migrations.AddIndex(
            model_name='historyevent',
            index=models.Index(models.F('service_id'), django.db.models.functions.text.Lower('subject_name'), models.F('at'), name='history_by_name'),
        ),
        migrations.AddIndex(
            model_name='historyevent',
            index=models.Index(fields=['at'], name='history_by_moment'),
        ),
        migrations.CreateModel(
            name='SavedHistoryView',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=60)),
                ('query', models.CharField(max_length=2000)),
                ('service', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='enrollments.provisioningservice')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='saved_history_views', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [
                    models.UniqueConstraint(fields=('user', 'service', 'name'), name='one_history_view_per_name_and_service'),
                    models.UniqueConstraint(condition=models.Q(('service__isnull', True)), fields=('user', 'name'), name='one_history_view_per_name_everywhere'),
                ],
            },
        ),
        migrations.CreateModel(
            name='LastLook',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('index', models.BigIntegerField()),
                ('at', models.DateTimeField()),
                ('service', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='enrollments.provisioningservice')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [
                    models.UniqueConstraint(fields=('user', 'service'), name='one_last_look_per_person_and_service'),
                    models.UniqueConstraint(condition=models.Q(('service__isnull', True)), fields=('user',), name='one_last_look_per_person_everywhere'),
                ],
            },
        ),
    ]
