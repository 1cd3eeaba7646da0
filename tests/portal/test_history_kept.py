"""Saved views, and what is new since one looked: each person's own, and no part of the history."""

import pytest
from django.test import Client
from django.utils import timezone

from enrollments.actions.history_views import MOST_VIEWS, delete_view, mark_seen, rename_view, save_view
from enrollments.audit.chain import head
from enrollments.errors import Conflict, Invalid, NotFound
from enrollments.models import HistoryEvent, LastLook, SavedHistoryView
from enrollments.policy.roles import Role
from tests.factories import a_service, a_user
from tests.portal.history_pages import URL, a_row, shown

SAVE, VIEWS = f"{URL}views/save/", f"{URL}views/"


def saved() -> list[tuple[str, str]]:
    return list(SavedHistoryView.objects.order_by("pk").values_list("name", "query"))


def test_filter_is_saved_chosen_renamed_and_deleted_without_a_row_in_the_history(auditor, plant):
    rows = HistoryEvent.objects.count()

    answer = auditor.post(
        SAVE, {"name": " Stolen\x07 goods ", "query": "reason=stolen&after=x~1&evil=1&event="}
    )
    view = SavedHistoryView.objects.get()
    assert answer["Location"] == f"{URL}?reason=stolen"
    assert f'href="{URL}?reason=stolen"' in auditor.get(URL).content.decode()
    auditor.post(f"{VIEWS}rename/", {"view": view.pk, "name": "Gone"})
    assert saved() == [("Gone", "reason=stolen")]
    auditor.post(f"{VIEWS}delete/", {"view": view.pk})

    assert saved() == []
    assert HistoryEvent.objects.count() == rows


def test_name_that_is_taken_means_another_filter(auditor):
    auditor.post(SAVE, {"name": "Mine", "query": "reason=a"})
    auditor.post(SAVE, {"name": "Mine", "query": "reason=b"})

    assert saved() == [("Mine", "reason=b")]
    assert "Before, it had reason=a" in auditor.get(URL).content.decode()


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"name": "", "query": "reason=a"}, "Give the view a name"),
        ({"name": "  ", "query": "reason=a"}, "Give the view a name"),
        ({"name": "\x07", "query": "reason=a"}, "Give the view a name"),
        ({"name": "x" * 61, "query": "reason=a"}, "may be 60 characters long, and this has 61"),
        ({"name": "x", "query": ""}, "nothing is filtered here"),
        ({"name": "x", "query": "after=1~1"}, "nothing is filtered here"),
        ({"name": "x", "query": "since=yesterday"}, "cannot be read"),
        ({"name": "x", "query": "event=nonsense"}, "cannot be read"),
        ({"name": "x", "query": "reason=" + "a" * 3000}, "has 3007 characters, and 2000 can be kept"),
        ({}, "Give the view a name"),
    ],
    ids=str,
)
def test_view_that_is_not_kept_says_why(auditor, form, sentence):
    answer = auditor.post(SAVE, form)

    page = answer.content.decode()
    assert answer.status_code == 422
    assert sentence in page
    assert f'name="name" value="{form.get("name")}"' in page or not form.get("name", "").strip()
    assert f'name="query" value="{form.get("query", "")}"' in page or not form.get("query")
    assert saved() == []


def test_number_of_views_is_bounded(auditor, plant, django_user_model):
    user = django_user_model.objects.get()
    SavedHistoryView.objects.bulk_create(
        SavedHistoryView(user=user, service=plant, name=str(n), query="reason=a") for n in range(MOST_VIEWS)
    )

    answer = auditor.post(SAVE, {"name": "one more", "query": "reason=a"})

    page = answer.content.decode()
    assert answer.status_code == 409
    assert "Delete one first" in page
    assert 'value="one more"' in page
    assert f'href="{URL}?reason=a">Back to what is filtered' in page
    with pytest.raises(Conflict):
        save_view(user, plant, "one more", "reason=a")
    save_view(user, plant, "7", "reason=b")
    assert len(saved()) == MOST_VIEWS


def test_views_of_another_place_take_up_none_here(auditor, plant, django_user_model):
    """Whoever lost a role there could not delete them."""
    user, lab = django_user_model.objects.get(), a_service("lab")
    SavedHistoryView.objects.bulk_create(
        SavedHistoryView(user=user, service=lab, name=str(n), query="reason=a") for n in range(MOST_VIEWS)
    )

    assert auditor.post(SAVE, {"name": "Mine", "query": "reason=a"}).status_code == 302
    save_view(user, None, "of all", "reason=a")


@pytest.mark.parametrize(("name", "sentence"), [("two", "named two already"), ("x" * 80, "this has 80")])
def test_name_that_is_refused_stands_in_its_row(auditor, plant, django_user_model, name, sentence):
    user = django_user_model.objects.get()
    one, _ = save_view(user, plant, "one", "reason=a")
    save_view(user, plant, "two", "reason=b")

    answer = auditor.post(f"{VIEWS}rename/", {"view": one.pk, "name": name})

    page = answer.content.decode()
    assert answer.status_code == 422
    assert sentence in page
    assert "It is still named one." in page
    assert page.count(f'value="{name}"') == 1 + (name == "two")
    assert saved() == [("one", "reason=a"), ("two", "reason=b")]


