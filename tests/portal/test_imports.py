"""The pages of imports: uploading whole and in pieces, what is wrong, starting, cancelling."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from enrollments.actions.import_holding import hold
from enrollments.audit.actor import Actor, Way
from enrollments.models import HistoryEvent, ImportRun, ImportState, IndividualEnrollment
from enrollments.policy.roles import Role
from enrollments.portal.paging import PAGE_SIZE
from enrollments.transfer import work
from enrollments.transfer.limits import PART_BYTES
from enrollments.transfer.words import UPDATING_RESETS
from tests.certificates import self_signed
from tests.devices import enroll_keys, new_service
from tests.portal.import_pages import signed_in, text_of, url
from tests.transfer.lists import checked, csv_of, json_lines, keys, started, zip_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("imports_at_once")]


@pytest.fixture
def operator(service):
    return signed_in(Role.OPERATOR, service)


def uploaded(client, service, content, name="list.jsonl", *, archive=None, **data):
    files = {"list": SimpleUploadedFile(name, content)}
    if archive is not None:
        files["archive"] = SimpleUploadedFile("certificates.zip", archive)
    return client.post(url("import-add", service), {**files, **data}, follow=True)


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


def test_of_a_list_without_a_good_line_it_is_said_what_can_be_done(service, operator):
    page = text_of(uploaded(operator, service, json_lines("bad", "worse")))

    assert "Lines looked at: 2. None of them can be imported: cancel this import" in page
    assert "when its turn comes" not in page
    assert url("import-start", service, import_pk=ImportRun.objects.get().pk) not in page


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
    started(run, actor)
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
    started(run, actor)
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


def test_lists_lead_to_imports_and_exports_where_one_may(service, operator):
    enroll_keys(service, "pump-1")
    viewer = signed_in(Role.VIEWER, service)
    address = url("enrollment-list", service)

    assert url("import-list", service) in text_of(operator.get(address))
    assert url("entry-export", service, exported="individuals") in text_of(operator.get(address))
    assert url("import-list", service) not in text_of(viewer.get(address))
    assert url("entry-export", service, exported="individuals") not in text_of(viewer.get(address))
