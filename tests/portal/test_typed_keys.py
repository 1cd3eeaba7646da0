"""Symmetric keys that were typed go with a form through its pages, and stand readable in none of them."""

import base64
import csv
import html
import re
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.actions.preview import limits
from enrollments.errors import Invalid
from enrollments.models import HistoryEvent, IndividualEnrollment
from enrollments.models.fields import cipher
from enrollments.policy.roles import Role
from enrollments.portal import previews, typed_keys
from enrollments.portal.typed_keys import MAX_AGE, Place
from tests.certificates import self_signed
from tests.devices import derived_key, enroll_key_group, enroll_keys, register, signs
from tests.factories import a_service, a_user, an_individual
from tests.portal.entry_forms import HTMX, entry_form, group_form, mark_in, post, post_once

KEY, OTHER, FORMER = (base64.b64encode(letter * 32).decode() for letter in (b"k", b"o", b"f"))
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HERE = Place(person=7, service=3, kind="device", entry=None)
REFUSED = "cannot be used: it holds for 30 minutes, for whoever typed them and for that form alone"

with_database = pytest.mark.django_db


# --- The field -------------------------------------------------------------------------------


def test_opens_for_who_typed_them_and_says_since_when():
    keys = {"primary_key": KEY, "secondary_key": OTHER}

    token = typed_keys.sealed(keys, HERE, NOW)

    assert typed_keys.opened(token, HERE, NOW + MAX_AGE) == (keys, NOW)
    assert (KEY in token, base64.b64encode(KEY.encode()).decode() in token) == (False, False)
    assert len(token) < typed_keys.MAX_CHARACTERS / 1.5


@pytest.mark.parametrize(
    ("change", "later"),
    [
        pytest.param({"person": 8}, timedelta(0), id="another person"),
        pytest.param({"person": None}, timedelta(0), id="nobody"),
        pytest.param({"service": 4}, timedelta(0), id="another service"),
        pytest.param({"kind": "ca"}, timedelta(0), id="the form of a group"),
        pytest.param({"entry": 1}, timedelta(0), id="the form of an entry"),
        pytest.param({}, MAX_AGE + timedelta(seconds=1), id="outdated"),
        pytest.param({}, timedelta(minutes=-2), id="from the future"),
    ],
)
def test_opens_for_nobody_and_nothing_else(change, later):
    token = typed_keys.sealed({"primary_key": KEY}, HERE, NOW)
    values = {name: getattr(HERE, name) for name in HERE.__dataclass_fields__}

    with pytest.raises(Invalid, match=REFUSED):
        typed_keys.opened(token, Place(**{**values, **change}), NOW + later)


def test_with_any_byte_changed_it_does_not_open():
    octets = base64.urlsafe_b64decode(typed_keys.sealed({"primary_key": KEY}, HERE, NOW))

    for place in range(len(octets)):
        other = octets[:place] + bytes([octets[place] ^ 1]) + octets[place + 1 :]
        with pytest.raises(Invalid, match=REFUSED):
            typed_keys.opened(base64.urlsafe_b64encode(other).decode(), HERE, NOW)


@pytest.mark.parametrize(
    "token",
    [
        *("x", "ÿ", "\ud800", "\x00", "A" * 2_000_000),
        pytest.param(lambda: cipher().encrypt_at_time(KEY.encode(), int(NOW.timestamp())), id="a column"),
        pytest.param(lambda: cipher().encrypt_at_time(b"[1]", int(NOW.timestamp())), id="a list"),
        pytest.param(lambda: Fernet(Fernet.generate_key()).encrypt(b"[]"), id="by another key"),
    ],
)
def test_what_is_not_ours_does_not_open(token):
    text = token if isinstance(token, str) else token().decode()

    with pytest.raises(Invalid, match=REFUSED):
        typed_keys.opened(text, HERE, NOW)


def test_r16_opens_for_as_long_as_the_key_of_the_installation_is_listed(settings):
    former, newest = settings.DPS_ENCRYPTION_KEY, Fernet.generate_key().decode()
    token = typed_keys.sealed({"primary_key": KEY}, HERE, NOW)

    settings.DPS_ENCRYPTION_KEY = f"{newest},{former}"
    assert typed_keys.opened(token, HERE, NOW)[0] == {"primary_key": KEY}

    settings.DPS_ENCRYPTION_KEY = newest
    with pytest.raises(Invalid, match=REFUSED):
        typed_keys.opened(token, HERE, NOW)


