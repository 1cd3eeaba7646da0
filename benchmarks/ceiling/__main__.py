"""`python -m benchmarks.ceiling`: make the two tables, with a row for each device that the database knows."""

import django
from django.db import connection

# Both kinds of devices: those that are enrolled one by one, and those that came by way of a group.
FILL = """
INSERT INTO ceiling_device (name, visits)
SELECT registration_key, 0 FROM enrollments_individualenrollment
UNION SELECT registration_key, 0 FROM enrollments_registrationrecord
"""


def main() -> None:
    django.setup()
    from benchmarks.ceiling.models import Device, Visit

    with connection.schema_editor() as editor:
        editor.create_model(Device)
        editor.create_model(Visit)
    with connection.cursor() as cursor:
        cursor.execute(FILL)
        cursor.execute("ANALYZE")


if __name__ == "__main__":
    main()
