"""JSON columns give back the numbers that were written, of the same type, whichever database holds them."""

import json

import pytest
from django.apps import apps
from django.db import models
from hypothesis import example, given
from hypothesis import strategies as st

from enrollments.audit.canonical import json_form
from enrollments.models import HubDevice
from enrollments.models.inserting import insert_all, made
from enrollments.models.json_columns import JsonColumn, for_jsonb

ODD: list[float] = [
    1e16,
    1e21,
    1e22,
    1e23,
    -1e23,
    1e308,
    1.7976931348623157e308,
    1.5e300,
    123456789012345680000.0,
    5e-324,
    1e-7,
]
ODD += [2**53 + 1, 10**22, 10**23, 10**30, -(10**30), 0.1, 1.0, 1, 0.0, 0]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)), max_leaves=12
)


def with_types(value):
    """As text in which 1 and 1.0 differ, but not 0.0 and -0.0, which have one form in JSON of RFC 8785."""
    return json.dumps(value, sort_keys=True).replace("-0.0", "0.0")


@given(VALUES, st.booleans())
@example(ODD, True)
@example({'1e22 "1e22': ["\\", 1e22, "1e+22"]}, False)
def test_only_how_large_fractions_are_written_changes(value, ascii_alone):
    text = json.dumps(value, ensure_ascii=ascii_alone)

    assert repr(json.loads(for_jsonb(text))) == repr(value)
    assert json_form(for_jsonb(text)) == json_form(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_fraction_is_left_without_its_point(value):
    """jsonb keeps digits and how many stand behind the point, and gives those back."""
    written = for_jsonb(json.dumps(value))

    assert "." in written or "e-" in written


def test_every_column_of_json_is_one_of_ours():
    fields = [
        field for model in apps.get_app_config("enrollments").get_models() for field in model._meta.fields
    ]
    found = [field for field in fields if isinstance(field, models.JSONField)]

    assert len(found) > 10
    assert [str(field) for field in found if not isinstance(field, JsonColumn)] == []


@pytest.mark.django_db
@pytest.mark.parametrize("write", ["create", "insert_all", "save"])
def test_numbers_come_back_as_they_were_written(service, write):
    hub, value = service.hubs.get(), {"odd": ODD, "-0": -0.0}
    if write == "insert_all":
        insert_all([made(HubDevice, hub_id=hub.pk, device_id="pump-1", twin=value)])
    else:
        device = HubDevice.objects.create(
            hub=hub, device_id="pump-1", twin=value if write == "create" else {}
        )
        device.twin = value
        device.save(update_fields=["twin"])

    assert with_types(HubDevice.objects.get().twin) == with_types(value)
