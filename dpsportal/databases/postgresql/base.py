"""Statements that are asked again and again are planned by the server once, and prepared on its connection.

A pooler such as PgBouncer gives each transaction another connection to the server: what was prepared on one is missing
on the next, or is somebody else's statement of the same name. So nothing is prepared before it is seen that the process
at the other end is the server itself.
"""

from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base

# Asked so often on a connection, a statement is prepared when it is asked once more.
ASKED_BEFORE = 2
# So many are kept on each connection. Those of a registration are fifteen.
MOST_PREPARED = 50


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        connection.prepared_max = MOST_PREPARED
        may_prepare = settings.DPS_PREPARED_STATEMENTS and is_the_server(connection)
        connection.prepare_threshold = ASKED_BEFORE if may_prepare else None
        return connection

    def close_if_unusable_or_obsolete(self) -> None:
        # A prepared statement whose columns were given another type meanwhile fails as long as the connection lives.
        if self.connection is not None and self.errors_occurred and not self.in_atomic_block:
            self.close()
            return
        super().close_if_unusable_or_obsolete()


def is_the_server(connection: psycopg.Connection[Any]) -> bool:
    """Whether the process that it was connected to is the one that answers.

    By its number: a pooler tells clients one of its own, since it cannot know yet who will answer them.
    """
    answer = connection.pgconn.exec_(b"SELECT pg_backend_pid()")
    return answer.get_value(0, 0) == str(connection.info.backend_pid).encode()
