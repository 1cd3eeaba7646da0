"""The pages of imports and exports: uploading whole and in pieces, what is wrong, starting, cancelling."""

import json
import re
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from enrollments.actions.imports import hold, start_import
from enrollments.audit.actor import Actor, Way
from enrollments.models import HistoryEvent, ImportRun, ImportState, IndividualEnrollment
from enrollments.policy.roles import Role
from enrollments.portal.paging import PAGE_SIZE
from enrollments.portal.views import import_previews
from enrollments.transfer import foreseen, work
from enrollments.transfer.limits import PART_BYTES
from enrollments.transfer.words import UPDATING_RESETS
from tests.certificates import self_signed
from tests.devices import enroll_device, enroll_keys, new_service, register, signs
from tests.factories import a_user
from tests.transfer.lists import KEY, checked, csv_of, json_lines, keys, zip_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def service():
    return new_service()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """What a thread does otherwise."""
    monkeypatch.setattr("enrollments.portal.views.imports.work_in_background", work.work_on)
    monkeypatch.setattr(work, "work_in_background", work.work_on)


@pytest.fixture
def operator(service):
    return signed_in(Role.OPERATOR, service)


def signed_in(role, service):
    client = Client()
    client.force_login(a_user(role, service, f"the-{role.value}"))
    return client


def url(view, service, **parameters):
    return reverse(f"portal:{view}", kwargs={"service_name": service.name, **parameters})


def uploaded(client, service, content, name="list.jsonl", *, archive=None, **data):
    files = {"list": SimpleUploadedFile(name, content)}
    if archive is not None:
        files["archive"] = SimpleUploadedFile("certificates.zip", archive)
    return client.post(url("import-add", service), {**files, **data}, follow=True)


def text_of(response):
    content = b"".join(response) if response.streaming else response.content
    return " ".join(content.decode().split())


def names():
    return sorted(IndividualEnrollment.objects.values_list("registration_id", flat=True))


def test_a_list_is_uploaded_checked_started_and_done(service, operator):
    page = uploaded(operator, service, json_lines(keys("a"), "bad", keys("b")), reason="ticket 4711")
    run = ImportRun.objects.get()
    assert run.state == ImportState.CHECKED
    assert "not valid JSON" in text_of(page)
    assert "Leave out 1 line that is wrong" in text_of(page)
    assert names() == []

    refused = operator.post(url("import-start", service, import_pk=run.pk), follow=True)
    assert "1 line is wrong" in text_of(refused)
    answer = {"without_bad_lines": "on", "epoch": type(service).epoch_of(service.pk)}
    done = operator.post(url("import-start", service, import_pk=run.pk), answer, follow=True)

    assert "2 of 2 lines were carried out" in text_of(done)
    assert names() == ["a", "b"]
    row = HistoryEvent.objects.get(subject_name="a")
    assert (row.actor_name, row.way, row.reason) == ("the-operator", "portal", "ticket 4711")


def test_csv_with_a_zip(service, operator):
    rows = csv_of({"registrationId": "p", "primaryCertificate": "p.pem"})

    page = uploaded(operator, service, rows, "LIST.CSV", archive=zip_of({"p.pem": self_signed("p").pem}))

    assert "Import 1 line<" in text_of(page)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        pytest.param("list.xlsx", b"x", "has to end in .csv or .jsonl", id="a workbook"),
        pytest.param("list", b"x", "has to end in .csv or .jsonl", id="no ending"),
    ],
)
def test_a_file_that_is_no_list_is_refused_on_the_form(service, operator, name, content, sentence):
    page = uploaded(operator, service, content, name)

    assert page.status_code == 422
    assert sentence in text_of(page)
    assert not ImportRun.objects.exists()


def test_no_file_is_refused_on_the_form(service, operator):
    page = operator.post(url("import-add", service), {})

    assert page.status_code == 422
    assert "Choose the list." in text_of(page)


