"""Tables of the history without what keeps their rows apart, as whoever owns the database can make them."""

from tests.audit.tampering import EVENT, ON_SQLITE, SEAL, WAITING


def _loose(table: str, key: str, columns: str = "*") -> list[str]:
    """On SQLite a table made anew, whose columns take anything; it has the index that reads are made by."""
    if not ON_SQLITE:
        return [
            f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey CASCADE",
            f'ALTER TABLE {table} ALTER COLUMN "{key}" DROP IDENTITY IF EXISTS',
            f'ALTER TABLE {table} ALTER COLUMN "{key}" DROP NOT NULL',
        ]
    return [
        f'CREATE TABLE loose AS SELECT {columns} FROM {table} ORDER BY "{key}"',
        f"DROP TABLE {table}",
        f"ALTER TABLE loose RENAME TO {table}",
        f'CREATE INDEX loose_{table} ON {table} ("{key}")',
    ]


LOOSE_EVENTS, LOOSE_LIST = _loose(EVENT, "id"), _loose(WAITING, "event_id")
LOOSE_SEALS = _loose(SEAL, "index", '"index", event_id, previous_hash, hash')
if ON_SQLITE:
    LOOSE_SEALS.append(f"CREATE INDEX loose_of_rows ON {SEAL} (event_id)")
