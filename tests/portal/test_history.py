"""The revocation history: what a row tells, filters, who sees what, and the export (R15, R17)."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from enrollments.actions.enrollments import delete_enrollments, disable_enrollment, enable_enrollment
from enrollments.audit.actor import Actor, Way
from enrollments.audit.events import Event
from enrollments.audit.sealer import seal_everything
from enrollments.models import HistoryCheckpoint, HistoryEvent
from enrollments.policy.roles import Role
from enrollments.portal import history_export, history_pages
from enrollments.portal.history_rows import rows_of
from enrollments.portal.paging import PAGE_SIZE
from tests.audit.tampering import ON_SQLITE, tampered
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, register
from tests.factories import a_service, a_user, an_individual
from tests.portal.history_pages import EXPORT, URL, a_row, exported, sentences, shown
from tests.portal.walking import pages_of

BOB = Actor("user", "bob", Way.SERVICE_API, "192.0.2.50", "0f0e")


def test_row_tells_who_did_what_to_what_when_why_and_from_where(auditor, plant):
    an_individual(plant, "pump-042")
    disable_enrollment(plant, "pump-042", actor=BOB, reason="stolen, ticket 4711")

    answer = auditor.get(URL)
    opened = auditor.get(answer.context["rows"][0].own_url, headers={"HX-Request": "true"}).content.decode()

    for part in ("bob", "service API", "disabled individual enrollment", "stolen, ticket 4711"):
        assert part in answer.content.decode()
    assert "/services/plant/enrollments/i/pump-042/" in answer.content.decode()
    for part in ("192.0.2.50", "0f0e", "Before", "<del>enabled</del>", "<ins>disabled</ins>"):
        assert part in opened


def test_row_has_an_address_of_its_own_with_all_that_it_holds(auditor, plant):
    an_individual(plant, "pump-042")
    disable_enrollment(plant, "pump-042", actor=BOB, reason="stolen, ticket 4711")
    url = auditor.get(URL).context["rows"][0].own_url

    page, opened = auditor.get(url), auditor.get(url, headers={"HX-Request": "true"})

    text = " ".join(page.content.decode().split())
    seal = HistoryEvent.objects.get(event="enrollment.disabled").seal
    for part in (
        "bob</a> disabled individual enrollment <a",
        "pump-042</a>",
        "stolen, ticket 4711",
        "service API",
    ):
        assert part in text
    for part in (f"#{seal.index}</span>", seal.hash, "192.0.2.50", "0f0e", "<del>enabled</del>"):
        assert part in text
    assert "<html" not in opened.content.decode()
    assert "HX-Request" in opened["Vary"]


def test_row_that_was_changed_in_the_database_says_that_it_is_not_what_was_sealed(auditor, plant):
    an_individual(plant, "pump-042")
    disable_enrollment(plant, "pump-042", actor=BOB, reason="stolen")
    url = auditor.get(URL).context["rows"][0].own_url
    place = HistoryEvent.objects.get(event="enrollment.disabled").seal.index
    assert "fits this row" in auditor.get(url).content.decode()

    with tampered("UPDATE enrollments_historyevent SET reason = 'as agreed'"):
        changed, opened = auditor.get(url), auditor.get(url, headers={"HX-Request": "true"})

    for answer in (changed, opened):
        text = answer.content.decode()
        assert f"This row is not the one that was sealed as #{place}:" in text
        assert "/services/plant/history/checkpoint/" in text
        assert "fits this row" not in text


def test_row_whose_seal_was_taken_away_says_so(auditor, plant):
    an_individual(plant, "pump-042")
    disable_enrollment(plant, "pump-042", actor=BOB, reason="stolen")
    url = auditor.get(URL).context["rows"][0].own_url

    with tampered("DELETE FROM enrollments_historyseal"):
        text = auditor.get(url).content.decode()

    assert "This row has no seal and waits for none" in text
    assert "not yet sealed" not in text


@pytest.mark.skipif(not ON_SQLITE, reason="PostgreSQL takes no bytes that are no text")
def test_row_whose_seal_is_no_text_says_that_it_does_not_fit(auditor, plant):
    an_individual(plant, "pump-042")
    url = auditor.get(URL).context["rows"][0].own_url

    with tampered("UPDATE enrollments_historyseal SET previous_hash = CAST(x'ff' AS TEXT)"):
        text = auditor.get(url).content.decode()

    assert "This row is not the one that was sealed" in text


def test_row_that_another_process_seals_while_it_is_read_is_no_forgery(auditor, plant, monkeypatch):
    an_individual(plant, "pump-042")
    disable_enrollment(plant, "pump-042", actor=BOB, reason="stolen")
    row = HistoryEvent.objects.get(event="enrollment.disabled")
    monkeypatch.setattr(history_pages, "seal_for_a_page", lambda: None)

    asked = []

    def sealed_before(execute, sql, params, many, context):
        if "unsealedevent" in sql and not asked:
            asked.append(sql)
            seal_everything()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(sealed_before):
        text = auditor.get(f"{URL}rows/{row.pk}/").content.decode()

    assert asked
    assert "proves nothing" not in text
    assert "fits this row" in text


@pytest.mark.parametrize(
    ("of", "sentence"),
    [
        (
            {"event": "keys.revealed", "subject_kind": "HubDevice"},
            "alice looked at the keys of device at its hub x",
        ),
        (
            {"event": "keys.revealed", "subject_kind": "IndividualEnrollment"},
            "alice looked at the keys of individual enrollment x",
        ),
        (
            {"event": "keys.revealed", "subject_kind": "AccessPolicy"},
            "alice looked at the keys of access policy x",
        ),
        (
            {
                "event": "action.refused",
                "subject_kind": "refused:User",
                "after": {"tried": "POST /people/p/x/role/"},
            },
            "alice was refused an act on person x: POST /people/p/x/role/",
        ),
        (
            {"event": "history.checked", "subject_kind": "history", "after": {"problem": None, "rows": 1234}},
            "alice verified x, 1,234 rows: as sealed",
        ),
        (
            {"event": "history.checked", "subject_kind": "history", "after": {"problem": "#7: …", "rows": 6}},
            "alice verified x, which is not as it was sealed",
        ),
    ],
)
def test_sentence_says_what_it_was_about_and_how_it_ended(auditor, plant, of, sentence):
    row = a_row(plant, "x", timezone.now(), **of)

    answer = auditor.get(URL)
    (told,) = [one for one in answer.context["rows"] if one.event.pk == row.pk]

    assert sentence in sentences(answer)
    assert sentence in sentences(auditor.get(told.own_url))
    assert ("Found wrong" in answer.content.decode()) is ("not as it was sealed" in sentence)


def test_row_is_there_for_whom_the_list_shows_it(client, plant):
    viewer = a_user(Role.VIEWER, plant)
    client.force_login(viewer)
    own = a_row(plant, "own", timezone.now(), actor_kind="user", actor_name=viewer.username)
    others = [
        a_row(plant, "alice", timezone.now()),
        a_row(plant, "before", viewer.date_joined - timedelta(days=1), actor_name=viewer.username),
        a_row(plant, "by-cli", timezone.now(), actor_kind="cli", actor_name=viewer.username),
        a_row(a_service("lab"), "bench-1", timezone.now(), actor_name=viewer.username),
    ]

    assert [event.pk for event in shown(client)] == [own.pk]
    assert client.get(f"{URL}rows/{own.pk}/").status_code == 200
    for row in (*others, own):
        for path in (URL, "/history/"):
            if (path, row) != (URL, own):
                assert client.get(f"{path}rows/{row.pk}/").status_code in (403, 404)
    for number in ("0", "9" * 18, "9" * 30, "x"):
        assert client.get(f"{URL}rows/{number}/").status_code == 404


def test_list_does_not_carry_what_its_rows_hold(auditor, plant):
    """A page of rows whose twins changed in every leaf stays small; the difference comes with the row."""
    twin = {f"property-{number}": "x" * 300 for number in range(60)}
    for number in range(PAGE_SIZE + 1):
        a_row(
            plant, f"x-{number}", timezone.now(), before={"initial_twin": None}, after={"initial_twin": twin}
        )

    answer = auditor.get(URL)
    (row, *_) = answer.context["rows"]

    assert len(answer.context["rows"]) == PAGE_SIZE
    assert len(answer.content) < 60_000
    assert "x" * 300 not in answer.content.decode()
    assert "x" * 300 in auditor.get(row.own_url).content.decode()


def test_row_tells_by_which_program_a_person_acted(auditor, plant):
    auditor.post(f"{URL}checkpoint/download/")
    auditor.get(EXPORT, HTTP_USER_AGENT="Mozilla/5.0 (<b>X11</b>)\x07")

    row = HistoryEvent.objects.get(event="history.exported")
    assert row.client == "Mozilla/5.0 (<b>X11</b>)"
    assert "Mozilla/5.0 (&lt;b&gt;X11&lt;/b&gt;)" in auditor.get(f"{URL}rows/{row.pk}/").content.decode()


def test_object_that_is_gone_keeps_its_name_and_has_no_link(auditor, plant):
    an_individual(plant, "pump-042")
    delete_enrollments(plant, ["pump-042"], actor=ALICE)

    text = auditor.get(URL).content.decode()

    assert "deleted individual enrollment" in text
    assert "pump-042" in text
    assert "/services/plant/enrollments/i/pump-042/" not in text


def test_differences_are_told_field_by_field(plant):
    row = a_row(
        plant,
        "x",
        timezone.now(),
        before={"status": "enabled", "hubs": ["a", "b"], "device_id": "x", "webhook": ""},
        after={"status": "disabled", "hubs": ["b", "c"], "note": "new", "twin": None},
    )

    (shown_row,) = rows_of([row], plant)

    assert [(one.field, one.before, one.after, one.how) for one in shown_row.differences.shown] == [
        ("status", "enabled", "disabled", "changed"),
        ("hubs", "a", "", "removed"),
        ("hubs", "", "c", "added"),
        ("device ID", "x", "", "removed"),
        ("note", "", "new", "added"),
    ]


def test_row_of_a_later_version_is_shown_as_it_is(auditor, plant):
    a_row(plant, "x", timezone.now(), event="comet.seen")

    assert "comet.seen" in auditor.get(URL).content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"old", "new", "api"}),
        ({"since": "2026-05-02T00:00"}, {"new", "api"}),
        ({"until": "2026-05-02T00:00"}, {"old"}),
        ({"since": "2026-05-03T10:00", "until": "2026-05-03T10:00"}, {"new"}),
        ({"actor": "ALICE"}, {"old", "new"}),
        ({"actor": "LIC"}, {"old", "new"}),
        ({"actor": "_lice"}, set()),
        ({"event": "enrollment.enabled"}, {"new"}),
        ({"event": "shuts-out"}, {"old", "api"}),
        ({"way": "service API"}, {"api"}),
        ({"subject": "EW"}, {"new"}),
        ({"reason": "4711"}, {"old"}),
        ({"reason": "%"}, set()),
        ({"actor": "alice", "event": "shuts-out"}, {"old"}),
        ({"event": "nonsense"}, set()),
        ({"since": "yesterday"}, set()),
        ({"since": "2026-05-03T10:00", "until": "2026-05-01T10:00"}, set()),
    ],
)
def test_filter(auditor, plant, query, found):
    a_row(plant, "old", datetime(2026, 5, 1, 10, tzinfo=UTC), reason="ticket 4711")
    a_row(plant, "new", datetime(2026, 5, 3, 10, tzinfo=UTC), event=Event.ENROLLMENT_ENABLED.value)
    a_row(plant, "api", datetime(2026, 5, 3, 11, tzinfo=UTC), actor_name="bob", way="service API")

    rows = {row.subject_name for row in shown(auditor, **query)}

    assert rows & {"old", "new", "api"} == found


def test_filter_stays_in_the_address_and_in_the_export(auditor, plant):
    answer = auditor.get(URL, {"actor": "alice", "reason": "a&b"})

    assert 'value="a&amp;b"' in answer.content.decode()
    assert [one["url"] for one in answer.context["exports"]] == [
        f"{EXPORT}?format={format}&actor=alice&reason=a%26b" for format in ("xlsx", "csv", "jsonl")
    ]
    shuts_out = answer.context["quick"][1]
    assert shuts_out["url"] == f"{URL}?actor=alice&reason=a%26b&event=shuts-out"


def test_pages_follow_each_other_also_within_one_moment(auditor, plant):
    moment = datetime(2026, 5, 1, 10, tzinfo=UTC)
    for number in range(120):
        a_row(plant, f"x-{number}", moment)

    pages = pages_of(auditor, f"{URL}?subject=x-")

    seen = [event.pk for page in pages for event in page]
    assert len(pages) > 2
    assert {len(page) for page in pages[:-1]} == {PAGE_SIZE}
    assert len(set(seen)) == 120
    assert seen == sorted(seen, reverse=True)


def test_list_states_its_queries(auditor, plant, django_assert_max_num_queries):
    ca = root("Plant CA")
    enroll_ca(plant, ca, "plant-7")
    for number in range(5):
        register(plant, ca.leaf(f"pump-{number}"))
        an_individual(plant, f"gate-{number}", keys=True)
    auditor.get(URL)  # seals what waits

    # Five more than the rows themselves: whether a switch is due, whether failures are to be told of, how far the
    # person has looked, the end of the sequence, the saved views.
    with django_assert_max_num_queries(13):
        auditor.get(URL)


def test_row_and_search_for_a_text_state_their_queries(auditor, plant, django_assert_max_num_queries):
    an_individual(plant, "pump-042")
    disable_enrollment(plant, "pump-042", actor=BOB, reason="stolen, ticket 4711")
    row, *_ = auditor.get(URL).context["rows"]

    for path, most in ((row.own_url, 8), (f"{URL}?reason=4711", 14)):
        with django_assert_max_num_queries(most):
            assert auditor.get(path).status_code == 200


def test_history_of_another_service_is_not_shown(auditor):
    a_row(a_service("lab"), "bench-1", timezone.now())

    assert "bench-1" not in auditor.get(URL, {"subject": "bench"}).content.decode()
    assert not [row for row in exported(auditor) if row["object"] == "bench-1"]


def test_viewer_sees_what_they_did_themselves_and_nothing_else(client, plant):
    client.force_login(a_user(Role.VIEWER, plant))
    an_individual(plant, "pump-042")
    client.post("/services/plant/enrollments/i/pump-042/disable/")
    # The name alone does not make a row one's own: a command on the machine may run under the same name.
    a_row(plant, "by-cli", timezone.now(), actor_kind="cli", actor_name="some-viewer")

    rows = shown(client)

    assert [row.event for row in rows] == ["action.refused"]
    assert "What you did yourself" in client.get(URL).content.decode()
    assert client.get(EXPORT).status_code == 403


def test_installation_history_shows_all_services_and_what_belongs_to_none(client, plant):
    client.force_login(a_user(Role.ADMINISTRATOR))
    an_individual(plant, "pump-042")

    everything = shown(client, "/history/")
    of_none = shown(client, "/history/", service="-")
    of_plant = shown(client, "/history/", service="plant")

    assert [(row.event, row.subject_name) for row in of_none] == [("person.added", "some-administrator")]
    assert {row.service_name for row in of_plant} == {"plant"}
    assert {row.pk for row in everything} == {row.pk for row in [*of_none, *of_plant]}
    assert [row.pk for row in everything] == sorted((row.pk for row in everything), reverse=True)


def test_installation_history_shows_a_viewer_their_own_rows(client, plant):
    a_user(Role.ADMINISTRATOR)
    client.force_login(a_user(Role.VIEWER))
    client.get("/people/")
    client.post("/people/add/")

    assert [row.event for row in shown(client, "/history/")] == ["action.refused", "action.refused"]


def test_export_holds_exactly_what_is_filtered_newest_first(auditor, plant, monkeypatch):
    monkeypatch.setattr(history_export, "EXPORT_CHUNK", 3)
    start = datetime(2026, 5, 1, tzinfo=UTC)
    for number in range(10):
        a_row(plant, f"x-{number}", start + timedelta(minutes=number // 2), reason="why")
    a_row(plant, "y", start)

    rows = exported(auditor, subject="x-")

    assert [row["object"] for row in rows] == [f"x-{number}" for number in reversed(range(10))]
    assert rows[0]["when (UTC)"] == "2026-05-01T00:04:00.000000Z"
    assert (rows[0]["who"], rows[0]["did what"], rows[0]["reason"]) == (
        "alice",
        "disabled individual enrollment",
        "why",
    )


def test_export_is_recorded_before_it_is_read_and_is_not_part_of_itself(auditor, plant):
    answer = auditor.get(EXPORT, {"actor": "alice", "since": "2026-05-01T00:00"})

    row = HistoryEvent.objects.get(event="history.exported")
    assert (row.actor_name, row.service_id) == ("some-auditor", plant.pk)
    checkpoint = HistoryCheckpoint.objects.latest("pk")
    assert row.after == {
        "actor": "alice",
        "since": "2026-05-01T00:00:00+00:00",
        "rows_up_to": checkpoint.size,
    }
    assert b"history.exported" not in b"".join(answer.streaming_content)


def test_export_that_cannot_be_recorded_does_not_happen(auditor, monkeypatch):
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the history cannot be written")

    monkeypatch.setattr("enrollments.actions.history.record", broken)

    with pytest.raises(RuntimeError):
        auditor.get(EXPORT)


def test_export_with_an_unreadable_filter_exports_nothing(auditor):
    answer = auditor.get(EXPORT, {"since": "yesterday"})

    assert answer.status_code == 422
    assert "The filter of this export cannot be read" in answer.content.decode()
    assert not HistoryEvent.objects.filter(event="history.exported").exists()


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0"])
def test_cell_that_begins_like_a_formula_is_exported_as_text(auditor, plant, name):
    a_row(plant, name, timezone.now(), reason=name, actor_name=name)

    (row,) = [row for row in exported(auditor) if row["event"] == "enrollment.disabled"]

    assert row["object"] == row["reason"] == row["who"] == f"'{name}"


def test_ordinary_cell_is_exported_as_it_is(auditor, plant):
    a_row(plant, "pump-042", timezone.now(), reason='said "no", then\nleft')

    (row,) = [row for row in exported(auditor) if row["event"] == "enrollment.disabled"]

    assert (row["object"], row["reason"]) == ("pump-042", 'said "no", then\nleft')


def test_what_somebody_typed_is_shown_as_text(auditor, plant):
    a_row(plant, "<img src=x>", timezone.now(), reason="<script>", after={"<b>": "<i>"})

    answer = auditor.get(URL)
    (row,) = (one for one in answer.context["rows"] if one.event.after == {"<b>": "<i>"})
    text = answer.content.decode() + auditor.get(row.own_url).content.decode()

    assert "&lt;b&gt;" in text and "&lt;script&gt;" in text
    for tag in ("<img src=x>", "<script>alert", "<script></", "<b>", "<i>"):
        assert tag not in text


def test_enabling_is_no_act_that_shuts_out(auditor, plant):
    an_individual(plant, "pump-042")
    disable_enrollment(plant, "pump-042", actor=ALICE)
    enable_enrollment(plant, "pump-042", actor=ALICE)

    assert [row.event for row in shown(auditor, event="shuts-out")] == ["enrollment.disabled"]


def test_entry_that_is_added_disabled_shuts_out_and_the_sentence_says_so(auditor, plant):
    """R5, R7: that is how one device of a batch, or a CA that was never enrolled, is barred."""
    an_individual(plant, "pump-042", enabled=False)
    an_individual(plant, "pump-043")

    text = auditor.get(URL, {"event": "shuts-out"}).content.decode()

    assert "disabled from the start" in text
    assert "pump-042</a>" in text
    assert "pump-043" not in text
