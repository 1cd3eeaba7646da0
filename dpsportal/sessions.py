"""Sessions of the portal in the database, which knows their keys only as digests: a copy of it signs nobody in."""

import hashlib
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.utils import timezone

# As long as the column; 160 bits.
DIGITS = 40
# Each request within its time renews a session; written down is that at most so often, and not with every page.
RENEWED_AFTER = timedelta(minutes=1)


class SessionStore(DatabaseStore):
    """Django's own, with the key of a cookie turned into a digest wherever it meets the table."""

    def _get_session_from_db(self) -> Any:
        session = self.model.objects.filter(
            session_key=_kept(self.session_key or ""), expire_date__gt=timezone.now()
        ).first()
        if session is None:
            self._session_key = None
        elif (
            session.expire_date - timezone.now()
            < timedelta(seconds=settings.SESSION_COOKIE_AGE) - RENEWED_AFTER
        ):
            self.modified = True  # so that it is written, with a new end
        return session

    def exists(self, session_key: str) -> bool:
        return super().exists(_kept(session_key))

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        session = super().create_model_instance(data)
        session.session_key = _kept(session.session_key)
        return session

    def delete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            super().delete(_kept(key))


def _kept(session_key: str) -> str:
    return hashlib.sha256(session_key.encode()).hexdigest()[:DIGITS]
