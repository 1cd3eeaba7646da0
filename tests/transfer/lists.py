"""Lists as tests write them, and running an import of one in this process."""

import csv
import io
import json
import zipfile
from typing import Any

from enrollments.actions.import_holding import hold
from enrollments.actions.imports import begin_import, cancel_import, file_is_there, start_import
from enrollments.actions.schedule import standing_now
from enrollments.audit.actor import Actor
from enrollments.models import ImportFormat, ImportRun, ProvisioningService
from enrollments.transfer.work import carry_out_run, check_run
from tests.certificates import Minted
from tests.devices import ALICE

KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


def keys(name: str, **members: Any) -> dict[str, Any]:
    return {"registrationId": name, "attestation": {"type": "symmetricKey"}, **members}


def pinned(leaf: Minted, secondary: Minted | None = None, **members: Any) -> dict[str, Any]:
    pair = {"primary": {"certificate": leaf.pem}}
    if secondary is not None:
        pair["secondary"] = {"certificate": secondary.pem}
    attestation = {"type": "x509", "x509": {"clientCertificates": pair}}
    return {"registrationId": leaf.parsed.common_names[0], "attestation": attestation, **members}


def below(group_id: str, *certificates: Minted, **members: Any) -> dict[str, Any]:
    pair = {"primary": {"certificate": "".join(one.pem for one in certificates)}}
    attestation = {"type": "x509", "x509": {"signingCertificates": pair}}
    return {"enrollmentGroupId": group_id, "attestation": attestation, **members}


def json_lines(*lines: dict[str, Any] | str) -> bytes:
    return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines).encode()


def csv_of(*rows: dict[str, str], delimiter: str = ",") -> bytes:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def zip_of(files: dict[str, bytes | str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def checked(
    service: ProvisioningService,
    content: bytes,
    *,
    archive: bytes | None = None,
    format: ImportFormat = ImportFormat.JSON_LINES,
    actor: Actor = ALICE,
    reason: str = "",
) -> ImportRun:
    run = begin_import(service, list_name=f"list.{format}", format=format, actor=actor, reason=reason)
    holder = file_is_there(run, actor=ALICE)
    check_run(run, holder, io.BytesIO(content), io.BytesIO(archive) if archive is not None else None)
    run.refresh_from_db()
    return run


def started(run: ImportRun, actor: Actor = ALICE, *, without_bad_lines: bool = False) -> ImportRun:
    """By whoever looked at what it does as things stand."""
    epoch = standing_now(run.service).epoch
    return start_import(run, without_bad_lines=without_bad_lines, actor=actor, expected_epoch=epoch)


def carried_out(run: ImportRun, actor: Actor = ALICE) -> ImportRun:
    started(run, actor, without_bad_lines=True)
    held = hold(run.pk)
    assert held is not None
    return carry_out_run(*held)


def imported(service: ProvisioningService, *lines: dict[str, Any], **how: Any) -> ImportRun:
    return carried_out(checked(service, json_lines(*lines), **how))


def problems(run: ImportRun) -> dict[int, str]:
    return dict(run.problems.order_by("line").values_list("line", "sentence"))


def ended_import(service: ProvisioningService, list_name: str) -> ImportRun:
    """Nothing that is asked of it makes it begin again."""
    run = begin_import(service, list_name=list_name, format=ImportFormat.CSV, actor=ALICE)
    return cancel_import(run, actor=ALICE)