def test_what_is_too_long_for_keys_is_not_kept():
    assert typed_keys.sealed({"primary_key": "k" * 1000}, HERE, NOW) == ""


# --- All devices of a preview ----------------------------------------------------------------


@pytest.fixture
def service():
    return a_service()


@pytest.fixture
def person(service):
    return a_user(Role.OPERATOR, service)


@pytest.fixture
def operator(client, person):
    client.force_login(person)
    return client


@pytest.fixture
def line(service):
    """A group with keys of its own, and five devices that registered by them."""
    group = enroll_key_group(service, "line-9", primary_key=FORMER, secondary_key=FORMER)
    service.refresh_from_db()
    for number in range(5):
        name = f"lamp-{number}"
        register(service, signs(service, name, derived_key(FORMER, name)), name)
    return group


@pytest.fixture
def short_pages(monkeypatch):
    monkeypatch.setattr(previews.page_of, "__defaults__", (2,))


def other_keys(group, **changes):
    """The form in which both keys of the group are replaced, as it stands on its page."""
    return group_form(
        mechanism="symmetricKey",
        primary_key=KEY,
        secondary_key=OTHER,
        expected_etag=group.etag,
        **changes,
    )


PATH = "groups/g/line-9/"


def hidden_in(text):
    """The hidden fields of the page, as a browser sends them with a button of it."""
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', text)
    return {name: html.unescape(value) for name, value in fields}


def buttons_in(text):
    return dict(re.findall(r'<button type="submit" class="btn btn-sm" name="(\w+)" value="([^"]*)"', text))


def rows_in(text):
    return re.findall(r'<th scope="row">.*?>([\w-]+)<', text)


def is_secret(text):
    return not any(secret in text for secret in (KEY, OTHER, html.escape(KEY), html.escape(OTHER)))


@with_database
def test_pages_hold_what_the_export_says_and_no_key(operator, line, short_pages, caplog):
    answer = post_once(operator, f"{PATH}preview/", {**other_keys(line), "effect": "refused"})
    pages, texts = [], [answer.text_shown]
    while True:
        pages.append(rows_in(answer.text_shown))
        following = buttons_in(answer.text_shown).get("after")
        if following is None:
            break
        answer = post_once(operator, f"{PATH}preview/", {**hidden_in(answer.text_shown), "after": following})
        texts.append(answer.text_shown)
    before = buttons_in(answer.text_shown)["before"]
    back = post_once(operator, f"{PATH}preview/", {**hidden_in(answer.text_shown), "before": before})
    export = operator.post(f"/services/plant/{PATH}preview/", {**hidden_in(texts[-1]), "export": "csv"})
    lines = list(csv.reader(b"".join(export.streaming_content).decode().splitlines()))

    assert pages == [["lamp-0", "lamp-1"], ["lamp-2", "lamp-3"], ["lamp-4"]]
    assert rows_in(back.text_shown) == pages[1]
    assert [row[:2] for row in lines[1:]] == [[name, "refused"] for page in pages for name in page]
    told = [*texts, back.text_shown, str(lines), str(export.headers), caplog.text]
    assert all(map(is_secret, told))
    assert all('value="refused" aria-current="true">Will be refused' in text for text in texts)


@with_database
def test_empty_fields_would_mean_that_nobody_is_refused(operator, line):
    """What the list said once the keys were not sent any more."""
    form = other_keys(line, effect="refused")

    kept = post_once(operator, f"{PATH}preview/", {**form, "primary_key": "", "secondary_key": ""})
    replaced = post_once(operator, f"{PATH}preview/", form)

    assert rows_in(kept.text_shown) == []
    assert len(rows_in(replaced.text_shown)) == 5


