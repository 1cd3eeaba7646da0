"""An index with further columns behind its own, by which SQLite looks through rows without their table."""

from collections.abc import Sequence
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement
from django.db.models import Index, Model


class IndexWithMore(Index):
    """`beside`: columns that it holds on SQLite too. PostgreSQL would look into the table all the same, and takes no
    entry of more than 2,700 bytes, which long texts exceed.
    """

    def __init__(self, *expressions: Any, beside: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*expressions, **options)
        self.beside = tuple(beside)

    def deconstruct(self) -> tuple[str, Any, dict[str, Any]]:
        path, expressions, options = super().deconstruct()
        return path, expressions, {**options, "beside": self.beside}

    def create_sql(
        self, model: type[Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **options: Any
    ) -> Statement:
        if schema_editor.connection.vendor != "sqlite":
            return super().create_sql(model, schema_editor, using, **options)
        wider = Index(fields=[*self.fields, *self.beside], name=self.name)
        return wider.create_sql(model, schema_editor, using, **options)
