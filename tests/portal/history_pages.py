"""The history's pages as tests read them, and rows as they could be there."""

import csv
import io
import re
import zipfile
from datetime import datetime

from django.http import HttpResponse
from django.test import Client

from enrollments.audit.events import Event
from enrollments.models import HistoryEvent, ProvisioningService

URL = "/services/plant/history/"
EXPORT = f"{URL}export/"


def shown(client: Client, url: str = URL, **query: str) -> list[HistoryEvent]:
    answer = client.get(url, query)
    assert answer.status_code == 200
    return [row.event for row in answer.context["rows"]]


def sentences(answer: HttpResponse) -> list[str]:
    """What the rows of a page, or the page of one row, say happened."""
    sentence = r'<(?:div|p)>((?:(?!</div>|</p>).)*class="actor".*?)(?:<details|</p>)'
    found = re.findall(sentence, answer.content.decode(), re.DOTALL)
    return [" ".join(re.sub(r"<svg.*?</svg>|<[^>]*>", "", one, flags=re.DOTALL).split()) for one in found]


def a_row(service: ProvisioningService, name: str, at: datetime, **more: object) -> HistoryEvent:
    values = {
        "event": Event.ENROLLMENT_DISABLED.value,
        "actor_kind": "user",
        "actor_name": "alice",
        "way": "portal",
        "subject_kind": "IndividualEnrollment",
        "service_id": service.pk,
        "service_name": service.name,
    }
    return HistoryEvent.objects.create(at=at, subject_name=name, **{**values, **more})


def exported(client: Client, url: str = EXPORT, **query: str) -> list[dict[str, str]]:
    answer = client.get(url, query)
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content))) as archive:
        text = archive.read("history.csv").decode()
    return list(csv.DictReader(io.StringIO(text)))
