"""Files that a command writes for people and programs: what is taken along is history first, as in the portal (R17)."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from enrollments.actions.history import note_export
from enrollments.management.command import called_wrongly, command_line_actor
from enrollments.models import ProvisioningService


def write_exported(
    path: Path, text: Iterable[str], what: str, filters: dict[str, Any], *, service: ProvisioningService
) -> None:
    """The text, into a file that may be there already.

    The file first: what cannot be written anywhere was not exported. Then the row of the history. If that cannot be
    written, what the file held before is still in it (R15).
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            note_export(what, filters, actor=command_line_actor(), service=service)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                file.truncate(0)
            file.writelines(text)
    except OSError as problem:
        called_wrongly(f"{path} cannot be written: {problem.strerror or problem}")
