"""What a browser sends for the forms of entries."""

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
    return entry_form(group_id="plant-7", predecessor="", **changes)


def a_file(content: bytes | str, name: str = "certificate.pem") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content.encode() if isinstance(content, str) else content)


def page(client: Client, path: str, **headers: str) -> str:
    answer = client.get(f"/services/plant/{path}", headers=headers)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def post(client: Client, path: str, data: dict[str, Any] | None = None, **options: Any) -> Any:
    """The answer, with its text beside it."""
    answer = client.post(f"/services/plant/{path}", data or {}, **options)
    answer.text_shown = answer.content.decode()
    return answer


def events(service: Any, event: str) -> list[HistoryEvent]:
    return list(HistoryEvent.objects.filter(service_id=service.pk, event=event).order_by("pk"))
