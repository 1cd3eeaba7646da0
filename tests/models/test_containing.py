"""A part of a text is found whatever the case of its letters, on either database and with any letters."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enrollments.models import HistoryEvent
from enrollments.models.containing import containing
from tests.audit.histories import fill
from tests.audit.tampering import undone

pytestmark = pytest.mark.django_db

STORED = [
    "xÄÖx",
    "xäöx",
    "xäÖx",
    "Gerät",
    "Straße",
    "STRAßE",
    "Strasse",
    "ЖУК",
    "Жук",
    "ΤΈΛΟΣ",
    "τέλοσ",
    "Ä*",
    "ä[Ö",
    "Ä.",
    "Ä\\",
    "Ä]^-",
    "ao",
    "GERÄT defekt",
]

TEXTS = st.text("aAbBäÄöÖßéÉσςΣжЖſkK [](){}*?%_\\^$.|+-'\"€", max_size=8)


def found(texts: list[str], part: str) -> set[str]:
    fill(len(texts))
    rows = list(HistoryEvent.objects.order_by("pk"))
    for row, text in zip(rows, texts, strict=True):
        row.pk, row._state.adding, row.reason = None, True, text
        row.subject_name = "looked for"
        row.save()
    rows_found = HistoryEvent.objects.filter(containing("reason", part), subject_name="looked for")
    return set(rows_found.values_list("reason", flat=True))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("äö", {"xÄÖx", "xäöx", "xäÖx"}),
        ("ÄÖ", {"xÄÖx", "xäöx", "xäÖx"}),
        ("gerät", {"GERÄT defekt", "Gerät"}),
        ("straße", {"Straße", "STRAßE"}),
        ("жук", {"ЖУК", "Жук"}),
        ("τέλος", {"ΤΈΛΟΣ", "τέλοσ"}),
        ("ä*", {"Ä*"}),
        ("ä[ö", {"ä[Ö"}),
        ("ä.", {"Ä."}),
        ("ä\\", {"Ä\\"}),
        ("ä]^-", {"Ä]^-"}),
        ("nein, ü", set()),
    ],
)
def test_letters_are_found_in_either_case(part, expected):
    assert found(STORED, part) == expected


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, min_size=1, max_size=5), part=TEXTS.filter(lambda text: not text.isascii()))
def test_it_is_what_comparing_capitals_letter_by_letter_says(texts, part):
    def capitals(text: str) -> str:
        return "".join(one.upper() if len(one.upper()) == 1 else one for one in text)

    with undone():
        assert found(texts, part) == {text for text in texts if capitals(part) in capitals(text)}