@with_database
def test_everybody_can_be_examined_from_the_list(operator, service, monkeypatch):
    monkeypatch.setattr(limits, "SECONDS_SINGLY", -1)
    entry = an_individual(service)
    form = entry_form(mechanism="symmetricKey", primary_key=KEY, expected_etag=entry.etag)

    glance = post_once(operator, "enrollments/i/pump-042/preview/", form)
    everyone = {**hidden_in(glance.text_shown), "everyone": "1"}
    whole = post_once(operator, "enrollments/i/pump-042/preview/", everyone)

    assert "was not examined" in " ".join(re.sub("<[^>]+>", "", glance.text_shown).split())
    assert '<button type="submit" class="as-link" name="everyone" value="1">Examine all' in glance.text_shown
    assert rows_in(glance.text_shown) == []
    assert rows_in(whole.text_shown) == ["pump-042"]
    assert "not examined" not in whole.text_shown


@with_database
def test_a_page_asked_for_by_the_field_takes_no_more_queries(operator, line):
    typed = other_keys(line)
    first = post_once(operator, f"{PATH}preview/", typed)

    with CaptureQueriesContext(
        connection,
    ) as by_keys:
        post_once(operator, f"{PATH}preview/", typed)
    with CaptureQueriesContext(connection) as by_field:
        post_once(operator, f"{PATH}preview/", hidden_in(first.text_shown))

    assert len(by_field) == len(by_keys)


def put(person, service, entry=None, *, kind="ca", age=timedelta(0), **keys):
    """A field as a page had it some time ago."""
    place = Place(person.pk, service.pk, kind, entry.pk if entry is not None else None)
    return typed_keys.sealed(
        keys or {"primary_key": KEY, "secondary_key": OTHER}, place, timezone.now() - age
    )


@with_database
@pytest.mark.parametrize("where", [f"{PATH}preview/", PATH], ids=["the list", "saving"])
@pytest.mark.parametrize(
    "whose", ["another person", "another service", "another form", "outdated", "changed"]
)
def test_field_that_is_not_of_this_form_is_refused_in_one_sentence(
    operator, service, person, line, where, whose
):
    tokens = {
        "another person": lambda: put(a_user(Role.OPERATOR, service, "somebody-else"), service, line),
        "another service": lambda: put(person, a_service("elsewhere"), line),
        "another form": lambda: put(person, service),
        "outdated": lambda: put(person, service, line, age=MAX_AGE + timedelta(seconds=5)),
        "changed": lambda: put(person, service, line)[:-9] + "AAAAAAAA=",
    }
    form = group_form(mechanism="symmetricKey", expected_etag=line.etag, typed_keys=tokens[whose]())

    answer = post_once(operator, where, form)

    assert answer.status_code == 422
    assert f"{REFUSED}. Type the keys again." in answer.text_shown
    assert 'name="typed_keys"' not in answer.text_shown
    line.refresh_from_db()
    assert line.primary_key == FORMER


@with_database
def test_r16_with_another_key_of_the_installation_nothing_is_guessed(
    operator, service, person, line, settings
):
    token = put(person, service, line)
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()
    form = group_form(mechanism="symmetricKey", expected_etag=line.etag)

    moved = post_once(operator, f"{PATH}preview/", {**form, "typed_keys": token})
    typed = post_once(operator, f"{PATH}preview/", other_keys(line))

    assert (moved.status_code, REFUSED in moved.text_shown) == (422, True)
    assert (typed.status_code, "cannot be decrypted" in typed.text_shown) == (503, True)


# --- Saving without script -------------------------------------------------------------------


def new(**changes):
    return entry_form(mechanism="symmetricKey", registration_id="key-1", **changes)


ADD = "enrollments/add/"


@with_database
def test_without_script_the_question_is_answered_without_typing_again(operator, service):
    asked = post_once(operator, ADD, new(primary_key=KEY, secondary_key=OTHER))
    token = hidden_in(asked.text_shown)["typed_keys"]

    saved = post_once(operator, ADD, new(typed_keys=token, confirmed=mark_in(asked.text_shown)))

    assert is_secret(asked.text_shown)
    assert (
        "The primary key and the secondary key that you typed are saved with it, and not shown again"
        in asked.text_shown
    )
    assert "have keys generated" not in asked.text_shown
    assert saved.status_code == 302
    entry = service.individualenrollments.get()
    assert (entry.primary_key, entry.secondary_key) == (KEY, OTHER)
    assert all(is_secret(str([row.before, row.after])) for row in HistoryEvent.objects.all())


