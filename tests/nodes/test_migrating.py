"""`migrate` with the migrations of a version to come, while the processes of this one serve: no request fails.

What comes is made here by the rule of docs/scaling.md: a table, columns that may be left out, an index.
"""

import shutil
import subprocess
import sys
from collections import Counter

import pytest

from dpsportal.serving.supervisor import PROJECT_DIR
from tests.certificates import root
from tests.nodes.callers import Caller, everything_told, new_devices
from tests.nodes.clusters import cluster, database_of
from tests.serving.listeners import wait_until

CALLERS = 4
SOME = 15
PATIENCE = 120
TABLES = ("registrationrecord", "registrationattempt", "individualenrollment", "enrollmentgroup")
# One table in each: two in one transaction deadlock with registrations.
COLUMNS = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("enrollments", {before!r})]
    operations = [
        migrations.AddField({table!r}, "new_text", models.CharField(max_length=20, null=True)),
        migrations.AddField({table!r}, "new_number", models.IntegerField(db_default=7)),
    ]
"""
TABLE = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("enrollments", {before!r})]
    operations = [
        migrations.CreateModel("Novelty", [
            ("id", models.BigAutoField(primary_key=True)),
            ("record", models.ForeignKey("enrollments.registrationrecord", models.CASCADE)),
        ]),
    ]
"""
INDEX = """
from django.db import migrations, models
from enrollments.models.migrating import AddIndexMeanwhile

class Migration(migrations.Migration):
    atomic = False
    dependencies = [("enrollments", {before!r})]
    operations = [AddIndexMeanwhile("registrationrecord", models.Index(fields=["new_number"], name="new_index"))]
"""
TO_COME = [*((COLUMNS, table) for table in TABLES), (TABLE, ""), (INDEX, "")]
MIGRATE = """
import django
from django.conf import settings
from django.core.management import call_command

settings.MIGRATION_MODULES = {"enrollments": "migrations_to_come"}
django.setup()
call_command("migrate", "--noinput", "--verbosity", "0", "--skip-checks")
"""


@pytest.fixture
def migrations_to_come(tmp_path):
    """A folder to import them from, with those that there are."""
    package = tmp_path / "migrations_to_come"
    shutil.copytree(PROJECT_DIR / "enrollments" / "migrations", package)
    before = max(path.stem for path in package.glob("0*.py"))
    for number, (text, table) in enumerate(TO_COME, start=9001):
        (package / f"{number}_new.py").write_text(text.format(before=before, table=table))
        before = f"{number}_new"
    return tmp_path


def test_this_version_serves_while_the_next_one_migrates(migrations_to_come, tmp_path):
    with database_of(tmp_path, "migrating") as url, cluster(tmp_path, url) as nodes:
        nodes.start()
        ca = root("plant-7")
        nodes.back_end(0).enroll_ca("plant-7", ca.pem)
        callers = [Caller(nodes.endpoints, new_devices(ca, tmp_path), first=n % 2) for n in range(CALLERS)]

        def goes_on() -> None:
            so_far = len(everything_told(callers))
            assert wait_until(lambda: len(everything_told(callers)) >= so_far + SOME, seconds=PATIENCE)

        for caller in callers:
            caller.start()
        goes_on()
        done = subprocess.run(
            [sys.executable, "-c", MIGRATE],
            cwd=PROJECT_DIR,
            env={**nodes.nodes[1].environment, "PYTHONPATH": str(migrations_to_come)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        goes_on()
        meanwhile = Counter(one.what for one in everything_told(callers))
        nodes.nodes[1].stop("device")
        nodes.nodes[1].start(
            "device"
        )  # which says that it is ready, in spite of tables that it does not know
        goes_on()
        for caller in callers:
            caller.stop.set()
        for caller in callers:
            caller.join(PATIENCE)

        new = nodes.nodes[0].rows("SELECT new_number, new_text FROM enrollments_registrationrecord")
        assert {(one["new_number"], one["new_text"]) for one in new} == {(7, None)}
        assert nodes.history_verifies()
        assert set(meanwhile) == {"assigned", "assigning"}, meanwhile
