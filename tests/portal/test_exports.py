"""The pages of exports: what is in a file, who may take it, and what is asked before."""

import json

import pytest

from enrollments.models import HistoryEvent
from enrollments.policy.roles import Role
from tests.certificates import self_signed
from tests.devices import enroll_device, enroll_keys
from tests.portal.import_pages import signed_in, text_of, url
from tests.transfer.lists import KEY

pytestmark = pytest.mark.django_db


def test_exported_is_what_is_filtered(service):
    for name in ("pump-1", "pump-2", "press-1"):
        enroll_keys(service, name, primary_key=KEY, secondary_key=KEY)
    auditor = signed_in(Role.AUDITOR, service)
    address = url("entry-export", service, exported="individuals") + "?q=pump"

    shown = text_of(auditor.get(address))
    answer = auditor.post(address, {"format": "jsonl"})
    lines = [json.loads(line) for line in b"".join(answer).splitlines()]

    assert "Registration ID pump" in shown
    assert "with keys in clear" not in shown
    assert [line["registrationId"] for line in lines] == ["pump-1", "pump-2"]
    assert all(line["secretsWithheld"] for line in lines)
    assert answer["Content-Disposition"].startswith('attachment; filename="individuals-plant-')
    assert HistoryEvent.objects.get(event="history.exported").after == {"q": "pump", "with secrets": False}


def test_keys_leave_with_administrators_alone_and_on_record(service):
    enroll_keys(service, "pump-1", primary_key=KEY, secondary_key=KEY)
    address = url("entry-export-with-secrets", service, exported="individuals")
    operator = signed_in(Role.OPERATOR, service)

    refused = operator.post(address, {"format": "csv"})
    answer = signed_in(Role.ADMINISTRATOR, service).post(address, {"format": "csv"})

    assert refused.status_code == operator.get(address).status_code == 403
    assert KEY in text_of(answer)
    assert 'filename="individuals-with-keys-plant-' in answer["Content-Disposition"]
    assert HistoryEvent.objects.filter(event="keys.revealed").count() == 1


def test_before_keys_leave_it_is_asked_with_what_will_be_in_the_file(service):
    for name in ("pump-1", "pump-2", "press-1"):
        enroll_keys(service, name, primary_key=KEY, secondary_key=KEY)
    enroll_device(service, self_signed("pump-3"))
    administrator = signed_in(Role.ADMINISTRATOR, service)
    plain, address = (
        f"{url(view, service, exported='individuals')}?q=pump"
        for view in ("entry-export", "entry-export-with-secrets")
    )

    page = text_of(administrator.get(plain))
    question = text_of(administrator.get(address))
    wrong = administrator.post(address, {"format": "xlsx"})

    assert f'<a class="btn" href="{address}">' in page
    assert "formaction" not in page
    assert "Export 3 individual enrollments with keys in clear?" in question
    assert "Registration ID pump" in question
    assert "both symmetric keys of <strong>2</strong> enrollments: whoever has the file can" in question
    assert f'<form class="dialog-body dialog-danger" method="post" action="{address}">' in question
    assert f'<a class="btn" href="{plain}" data-dialog-close>Cancel</a>' in question
    assert wrong.status_code == 422
    assert "with keys in clear?" in text_of(wrong)
    assert not HistoryEvent.objects.filter(event__in=("keys.revealed", "history.exported")).exists()


@pytest.mark.parametrize("view", ["entry-export", "entry-export-with-secrets"])
def test_a_filter_that_cannot_be_read_exports_nothing(service, view):
    administrator = signed_in(Role.ADMINISTRATOR, service)
    address = url(view, service, exported="groups") + "?status=on"

    assert administrator.get(address).status_code == 422
    assert administrator.post(address, {"format": "csv"}).status_code == 422
    assert not HistoryEvent.objects.filter(event="history.exported").exists()