@pytest.mark.parametrize("content", [b"", b"colour\nred\n", b"\xff\xfe"], ids=["empty", "column", "UTF-16"])
def test_an_unreadable_list_says_why_on_its_page(service, operator, content):
    page = uploaded(operator, service, content, "list.csv")

    run = ImportRun.objects.get()
    assert run.state == ImportState.REFUSED
    assert page.status_code == 200
    assert run.problem.split("'")[0] in text_of(page)


def test_a_line_is_wrong_or_could_not_be_carried_out_and_a_list_is_unusable(service, operator):
    """Refused are devices alone."""
    run = checked(service, json_lines(keys("a"), "bad", keys("b")))
    enroll_keys(service, "a")
    done = text_of(start(operator, service, run))
    taken = b"".join(operator.get(url("import-problems", service, import_pk=run.pk))).decode().splitlines()
    unusable = text_of(uploaded(operator, service, b"", "list.csv"))
    listed = text_of(operator.get(url("import-list", service)))

    assert '<th scope="row">Wrong</th><td class="cell-number">1</td><td class="cell-number">0</td>' in done
    assert (
        '<th scope="row">Could not be carried out</th><td class="cell-number">0</td><td class="cell-number">1</td>'
        in done
    )
    assert "So it could not be carried out." in done
    assert [line.rsplit(",", 1)[1] for line in taken[1:]] == ["when carried out", "when checked"]
    assert ">Unusable</span>" in unusable
    assert ">Unusable</span>" in listed
    assert "efused" not in "".join(page.split("<main")[1] for page in (done, unusable, listed))


def start(client, service, run):
    answer = {"without_bad_lines": "on", "epoch": type(service).epoch_of(service.pk)}
    return client.post(url("import-start", service, import_pk=run.pk), answer, follow=True)


