"""«What shuts out» also finds the changes of which only what was before and is after tells it (R4, R5, R7)."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.text import capfirst

from enrollments.actions.ca_certificates import delete_ca_certificate
from enrollments.actions.enrollment_groups import (
    change_enrollment_group,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import change_individual_enrollment, delete_enrollments
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.past import Limits
from enrollments.actions.revocation import deny_device
from enrollments.actions.services import change_settings
from enrollments.audit.events import Event
from enrollments.models import AttestationMechanism, HistoryEvent, Slot
from enrollments.models.history_shut_outs import ShutOutByChange, is_shut_out_by_change
from enrollments.models.merging import first_ids
from enrollments.policy.reasons import Reason
from enrollments.policy.roles import Role
from enrollments.portal import history_shut_outs
from enrollments.portal.forms_history import HistoryFilter
from enrollments.portal.history_filtering import search
from tests.certificates import root, self_signed
from tests.devices import (
    ALICE,
    demand_proof,
    enroll_ca,
    enroll_device,
    enroll_keys,
    prove,
    register,
    upload_ca,
)
from tests.factories import a_user
from tests.portal.history_pages import EXPORT, URL, a_row, exported, shown
from tests.portal.walking import pages_of

pytestmark = pytest.mark.django_db
CERTIFICATES = {"primary": "A (SHA-256 a1)", "secondary": "B (SHA-256 b2)"}


def found(auditor) -> list[tuple[str, str]]:
    return [(row.event, row.subject_name) for row in shown(auditor, event="shuts-out")]


def test_demanding_proof_of_possession_is_found_and_giving_it_up_is_not(auditor, plant):
    demand_proof(plant)
    demand_proof(plant, False)

    assert found(auditor) == [("service.changed", "plant")]


def test_switching_groups_with_symmetric_keys_off_is_found(auditor, plant):
    for switch in (True, False):
        change_settings(plant, {"symmetric_key_groups": switch}, actor=ALICE)

    assert [row.after for row in shown(auditor, event="shuts-out")] == [{"symmetric_key_groups": False}]


def test_deleting_a_ca_with_its_proof_is_found(auditor, plant):
    prove(plant, root("Proven CA"))
    upload_ca(plant, root("Other CA"))
    for name in ("proven-ca", "other-ca"):
        delete_ca_certificate(plant, name, actor=ALICE)

    assert found(auditor) == [("ca_certificate.deleted", "proven-ca")]


def test_replacing_the_certificate_of_a_group_is_found_and_adding_one_is_not(auditor, plant):
    old, new = root("Old CA"), root("New CA")
    group = enroll_ca(plant, old, "plant-7")
    for certificates in (
        {Slot.PRIMARY: old.parsed, Slot.SECONDARY: new.parsed},
        {Slot.PRIMARY: new.parsed, Slot.SECONDARY: old.parsed},
        {Slot.PRIMARY: new.parsed},
    ):
        spec = GroupSpec(group_id="plant-7", certificates=certificates)
        group = change_enrollment_group(plant, "plant-7", spec, actor=ALICE, expected_etag=group.etag)

    (row,) = shown(auditor, event="shuts-out")
    assert (row.event, sorted(row.before["certificates"]), sorted(row.after["certificates"])) == (
        "group.changed",
        ["primary", "secondary"],
        ["primary"],
    )
    assert 'aria-label="Shuts out"' in auditor.get(URL, {"event": "shuts-out"}).content.decode()


def test_replacing_certificate_key_or_mechanism_of_an_individual_is_found(auditor, plant):
    pinned = enroll_device(plant, self_signed("pump-1"), registration_id="pump-1")
    keyed = enroll_keys(plant, "press-1")
    changes = (
        (pinned, {"certificates": {Slot.PRIMARY: self_signed("pump-1").parsed}}),
        (keyed, {"mechanism": AttestationMechanism.SYMMETRIC_KEY, "device_id": "renamed"}),
        (keyed, {"mechanism": AttestationMechanism.SYMMETRIC_KEY, "primary_key": "QUJD" * 11}),
        (pinned, {"mechanism": AttestationMechanism.SYMMETRIC_KEY}),
    )
    for entry, values in changes:
        entry.refresh_from_db()
        name = entry.registration_id
        spec = IndividualSpec(registration_id=name, **values)
        change_individual_enrollment(plant, name, spec, actor=ALICE, expected_etag=entry.etag)

    assert found(auditor) == [
        ("enrollment.changed", "pump-1"),
        ("enrollment.changed", "press-1"),
        ("enrollment.changed", "pump-1"),
    ]


ROWS: list[tuple[str, dict[str, Any] | None, dict[str, Any] | None, bool]] = [
    ("enrollment.changed", None, None, False),
    ("enrollment.changed", {"iot_edge": False}, {"iot_edge": True}, False),
    ("enrollment.changed", {"mechanism": "x509"}, {"mechanism": "tpm"}, True),
    ("enrollment.changed", {"endorsement_key_sha256": "a"}, {"endorsement_key_sha256": "b"}, True),
    ("enrollment.changed", {"primary_key": None}, {"primary_key": "(another key)"}, False),
    ("enrollment.changed", {"primary_key": "(a key)"}, {"primary_key": "(another key)"}, True),
    (
        "group.changed",
        {
            "primary_key": "(a key)",
            "primary_key_id": "k1",
            "secondary_key": "(a key)",
            "secondary_key_id": "k2",
        },
        {"primary_key": "(another key)", "primary_key_id": "k2", "secondary_key": "(another key)"}
        | {"secondary_key_id": "k1"},
        False,
    ),
    ("group.changed", {"certificates": {}}, {"certificates": CERTIFICATES}, False),
    ("group.changed", {"certificates": CERTIFICATES}, {"certificates": {}}, True),
    ("group.changed", {"certificates": CERTIFICATES}, {"certificates": {"primary": "C"}}, True),
    ("group.changed", {"certificates": {"helper ab": "H"}}, {"certificates": {}}, True),
    ("group.disabled", {"certificates": CERTIFICATES}, {"certificates": {}}, False),  # its event says it
    ("service.changed", {"proof_of_possession": False}, {"proof_of_possession": True}, True),
    ("service.changed", {"proof_of_possession": True}, {"proof_of_possession": False}, False),
    ("service.changed", {"symmetric_key_groups": True}, {"symmetric_key_groups": False}, True),
    ("service.changed", {"attempts_kept_days": 1}, {"attempts_kept_days": 0}, False),
    ("ca_certificate.deleted", {"verified": True}, None, True),
    ("ca_certificate.deleted", {"verified": False}, None, False),
    ("ca_certificate.verified", {"verified": True}, None, False),
]


@pytest.mark.parametrize(("event", "before", "after", "wanted"), ROWS)
def test_database_and_page_say_the_same_of_a_row(plant, event, before, after, wanted):
    a_row(plant, "one", timezone.now(), event=event, before=before, after=after)
    row = HistoryEvent.objects.get(subject_name="one")

    assert HistoryEvent.objects.filter(ShutOutByChange(), pk=row.pk).exists() is wanted
    assert is_shut_out_by_change(row) is wanted


def test_rows_of_a_device_are_filtered_by_it_too(auditor, plant):
    now = timezone.now()
    for number, (event, before, after, _) in enumerate(ROWS):
        a_row(plant, "pump-1", now + timedelta(seconds=number), event=event, before=before, after=after)

    rows = shown(auditor, event="shuts-out", device="pump-1")

    individuals = [row for row in ROWS if row[3] or Event(row[0]).shuts_out]
    assert len(rows) == len(individuals)


def test_changes_that_shut_out_are_found_by_their_own_index(plant):
    """Of a million changes few do, and reading them all takes seconds."""
    form = HistoryFilter({"event": "shuts-out"})
    assert form.is_valid()
    asked = search(HistoryEvent.objects.of_service(plant.pk), form, plant)
    of_changes = asked.rows.filter(asked.ranges[-1]).order_by("-at", "-id")[:51]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")

    assert "history_shut_out_by_change" in of_changes.explain()
    assert first_ids(asked.rows, asked.ranges, "at", descending=True, limit=51) == []


class TestOfADevice:
    """On the page of a device it is what shut this very one out, be it about a group, a setting or another device."""

    URL = "/services/plant/registrations/pump-1/history/"

    @pytest.fixture
    def pump(self, plant):
        ca = root("Plant CA")
        enroll_ca(plant, ca, "plant-7")
        enroll_ca(plant, root("Other CA"), "other")
        leaf = ca.leaf("pump-1")
        register(plant, leaf)
        return leaf

    def of_device(self, client, **query):
        answer = client.get(self.URL, {"event": "shuts-out", **query})
        assert answer.status_code == 200
        events = [(row.event.event, row.event.subject_name) for row in answer.context["rows"]]
        return events, " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())

    def test_group_setting_and_its_own_entry_are_found_with_who_and_why(self, auditor, plant, pump):
        disable_enrollment_group(plant, "other", actor=ALICE)
        disable_enrollment_group(plant, "plant-7", actor=ALICE, reason="recall 12")
        enable_enrollment_group(plant, "plant-7", actor=ALICE)
        enroll_device(plant, self_signed("pump-1"))

        events, text = self.of_device(auditor)

        assert events == [("enrollment.added", "pump-1"), ("group.disabled", "plant-7")]
        for part in (
            "It could have come in, and was shut out, 2 times",
            "Now it would be refused by individual enrollment pump-1",
            "recall 12",
            "Could it have come in in between?",
        ):
            assert part in text
        assert 'aria-label="Shuts out"' in auditor.get(self.URL, {"event": "shuts-out"}).content.decode()

    def test_link_leads_to_its_spells(self, auditor, plant, pump):
        disable_enrollment_group(plant, "plant-7", actor=ALICE)
        html = auditor.get(self.URL, {"event": "shuts-out"}).content.decode()

        (link,) = re.findall(r'href="([^"]+)">Could it have come in in between', html)

        assert "it would have been let in during one spell" in auditor.get(unescape(link)).content.decode()

    def test_what_else_can_shut_out_under_its_own_name_stays(self, auditor, plant, pump):
        deny_device(plant, "pump-1", actor=ALICE)
        disable_enrollment_group(plant, "plant-7", actor=ALICE)
        delete_enrollments(plant, ["pump-1"], actor=ALICE)

        events, text = self.of_device(auditor)

        assert events == [("enrollment.deleted", "pump-1"), ("enrollment.added_disabled", "pump-1")]
        assert "was shut out, 1 time: by 1 row of the history" in text
        assert "Rows without that mark are what else under its own name can shut out" in text
        rows = auditor.get(self.URL, {"event": "shuts-out"}).context["rows"]
        assert [row.shut_it_out for row in rows] == [False, True]
        assert text.count("Shut it out") == 2, "once where the mark is explained"
        assert "Now it would be refused by enrollment group plant-7" in text

    def test_other_filters_and_pages_hold_for_it_too(self, auditor, plant, pump):
        for _ in range(30):
            disable_enrollment_group(plant, "plant-7", actor=ALICE)
            enable_enrollment_group(plant, "plant-7", actor=ALICE)
        deny_device(plant, "pump-1", actor=ALICE)

        assert self.of_device(auditor, kind="IndividualEnrollment")[0] == [
            ("enrollment.added_disabled", "pump-1")
        ]
        seen = [row.pk for rows in pages_of(auditor, f"{self.URL}?event=shuts-out") for row in rows]
        assert len(seen) == len(set(seen)) == 31

    def test_export_has_the_same_rows(self, auditor, plant, pump):
        disable_enrollment_group(plant, "plant-7", actor=ALICE)

        rows = exported(auditor, device="pump-1", event="shuts-out")

        assert [(row["event"], row["object"]) for row in rows] == [("group.disabled", "plant-7")]

    def test_more_changes_than_a_glance_allows_are_said_and_gone_back_over_on_demand(
        self,
        auditor,
        plant,
        pump,
        monkeypatch,
    ):
        disable_enrollment_group(plant, "plant-7", actor=ALICE)
        monkeypatch.setattr(history_shut_outs, "Limits", lambda: Limits(rows=1))

        events, text = self.of_device(auditor)
        html = auditor.get(self.URL, {"event": "shuts-out"}).content.decode()
        (further,) = re.findall(r'href="([^"]+)">Go back over more of them', html)
        refused = auditor.get(EXPORT, {"device": "pump-1", "event": "shuts-out"})

        assert events == []
        assert "was not worked out: More than 1 changes of entries were made since then" in text
        assert "plant-7" in auditor.get(unescape(further)).content.decode()
        assert refused.status_code == 409
        assert "Nothing was exported: More than 1 changes" in refused.content.decode()
        rows = exported(auditor, device="pump-1", event="shuts-out", everyone="1")
        assert [row["object"] for row in rows] == ["plant-7"]

    def test_who_sees_only_what_they_did_themselves_learns_nothing_more(self, client, plant, pump):
        viewer = a_user(Role.VIEWER, plant)
        client.force_login(viewer)
        disable_enrollment_group(plant, "plant-7", actor=ALICE)

        events, text = self.of_device(client)

        assert events == []
        for part in ("shut out,", "would be refused", "plant-7"):
            assert part not in text

    def test_nothing_is_made_up_of_a_device_that_is_not_known(self, auditor, plant, pump):
        answer = auditor.get(self.URL.replace("pump-1", "nobody"), {"event": "shuts-out"})

        assert "Nothing is known of this device that could be judged" in answer.content.decode()

    @pytest.mark.parametrize("name", ["odd-1", pytest.param("odd & 1", id="no registration ID")])
    def test_device_that_only_tried_is_led_to_its_attempts_and_to_why(self, client, auditor, plant, name):
        """It never proved anything, so what stands with its attempts is all that is known of it."""
        assert register(plant, self_signed(name)).outcome == "unauthorized"
        asked = {"device": name, "event": "shuts-out"}
        html = auditor.get(URL, asked).content.decode()
        assert "Nothing is known of this device that could be judged" in html

        attempts = re.findall(r'href="([^"]+)">(?:(?!</a>).)*Attempts of this name<', html)
        why = re.findall(r'href="([^"?]+\?[^"]+)">(?:(?!</a>).)*Explain<', html)

        (attempt,) = auditor.get(unescape(attempts[0])).context["page"].rows
        assert attempt.claimed_registration_id == name
        assert len(why) == (name == "odd-1")
        for link in why:
            said = Reason(attempt.reason).in_words
            assert capfirst(said) in unescape(auditor.get(unescape(link)).content.decode())
        client.force_login(a_user(Role.VIEWER, plant))
        assert "Attempts of this name" not in client.get(URL, asked).content.decode()

    def test_questions_do_not_grow_with_what_is_done_to_others(self, auditor, plant, pump):
        disable_enrollment_group(plant, "plant-7", actor=ALICE)

        def asked() -> int:
            self.of_device(auditor)  # what waits for its seal has it then
            with CaptureQueriesContext(connection) as queries:
                self.of_device(auditor)
            return len(queries)

        deny_device(plant, "valve-x", actor=ALICE)
        few = asked()
        for number in range(5):
            deny_device(plant, f"valve-{number}", actor=ALICE)
            enroll_ca(plant, root(f"CA {number}"), f"plant-{number}")

        assert asked() <= few <= 94
