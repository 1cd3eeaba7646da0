"""Changes of the tables that can be made while the service runs, this version of it and the one before."""

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import AddIndex
from django.db.migrations.state import ProjectState


class AddIndexMeanwhile(AddIndex):
    """AddIndex for tables that are written to: on PostgreSQL nobody has to wait for it (CREATE INDEX CONCURRENTLY).

    Its migration has `atomic = False` and does nothing else. One that was interrupted leaves an invalid index, which
    has to be dropped before the migration is run again.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.add_index(model, self.index, concurrently=True)  # type: ignore[call-arg]  # PostgreSQL's own
        else:
            schema_editor.add_index(model, self.index)
