"""JSON in columns that both databases give back as it was written.

PostgreSQL keeps a number as its digits: it would give 1e+22 back as a whole number of 23 digits, of another type, and
written in another way where its hash is part of the history. A point behind the digits stays there.
"""

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.db import models
from psycopg.types.json import Jsonb

# Texts first, so that nothing within one is taken for a number.
_TEXT_OR_POWER = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?[eE]\+?\d+')


def for_jsonb(text: str) -> str:
    """The same JSON, in which every number that is read as a fraction is also read as one from a column of jsonb."""
    if "e" not in text and "E" not in text:
        return text
    return _TEXT_OR_POWER.sub(lambda found: _written_out(found[0]), text)


def _written_out(token: str) -> str:
    if token.startswith('"'):
        return token
    digits = format(Decimal(token), "f")
    return digits if "." in digits else f"{digits}.0"


if TYPE_CHECKING:
    _JSONField = models.JSONField[Any, Any]
else:
    _JSONField = models.JSONField


class JsonColumn(_JSONField):
    """To migrations it is Django's own, since the column is."""

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        adapted = super().get_db_prep_value(value, connection, prepared)
        if not isinstance(adapted, Jsonb):
            return adapted
        written = adapted.dumps
        if written is None:
            raise TypeError("a value for jsonb comes with what writes it")
        return Jsonb(adapted.obj, dumps=lambda one: for_jsonb(_text(written(one))))


def _text(written: str | bytes) -> str:
    return written if isinstance(written, str) else written.decode()
