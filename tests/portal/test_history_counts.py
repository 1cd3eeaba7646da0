"""Rows of the history that stand for several: their sentences, and what they have no one of."""

import pytest
from django.utils import timezone

from enrollments.audit.events import Event
from tests.portal.history_pages import URL, a_row, sentences


@pytest.mark.parametrize(
    ("event", "after", "told"),
    [
        pytest.param(Event.SIGN_IN_FAILED, {"failures": 1}, "failed to sign in as bob", id="once"),
        pytest.param(
            Event.SIGN_IN_FAILED, {"failures": 1037}, "failed to sign in as bob 1,037 times", id="several"
        ),
        pytest.param(
            Event.SIGN_IN_FAILED,
            {"failures": 5, "held_off": True},
            "failed to sign in as bob 5 times, and was held off",
            id="as the hold-off begins",
        ),
        pytest.param(
            Event.SIGN_IN_FAILED,
            {"failures": 40, "held_off": True, "while_held_off": 35, "told_before": 5},
            "failed to sign in as bob 40 times in all, 5 of which have a row already",
            id="the same window when it has ended",
        ),
        pytest.param(
            Event.SIGN_IN_FAILED,
            {"failures": 40, "held_off": True, "while_held_off": 35},
            "failed to sign in as bob 40 times in all",
            id="the same, of an older version",
        ),
        pytest.param(
            Event.SIGN_IN_FAILED,
            {"failures": 9, "names": 3, "held_off": True, "while_held_off": 4},
            "failed to sign in as bob 9 times",
            id="of names that nobody has",
        ),
        pytest.param(
            Event.SIGN_IN_FAILED,
            {"failures": 7, "held_off": True, "while_held_off": 7},
            "failed to sign in as bob 7 times",
            id="after the window was told",
        ),
        pytest.param(
            Event.TOKEN_FAILED,
            {"failures": 3, "addresses": 2, "some_addresses": ["192.0.2.1", "192.0.2.2"]},
            "failed to prove themselves with API token bob 3 times",
            id="at the service API",
        ),
        pytest.param(Event.REFUSED, {"times": 1}, "was refused bob 1 time more", id="refused again"),
        pytest.param(
            Event.ENROLLMENT_CHANGED, {"failures": 4}, "changed individual enrollment bob", id="else"
        ),
    ],
)
def test_row_that_stands_for_several_says_so_in_its_sentence(auditor, plant, event, after, told):
    row = a_row(
        plant,
        "bob",
        timezone.now(),
        event=event.value,
        subject_kind="action",
        subject_id="" if "names" in after else "7",
        actor_name="somebody",
        after=after,
    )

    assert sentences(auditor.get(f"{URL}rows/{row.pk}/")) == [f"somebody {told}"]
    assert sentences(auditor.get(URL))[0] == f"somebody {told}"


def test_row_tells_no_client_and_no_address_where_it_stands_for_several(auditor, plant):
    several = {"failures": 3, "addresses": 2, "some_addresses": ["192.0.2.1", "192.0.2.2"]}
    row = a_row(plant, "bob", timezone.now(), event=Event.TOKEN_FAILED.value, after=several)
    own = a_row(plant, "bob", timezone.now(), way="command line")

    details = auditor.get(f"{URL}rows/{row.pk}/").content.decode()

    assert "Client</dt>" not in details
    assert '<dt>From address</dt><dd><span class="quiet">several</span></dd>' in details
    assert "this machine" in auditor.get(f"{URL}rows/{own.pk}/").content.decode()
