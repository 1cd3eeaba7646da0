"""The columns of a CSV list, and the line of JSON that each row stands for: the one is written as the other."""

import json
import re
from collections.abc import Mapping
from typing import Any

from enrollments.policy.documents import MAX_TWIN_BYTES, DocumentProblem, NotJson, parse_json

COLUMNS = (
    "operation",
    "registrationId",
    "enrollmentGroupId",
    "provisioningStatus",
    "switchesAt",
    "scheduleReason",
    "attestationType",
    "primaryCertificate",
    "secondaryCertificate",
    "primaryCaReference",
    "secondaryCaReference",
    "primaryKey",
    "secondaryKey",
    "endorsementKey",
    "storageRootKey",
    "secretsWithheld",
    "deviceId",
    "iotHubs",
    "allocationPolicy",
    "webhookUrl",
    "webhookApiVersion",
    "updateHubAssignment",
    "migrateDeviceData",
    "iotEdge",
    "tags",
    "desiredProperties",
    "optionalDeviceInformation",
    "predecessor",
)

# Members that stand in their line as they stand in their cell.
_PLAIN = (
    "operation",
    "registrationId",
    "enrollmentGroupId",
    "provisioningStatus",
    "switchesAt",
    "scheduleReason",
    "deviceId",
    "allocationPolicy",
    "predecessor",
)
# A spreadsheet runs a cell that begins like a formula; an apostrophe makes it text. One more is put in front of what
# has some already, so that taking one away gives back what was there.
_LIKE_A_FORMULA = re.compile(r"'*[=+\-@\t\r]")

Line = dict[str, Any]


class WrongCell(ValueError):
    """One sentence about a cell that cannot be read. `name`: what its row calls the entry, where it does."""

    name = ""


def protected(text: str) -> str:
    return f"'{text}" if _LIKE_A_FORMULA.match(text) else text


def unprotected(text: str) -> str:
    return text[1:] if text.startswith("'") and _LIKE_A_FORMULA.match(text) else text


def line_of_row(row: Mapping[str, str]) -> Line:
    """The line of JSON for a row, whose cells are by column. An empty cell is one that was not given.

    Raises WrongCell.
    """
    cells = {name: value for name, cell in row.items() if (value := unprotected(cell)).strip()}
    line: Line = {name: cells[name] for name in _PLAIN if name in cells}
    if cells.get("operation") == "disable":
        return line
    if "secretsWithheld" in cells:
        line["secretsWithheld"] = _boolean("secretsWithheld", cells)
    line["attestation"] = _attestation(cells)
    if "iotHubs" in cells:
        line["iotHubs"] = cells["iotHubs"].split()
    if "webhookUrl" in cells or "webhookApiVersion" in cells:
        line["customAllocationDefinition"] = _given(
            webhookUrl=cells.get("webhookUrl"), apiVersion=cells.get("webhookApiVersion")
        )
    if "iotEdge" in cells:
        line["capabilities"] = {"iotEdge": _boolean("iotEdge", cells)}
    policy = {
        name: _boolean(name, cells) for name in ("updateHubAssignment", "migrateDeviceData") if name in cells
    }
    if policy:
        line["reprovisionPolicy"] = policy
    if "tags" in cells or "desiredProperties" in cells:
        desired = _document("desiredProperties", cells)
        line["initialTwin"] = _given(
            tags=_document("tags", cells), properties=None if desired is None else {"desired": desired}
        )
    if "optionalDeviceInformation" in cells:
        line["optionalDeviceInformation"] = _document("optionalDeviceInformation", cells)
    return line


def row_of_line(line: Line) -> list[str]:
    """The cells of a line that an export writes, in the order of COLUMNS."""
    attestation = line["attestation"]
    x509 = attestation.get("x509", {})
    certificates = x509.get("clientCertificates") or x509.get("signingCertificates") or {}
    references = x509.get("caReferences", {})
    keys, tpm = attestation.get("symmetricKey", {}), attestation.get("tpm", {})
    webhook = line.get("customAllocationDefinition", {})
    twin = line.get("initialTwin", {})
    cells = {
        **{name: line.get(name, "") for name in COLUMNS},
        "attestationType": attestation["type"],
        "primaryCertificate": certificates.get("primary", {}).get("certificate", ""),
        "secondaryCertificate": certificates.get("secondary", {}).get("certificate", ""),
        "primaryCaReference": references.get("primary", ""),
        "secondaryCaReference": references.get("secondary", ""),
        "primaryKey": keys.get("primaryKey", ""),
        "secondaryKey": keys.get("secondaryKey", ""),
        "endorsementKey": tpm.get("endorsementKey", ""),
        "storageRootKey": tpm.get("storageRootKey", ""),
        "iotHubs": " ".join(line.get("iotHubs", ())),
        "webhookUrl": webhook.get("webhookUrl", ""),
        "webhookApiVersion": webhook.get("apiVersion", ""),
        **line.get("reprovisionPolicy", {}),
        **line.get("capabilities", {}),
        "tags": twin.get("tags") or "",
        "desiredProperties": twin.get("properties", {}).get("desired") or "",
    }
    return [protected(_text(cells[name])) for name in COLUMNS]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _attestation(cells: Mapping[str, str]) -> dict[str, Any]:
    """What mechanism it is may be left unsaid where something of it is given."""
    pair = _given(
        primary=_certificate(cells.get("primaryCertificate")),
        secondary=_certificate(cells.get("secondaryCertificate")),
    )
    references = _given(primary=cells.get("primaryCaReference"), secondary=cells.get("secondaryCaReference"))
    keys = _given(primaryKey=cells.get("primaryKey"), secondaryKey=cells.get("secondaryKey"))
    tpm = _given(endorsementKey=cells.get("endorsementKey"), storageRootKey=cells.get("storageRootKey"))
    said = cells.get("attestationType")
    kind = said or ("x509" if pair or references else "tpm" if tpm else "symmetricKey" if keys else None)
    if kind is None:
        raise WrongCell(
            "attestationType is empty, and there is no certificate, key or endorsement key that would tell it: "
            "say x509, symmetricKey or tpm."
        )
    member = "signingCertificates" if "enrollmentGroupId" in cells else "clientCertificates"
    attestation: dict[str, Any] = {"type": kind}
    if references:
        attestation["x509"] = {**({member: pair} if pair else {}), "caReferences": references}
    elif pair or kind == "x509":
        attestation["x509"] = {member: pair}
    if tpm:
        attestation["tpm"] = tpm
    if keys:
        attestation["symmetricKey"] = keys
    return attestation


def _certificate(cell: str | None) -> dict[str, str] | None:
    return None if cell is None else {"certificate": cell}


def _boolean(name: str, cells: Mapping[str, str]) -> bool:
    """Spreadsheets write TRUE."""
    try:
        return {"true": True, "false": False}[cells[name].strip().lower()]
    except KeyError:
        raise WrongCell(f"{name} must be true or false.") from None


def _document(name: str, cells: Mapping[str, str]) -> Any:
    if name not in cells:
        return None
    try:
        document = parse_json(cells[name], max_bytes=MAX_TWIN_BYTES)
    except NotJson as problem:
        raise WrongCell(f"{name}: {problem.within('character')}") from None
    except DocumentProblem as problem:
        raise WrongCell(f"{name}: {problem}") from None
    if not isinstance(document, dict):
        raise WrongCell(f"{name} must be a JSON object.")
    return document


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
