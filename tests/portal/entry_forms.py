"""What a browser sends for the forms of entries."""

import html
import re
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from enrollments.models import HistoryEvent

HTMX = {"HX-Request": "true"}
# What of an answer to htmx goes elsewhere on the page than what was asked for; each stands on lines of its own.
OUT_OF_BAND = re.compile(r'<\w+ id="[\w-]+" hx-swap-oob="true">.*?(?=^<|\Z)', re.DOTALL | re.MULTILINE)


def entry_form(**changes: Any) -> dict[str, Any]:
    """A form as it stands on the page, with what somebody filled in."""
    return {
        "mechanism": "x509",
        "registration_id": "",
        "primary_pem": "",
        "secondary_pem": "",
        "device_id": "",
        "allocation_policy": "",
        "reprovisioning_policy": "migrate",
        "initial_twin": "{}",
        "enabled": "yes",
        "reason": "",
        **changes,
    }


def group_form(**changes: Any) -> dict[str, Any]:
    return entry_form(**{"group_id": "plant-7", "predecessor": "", **changes})


def a_file(content: bytes | str, name: str = "certificate.pem") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content.encode() if isinstance(content, str) else content)


def page(client: Client, path: str, **headers: str) -> str:
    answer = client.get(f"/services/plant/{path}", headers=headers)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def post_once(client: Client, path: str, data: dict[str, Any] | None = None, **options: Any) -> Any:
    """The answer, with its text beside it."""
    answer = client.post(f"/services/plant/{path}", data or {}, **options)
    answer.text_shown = answer.content.decode()
    return answer


def post(client: Client, path: str, data: dict[str, Any] | None = None, **options: Any) -> Any:
    """The same, of somebody who confirms the preview where the answer is one."""
    answer = post_once(client, path, data, **options)
    mark = mark_in(answer.text_shown)
    if not mark:
        return answer
    for value in (data or {}).values():
        if isinstance(value, SimpleUploadedFile):
            value.seek(0)
    return post_once(client, path, {**(data or {}), "confirmed": mark}, **options)


def mark_in(text: str) -> str:
    """What the button of a question about a form carries, where there is one."""
    found = re.search(r'name="confirmed" value="([^"]+)"', text)
    return found[1] if found else ""


def epoch_in(text: str) -> str:
    """The same of a question about entries."""
    found = re.search(r'name="epoch" value="(\d+)"', text)
    return found[1] if found else ""


def seen_in(text: str) -> str:
    """Of which time the preview is that a question shows."""
    found = re.search(r'name="seen" value="([^"]*)"', text)
    return html.unescape(found[1]) if found else ""


def events(service: Any, event: str) -> list[HistoryEvent]:
    return list(HistoryEvent.objects.filter(service_id=service.pk, event=event).order_by("pk"))
