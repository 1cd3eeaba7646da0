"""What rows of the history say of the import that made them, and where more of it is."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.urls import reverse

from enrollments.actions.import_rows import ImportOfRow, imports_of, span_of
from enrollments.models import HistoryEvent, ProvisioningService


@dataclass(frozen=True, slots=True)
class ByImport:
    """page_url: of the import while it is there, for who may see the history. started_url: of the row that says that it
    was started. rows_url: all that it did; empty where nobody can tell of which service that is.
    """

    list_name: str
    page_url: str
    started_url: str
    rows_url: str
    of_row: ImportOfRow


@dataclass(frozen=True, slots=True)
class WholeImport:
    """Times to compare: `until` its last row, or None where it has not ended."""

    just_before: datetime
    until: datetime | None


def by_imports(events: Collection[HistoryEvent], service: ProvisioningService | None) -> dict[int, ByImport]:
    """By the primary key of the row."""
    return {pk: _told(one, service) for pk, one in imports_of(events).items()}


def whole_import(event: HistoryEvent, by: ByImport) -> WholeImport:
    began, ended = span_of(event, by.of_row)
    return WholeImport(began - timedelta(microseconds=1), ended)


def _told(one: ImportOfRow, service: ProvisioningService | None) -> ByImport:
    name = service.name if service else one.service_name
    view = "portal:history-row" if service else "portal:installation-history-row"
    return ByImport(
        one.list_name,
        reverse("portal:import-detail", args=[one.service_name, one.number]) if one.service_name else "",
        reverse(view, args=[service.name, one.started] if service else [one.started]),
        f"{reverse('portal:history-list', args=[name])}?by_import={one.number}" if name else "",
        one,
    )
