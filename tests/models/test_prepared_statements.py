"""On PostgreSQL the server keeps the plan of what is asked again and again, where it may."""

import json
import os
import subprocess
import sys

import pytest
from django.db import connection

from enrollments.models import RegistrationRecord
from tests.devices import new_service
from tests.live import PROJECT_DIR

OPTIONS = "import json; from dpsportal.settings import DATABASES as all; print(json.dumps(all['default']['OPTIONS']))"


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no server")
def test_what_is_asked_for_the_third_time_is_planned_once():
    service = new_service()

    for _ in range(4):
        RegistrationRecord.of(service.pk, "pump-042")

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s",
            ['%FROM "enrollments_registrationrecord"%'],
        )
        assert cursor.fetchone() == (1,)


@pytest.mark.parametrize(("said", "is_prepared"), [("", True), ("true", True), ("false", False)])
def test_a_pooler_that_knows_nothing_of_them_can_be_allowed_for(tmp_path, said, is_prepared):
    environment = {
        **os.environ,
        "DPS_DATA_DIR": str(tmp_path),
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing",
    }
    environment |= {"DPS_PREPARED_STATEMENTS": said} if said else {}

    done = subprocess.run(
        [sys.executable, "-c", OPTIONS], cwd=PROJECT_DIR, env=environment, capture_output=True, check=True
    )

    options = json.loads(done.stdout)
    assert ("prepare_threshold" in options, "server_side_binding" in options) == (is_prepared, is_prepared)