def test_pieces_make_the_file(service, operator):
    """More than the listener reads at once: as the script of the page sends it."""
    content = json_lines(*(keys(f"p{number}", deviceId="x" * 100) for number in range(6000)))
    assert len(content) > 2 * PART_BYTES
    where = operator.post(
        url("import-add", service), {"in_pieces": "on", "list_name": "C:\\lists\\big.jsonl"}
    ).json()

    for number in range(len(content) // PART_BYTES + 1):
        piece = SimpleUploadedFile("part", content[number * PART_BYTES : (number + 1) * PART_BYTES])
        answer = operator.post(where["list"].replace("/0/", f"/{number}/"), {"part": piece})
        assert answer.status_code == 200
    again = SimpleUploadedFile("part", content[:PART_BYTES])
    assert operator.post(where["list"], {"part": again}).status_code == 200
    operator.post(where["check"])

    run = ImportRun.objects.get()
    assert (run.list_name, run.lines, run.bad_lines, run.state) == ("big.jsonl", 6000, 0, ImportState.CHECKED)
    assert not run.parts.exists()


def test_pieces_that_do_not_fit_are_refused(service, operator):
    where = operator.post(url("import-add", service), {"in_pieces": "on", "list_name": "a.csv"}).json()

    def send(number, content):
        answer = operator.post(
            where["list"].replace("/0/", f"/{number}/"), {"part": SimpleUploadedFile("part", content)}
        )
        return answer.status_code, answer.json()["message"]

    assert operator.post(where["list"]).status_code == 422
    assert send(0, b"x" * (PART_BYTES + 1))[0] == 422
    assert send(1, b"x") == (409, "The parts of a file have to come in their order: begin again.")
    operator.post(where["list"], {"part": SimpleUploadedFile("part", b"short")})
    assert send(1, b"x")[0] == 409
    operator.post(where["check"])
    assert send(1, b"x") == (409, "This import has its file already.")


def test_a_name_that_is_no_list_is_told_to_the_script(service, operator):
    answer = operator.post(url("import-add", service), {"in_pieces": "on", "list_name": "a.xlsx"})

    assert answer.status_code == 422
    assert "has to end in .csv" in answer.json()["message"]


def test_progress_is_a_fragment_that_asks_again_until_it_is_done(service, operator, monkeypatch):
    actor = Actor("user", "the-operator", Way.PORTAL)
    run = checked(service, json_lines(keys("a")), actor=actor)
    start_import(run, without_bad_lines=False, actor=actor)
    held, holder = hold(run.pk)
    address = url("import-detail", service, import_pk=run.pk)

    moving = operator.get(address, headers={"HX-Request": "true"})
    work.carry_out_run(held, holder)
    done = operator.get(address, headers={"HX-Request": "true"})

    assert 'hx-trigger="every 1s"' in text_of(moving)
    assert '<progress id="import-progress" class="progress-bar-wide" max="1" value="0">' in text_of(moving)
    assert "<html" not in text_of(moving)
    assert "hx-trigger" not in text_of(done)


def test_whoever_looks_takes_over_what_was_left(service, operator):
    """The worker that had it is gone, and nobody has said anything for a while."""
    actor = Actor("user", "the-operator", Way.PORTAL)
    run = checked(service, json_lines(keys("a")), actor=actor)
    start_import(run, without_bad_lines=False, actor=actor)
    hold(run.pk)
    operator.get(url("import-list", service))
    assert names() == []

    ImportRun.objects.update(held_until=run.created_at)
    operator.get(url("import-list", service))

    assert names() == ["a"]
    run.refresh_from_db()
    assert run.state == ImportState.DONE


def test_cancelling_keeps_what_is_done_and_says_so(service, operator):
    run = checked(service, json_lines(keys("a")))

    page = operator.post(url("import-cancel", service, import_pk=run.pk), follow=True)

    assert f"Import {run.pk} is cancelled" in text_of(page)
    assert not run.content.exists()


def test_imports_of_another_service_are_not_there(service, operator):
    other = checked(new_service("other"), json_lines(keys("a")))

    for view in ("import-detail", "import-problems", "import-preview", "import-preview-export"):
        assert operator.get(url(view, service, import_pk=other.pk)).status_code == 404
    for view in ("import-start", "import-cancel", "import-check"):
        assert operator.post(url(view, service, import_pk=other.pk)).status_code == 404


def test_problems_are_paged_and_taken_along(service, operator, django_assert_num_queries):
    run = checked(service, json_lines(*(f'{{"registrationId": "=x{number}"}}' for number in range(120))))
    address = url("import-detail", service, import_pk=run.pk)

    page = operator.get(address)
    rows = text_of(operator.get(url("import-problems", service, import_pk=run.pk)))

    assert text_of(page).count("registrationId: give") == PAGE_SIZE
    assert "page-next" in text_of(page)
    assert rows.count("registrationId: give") == 120
    assert HistoryEvent.objects.filter(event="history.exported").count() == 1


def test_the_list_of_imports_takes_a_fixed_number_of_queries(service, operator, django_assert_num_queries):
    for number in range(3):
        checked(service, json_lines(keys(f"p{number}")))
    operator.get(url("import-list", service))

    with django_assert_num_queries(5):
        page = operator.get(url("import-list", service))

    assert text_of(page).count("list.jsonl") == 3


def test_the_list_of_imports_says_which_each_is_and_why(service, operator):
    first = checked(service, json_lines(keys("a")), reason="ticket 4711")
    second = checked(service, json_lines(keys("b")))

    page = text_of(operator.get(url("import-list", service)))

    newer, older = page.split("<tbody>")[1].split("</tr>")[:2]
    assert f'<td data-label="Number" class="cell-number">{first.pk}</td>' in older
    assert '<td data-label="Reason">ticket 4711</td>' in older
    assert f'<td data-label="Number" class="cell-number">{second.pk}</td>' in newer
    assert "none given" in newer


def test_the_form_says_what_updating_resets(service, operator):
    assert UPDATING_RESETS in text_of(operator.get(url("import-add", service)))


def test_an_auditor_sees_imports_and_may_not_touch_them(service):
    run = checked(service, json_lines(keys("a")))
    auditor = signed_in(Role.AUDITOR, service)

    page = text_of(auditor.get(url("import-detail", service, import_pk=run.pk)))

    assert "Lines looked at: 1." in page
    assert "<form method" not in page.split("<main")[1]
    assert auditor.post(url("import-start", service, import_pk=run.pk)).status_code == 403


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


def test_lists_lead_to_imports_and_exports_where_one_may(service, operator):
    enroll_keys(service, "pump-1")
    viewer = signed_in(Role.VIEWER, service)
    address = url("enrollment-list", service)

    assert url("import-list", service) in text_of(operator.get(address))
    assert url("entry-export", service, exported="individuals") in text_of(operator.get(address))
    assert url("import-list", service) not in text_of(viewer.get(address))
    assert url("entry-export", service, exported="individuals") not in text_of(viewer.get(address))


def test_what_an_import_does_to_known_devices_is_shown_before_it_starts(service, operator):
    entry = enroll_keys(service, "pump-1")
    register(service, signs(service, "pump-1", entry.primary_key), "pump-1")
    run = checked(service, json_lines(keys("a"), {"registrationId": "pump-1", "operation": "disable"}))
    where = url("import-preview", service, import_pk=run.pk)

    page = operator.get(url("import-detail", service, import_pk=run.pk)).content.decode()
    fragment = text_of(operator.get(where, headers={"HX-Request": "true"}))
    listed = text_of(operator.get(where, {"effect": "refused"}))
    told = operator.get(f"{where}export/")

    assert f'hx-get="{where}"' in page
    assert "known device <strong>will be refused</strong>" in fragment
    assert "<html" not in fragment
    assert "1 to 1 of 1 device" in listed
    assert b"".join(told.streaming_content).decode().splitlines()[1].startswith("pump-1,refused,admitted")
    assert HistoryEvent.objects.filter(event="history.exported").count() == 1
    entry.refresh_from_db()
    assert entry.enabled


def test_what_may_let_somebody_in_starts_on_the_state_that_was_looked_at(service, operator):
    run = checked(service, json_lines(keys("a")))
    start = url("import-start", service, import_pk=run.pk)
    epoch = type(service).epoch_of(service.pk)
    enroll_keys(service, "another")

    for answer in ({}, {"epoch": epoch}):
        page = text_of(operator.post(start, answer, follow=True))

        assert "nothing was started" in page
        assert ImportRun.objects.get().state == ImportState.CHECKED
    operator.post(start, {"epoch": type(service).epoch_of(service.pk)})
    assert "a" in names()


def test_what_only_shuts_out_is_not_held_up(service, operator):
    enroll_keys(service, "pump-1")
    run = checked(
        service,
        json_lines(
            {"registrationId": "pump-1", "operation": "disable"}, keys("b", provisioningStatus="disabled")
        ),
    )
    enroll_keys(service, "another")

    operator.post(url("import-start", service, import_pk=run.pk))

    assert not IndividualEnrollment.objects.get(registration_id="pump-1").enabled


def test_what_holds_once_the_times_of_a_list_have_come_is_shown_by_itself(service, operator, monkeypatch):
    enroll_keys(service, "pump-1")
    at = (timezone.now() + timedelta(days=1)).isoformat()
    line = keys("pump-1", operation="update", provisioningStatus="enabled", switchesAt=at)
    run = checked(service, json_lines(line))
    seen = foreseen.foresee(run)
    # Each says of how many of its own nothing is told.
    told = replace(seen, now=replace(seen.now, not_examined=3), later=replace(seen.later, not_examined=7))
    monkeypatch.setattr(import_previews, "foreseen_lately", lambda run, limits=None: told)

    page = text_of(operator.get(url("import-preview", service, import_pk=run.pk)))
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    now, sentence, later = words.partition(
        "1 entry turns by itself at a time that the list gives. Once it has:"
    )

    assert sentence
    assert "known device will still be admitted" in now
    assert "3 known devices were not examined" in now
    assert "were not examined" not in now.replace("3 known devices were not examined", "")
    assert "known device will be refused" in later
    assert "7 known devices were not examined" in later


def test_of_an_import_that_has_ended_there_is_no_preview(service, operator):
    run = checked(service, json_lines(keys("a")))
    operator.post(url("import-cancel", service, import_pk=run.pk))
    where = url("import-preview", service, import_pk=run.pk)

    assert "not waiting to be started any more" in text_of(operator.get(where))
    assert operator.get(f"{where}export/").status_code == 409
