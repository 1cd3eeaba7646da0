"""The database's clock under a test's thumb: no test waits for a deadline."""

from datetime import datetime, timedelta

import pytest
from django.db.models import DateTimeField, Value
from django.utils import timezone

from enrollments.models import clock, prepared


class DatabaseClock:
    """Stands still at `now` until a test moves it. Python's own clock goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = timezone.now().replace(microsecond=0)
        monkeypatch.setattr(prepared, "FORMS_KEPT", 0)  # the time stands in the text of a query
        monkeypatch.setattr(clock, "database_now", lambda: Value(self.now, output_field=DateTimeField()))

    def set_to(self, moment: datetime) -> None:
        self.now = moment

    def ahead(self, **span: float) -> datetime:
        return self.now + timedelta(**span)
