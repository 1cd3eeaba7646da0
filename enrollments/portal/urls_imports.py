"""Addresses of imports and exports, below those of their service."""

from django.urls import URLPattern, URLResolver, path, register_converter
from django.urls.converters import StringConverter

from enrollments.portal.urls_service import RowNumber
from enrollments.portal.views import exports, import_previews, imports


class Number(RowNumber):
    """Of an import, and of a part of its file."""


class WhichPart(StringConverter):
    """The list, or the ZIP beside it."""

    regex = "list|archive"


class WhichEntries(StringConverter):
    """What an export holds."""

    regex = "individuals|groups"


register_converter(Number, "number")
register_converter(WhichPart, "part")
register_converter(WhichEntries, "entries")

_RUN = "imports/<number:import_pk>/"

urlpatterns: list[URLPattern | URLResolver] = [
    path("imports/", imports.import_list, name="import-list"),
    path("imports/add/", imports.import_add, name="import-add"),
    path(_RUN, imports.import_detail, name="import-detail"),
    path(f"{_RUN}parts/<part:part_kind>/<number:part_number>/", imports.import_part, name="import-part"),
    path(f"{_RUN}check/", imports.import_check, name="import-check"),
    path(f"{_RUN}start/", imports.import_start, name="import-start"),
    path(f"{_RUN}cancel/", imports.import_cancel, name="import-cancel"),
    path(f"{_RUN}preview/", import_previews.import_preview, name="import-preview"),
    path(f"{_RUN}preview/export/", import_previews.import_preview_export, name="import-preview-export"),
    path(f"{_RUN}problems/", imports.import_problems, name="import-problems"),
    path("exports/<entries:exported>/", exports.entry_export, name="entry-export"),
    path(
        "exports/<entries:exported>/with-secrets/",
        exports.entry_export_with_secrets,
        name="entry-export-with-secrets",
    ),
]
