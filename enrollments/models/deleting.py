"""Deleting an entry, with what hangs on it."""

from typing import Any

from django.db import router
from django.db.models import Field
from django.db.models.deletion import Collector

from enrollments.models.enrollments import EnrollmentGroup, IndividualEnrollment
from enrollments.models.locks import is_rehearsed
from enrollments.models.registrations import RegistrationRecord


def delete_entry(entry: IndividualEnrollment | EnrollmentGroup) -> None:
    """It goes as its model says. In a rehearsal the records of a group go on referring to it.

    They may be a hundred thousand, and each would be written twice, while on SQLite whoever writes waits, to be taken
    back afterwards. No decision asks a record which group it came through; foreign keys are looked at when a
    transaction commits, and that of a rehearsal never does.
    """
    if not (isinstance(entry, EnrollmentGroup) and is_rehearsed()):
        entry.delete()
        return
    collector = _LeavingRecords(using=router.db_for_write(EnrollmentGroup, instance=entry), origin=entry)
    collector.collect([entry])
    collector.delete()


class _LeavingRecords(Collector):
    def add_field_update(self, field: "Field[Any, Any]", value: Any, objs: Any) -> None:
        if field.model is not RegistrationRecord:
            super().add_field_update(field, value, objs)
