"""The database's clock: the one that all processes and machines of an installation share.

Whoever asks for the time calls `clock.database_now()`, so that there is one place where it comes from.
"""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateTimeField, Expression, Func
from django.db.models.sql.compiler import SQLCompiler


class _DatabaseNow(Func):
    """The time at which it is evaluated: not that of the transaction, which may have waited for a lock."""

    arity = 0
    output_field = DateTimeField()

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, Any]:
        return self.as_sql(compiler, connection, template="clock_timestamp()", **extra)

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, Any]:
        # UTC, in the form in which Django writes times into SQLite.
        template = "strftime('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'now')"
        return self.as_sql(compiler, connection, template=template, **extra)


def database_now() -> Expression:
    """The present time, to be read in a query."""
    return _DatabaseNow()