@with_database
def test_the_list_of_the_question_without_script_is_of_the_keys_that_were_typed(operator, line):
    asked = post_once(operator, PATH, other_keys(line))
    token = hidden_in(asked.text_shown)["typed_keys"]
    form = group_form(mechanism="symmetricKey", expected_etag=line.etag, typed_keys=token)

    listed = post_once(operator, f"{PATH}preview/", {**form, "effect": "refused"})

    assert len(rows_in(listed.text_shown)) == 5


@with_database
@pytest.mark.parametrize("typed", [{"primary_key": OTHER}, {"secondary_key": KEY}])
def test_what_is_typed_afterwards_counts_and_is_asked_about_again(operator, service, typed):
    asked = post_once(operator, ADD, new(primary_key=KEY, secondary_key=OTHER))
    form = new(typed_keys=hidden_in(asked.text_shown)["typed_keys"], confirmed=mark_in(asked.text_shown))

    again = post_once(operator, ADD, {**form, **typed})
    kept = new(typed_keys=hidden_in(again.text_shown)["typed_keys"], confirmed=mark_in(again.text_shown))
    saved = post_once(operator, ADD, kept)

    assert (again.status_code, saved.status_code) == (200, 302)
    entry = service.individualenrollments.get()
    expected = {"primary_key": KEY, "secondary_key": OTHER, **typed}
    assert (entry.primary_key, entry.secondary_key) == tuple(expected.values())


@with_database
def test_what_is_confirmed_is_what_was_looked_at_also_where_keys_are_in_a_field(operator, service, person):
    asked = post_once(operator, ADD, new(primary_key=KEY))
    other = put(person, service, kind="device", primary_key=OTHER)

    answer = post_once(operator, ADD, new(typed_keys=other, confirmed=mark_in(asked.text_shown)))

    assert answer.status_code == 200
    assert not service.individualenrollments.exists()


@with_database
@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
def test_a_form_that_is_mended_elsewhere_keeps_the_keys(operator, service, headers):
    """They were dropped, and other ones generated where nobody noticed."""
    wrong = post_once(operator, ADD, new(primary_key=KEY, initial_twin="[]"), headers=headers)
    mended = new(typed_keys=hidden_in(wrong.text_shown)["typed_keys"], enabled="no")

    saved = post(operator, ADD, mended)

    assert wrong.status_code == 422
    assert "The primary key that you typed is kept in this page for 30 minutes" in wrong.text_shown
    assert "Leave the other empty to have it generated." in wrong.text_shown
    assert is_secret(wrong.text_shown)
    assert saved.status_code == 302
    entry = service.individualenrollments.get()
    assert (entry.primary_key, len(entry.secondary_key)) == (KEY, 88)


@with_database
def test_a_key_that_is_wrong_is_not_kept(operator):
    wrong = post_once(operator, ADD, new(primary_key="bm90LWEta2V5", secondary_key=KEY))
    alone = post_once(operator, ADD, new(primary_key="bm90LWEta2V5"))

    assert "The secondary key that you typed is kept" in wrong.text_shown
    assert 'name="typed_keys"' not in alone.text_shown


@with_database
def test_pages_that_are_asked_for_again_and_again_do_not_make_keys_last_longer(operator, service, person):
    token = put(person, service, kind="device", age=MAX_AGE - timedelta(minutes=1), primary_key=KEY)

    answer = post_once(operator, ADD, new(typed_keys=token))

    handed_on = hidden_in(answer.text_shown)["typed_keys"]
    assert cipher().extract_timestamp(handed_on) == cipher().extract_timestamp(token)


@with_database
def test_another_mechanism_takes_no_keys_and_hands_none_on(operator, service, person):
    entry = enroll_keys(service, "key-1")
    leaf = self_signed("key-1").pem
    form = entry_form(primary_pem=leaf, expected_etag=entry.etag, primary_key=KEY, typed_keys="not ours")

    listed = post_once(operator, "enrollments/i/key-1/preview/", form)
    asked = post_once(operator, "enrollments/i/key-1/", form)

    assert (listed.status_code, asked.status_code) == (200, 200)
    for answer in (listed, asked):
        assert is_secret(answer.text_shown)
        assert 'name="typed_keys"' not in answer.text_shown
    assert IndividualEnrollment.objects.get().mechanism == "symmetricKey"