def test_view_is_seen_renamed_and_deleted_by_its_owner_alone_and_where_it_was_made(auditor, plant):
    other = a_user(Role.ADMINISTRATOR, plant, "other")
    view, _ = save_view(other, plant, "Secret plan", "reason=a")

    assert "Secret plan" not in auditor.get(URL).content.decode() + auditor.get(VIEWS).content.decode()
    for path, form in (("rename/", {"name": "x"}), ("rename/", {"name": ""}), ("delete/", {})):
        answer = auditor.post(f"{VIEWS}{path}", {"view": view.pk, **form}, follow=True)
        assert "There is no such saved view" in answer.content.decode()
    for act in (
        lambda: delete_view(other, None, view.pk),
        lambda: rename_view(other, a_service("lab"), view.pk, "x"),
    ):
        with pytest.raises(NotFound):
            act()
    assert saved() == [("Secret plan", "reason=a")]


@pytest.mark.parametrize("number", ["", "x", "-1", "9" * 30, "٣"])
def test_number_that_is_none_is_no_view(auditor, number):
    for path in ("rename/", "delete/"):
        assert auditor.post(f"{VIEWS}{path}", {"view": number, "name": "x"}).status_code == 302


def test_two_views_do_not_share_a_name(auditor, plant, django_user_model):
    user = django_user_model.objects.get()
    for service in (plant, None):
        save_view(user, service, "one", "reason=a")
        two, _ = save_view(user, service, "two", "reason=b")
        with pytest.raises(Invalid):
            rename_view(user, service, two.pk, "one")


def test_installation_keeps_views_of_its_own(client, plant):
    client.force_login(a_user(Role.AUDITOR))

    answer = client.post("/history/views/save/", {"name": "Lab", "query": "service=plant&reason=a"})

    assert answer["Location"] == "/history/?reason=a&service=plant"
    assert ">Lab</a>" in client.get("/history/").content.decode()
    assert "Lab" not in client.get(VIEWS).content.decode()


def seen(client: Client, url: str = URL) -> None:
    index = client.get(url).context["news"].up_to
    assert client.post(f"{url}seen/", {"index": index}).status_code == 302


def test_what_is_new_is_counted_and_shown(auditor, plant):
    a_row(plant, "before", timezone.now())
    assert auditor.get(URL).context["news"].look is None
    assert "before" in {row.subject_name for row in shown(auditor, since="last")}
    seen(auditor)
    # Dated long ago, and committed after: it is new all the same.
    a_row(plant, "after", timezone.now().replace(year=2020))
    a_row(a_service("lab"), "elsewhere", timezone.now())

    assert [row.subject_name for row in shown(auditor, since="last")] == ["after"]
    assert "<strong>1 row</strong> is new since you last looked" in auditor.get(URL).content.decode()
    seen(auditor)
    assert shown(auditor, since="last") == []
    assert "Nothing is new since you last looked" in auditor.get(URL).content.decode()


def test_looking_marks_nothing(auditor, plant):
    a_row(plant, "x", timezone.now())
    auditor.get(URL)
    auditor.get(URL, {"since": "last"})

    assert auditor.get(f"{URL}seen/").status_code == 405
    assert not LastLook.objects.exists()


def test_row_that_came_between_looking_and_saying_so_stays_new(auditor, plant):
    index = auditor.get(URL).context["news"].up_to
    a_row(plant, "between", timezone.now())
    auditor.post(f"{URL}seen/", {"index": index})

    assert "between" in {row.subject_name for row in shown(auditor, since="last")}


def test_row_without_a_seal_is_new(auditor, plant, monkeypatch):
    seen(auditor)
    monkeypatch.setattr("enrollments.audit.upkeep.seal_batch", lambda **_: 0)
    a_row(plant, "x", timezone.now())

    assert [row.subject_name for row in shown(auditor, since="last")] == ["x"]
    assert auditor.get(URL).context["news"].count == 1


def test_mark_does_not_go_back_and_not_beyond_the_end(auditor, plant, django_user_model):
    user = django_user_model.objects.get()
    auditor.get(URL)
    size = head().size
    mark_seen(user, plant, size)

    assert mark_seen(user, plant, 1).index == size
    for index in ("", "x", str(size + 1), "9" * 18):
        assert (
            "There is no such place"
            in auditor.post(f"{URL}seen/", {"index": index}, follow=True).content.decode()
        )
    assert LastLook.objects.get().index == size


def test_each_person_and_each_service_has_a_mark_of_its_own(auditor, plant):
    seen(auditor)
    other = Client()
    other.force_login(a_user(Role.AUDITOR, None, "other"))

    assert other.get(URL).context["news"].look is None
    assert other.get("/history/").context["news"].look is None
    seen(other, "/history/")
    assert other.get(URL).context["news"].look is None


def test_viewer_is_told_of_their_own_rows_alone(client, plant):
    client.force_login(a_user(Role.VIEWER, plant))
    seen(client)
    a_row(plant, "x", timezone.now())
    client.post("/services/plant/settings/change/")

    assert client.get(URL).context["news"].count == 1
    assert [row.event for row in shown(client, since="last")] == ["action.refused"]


def test_counting_what_is_new_is_bounded(auditor, plant, monkeypatch):
    monkeypatch.setattr("enrollments.portal.history_pages.COUNTED", 3)
    seen(auditor)
    for number in range(5):
        a_row(plant, f"x-{number}", timezone.now())

    assert "At least 3 rows" in auditor.get(URL).content.decode()


def test_since_last_stays_with_other_filters_and_in_the_form(auditor, plant):
    seen(auditor)
    a_row(plant, "x", timezone.now())
    a_row(plant, "y", timezone.now())

    answer = auditor.get(URL, {"since": "last", "subject": "=x"})

    assert [row.event.subject_name for row in answer.context["rows"]] == ["x"]
    assert '<input type="hidden" name="since" value="last"' in answer.content.decode()
    assert all("since=last" in one["url"] for one in answer.context["exports"])
