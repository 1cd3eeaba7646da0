"""`manage.py registrations`: finding records, denying and deprovisioning devices, and freeing their names."""

import json

import pytest
from cryptography.fernet import Fernet

from enrollments.actions.registrations import Outcome
from enrollments.errors import HubUnavailable
from enrollments.hubs import CONNECTORS
from enrollments.management.commands import registrations
from enrollments.models import HistoryEvent, HubDevice, RegistrationRecord
from tests.certificates import root
from tests.devices import enroll_ca, enroll_keys, new_service, register, signs
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db
WHY = ("--reason", "stolen")
CA = root("Plant CA")


@pytest.fixture
def service():
    service = new_service()
    enroll_ca(service, CA, "plant-7")
    for name in ("Valve-0", "valve-1", "valve-2"):
        register(service, CA.leaf(name))
    return service


def rows():
    return HistoryEvent.objects.count()


def names(*command):
    return [json.loads(line)["registration_id"] for line in printed_by(*command, "--json").splitlines()]


def wanted_by_another(service, name="valve-1"):
    other = root("Other supplier")
    enroll_ca(service, other, "supplier-2")
    assert register(service, other.leaf(name)).outcome is Outcome.FAILED
    return other


# --- Looking ---------------------------------------------------------------------------------------


def test_the_list_is_aligned(service):
    lines = printed_by("registrations", "list").splitlines()

    assert lines[0].split() == ["REGISTRATION", "ID", "STATUS", "HUB", "ENTRY", "UPDATED", "(UTC)"]
    assert lines[1].split()[:5] == ["Valve-0", "assigned", "built-in", "group", "plant-7"]
    assert {line.index("assigned") for line in lines[1:]} == {lines[0].index("STATUS")}
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        pytest.param([], ["key-1", "Valve-0", "valve-1", "valve-2"], id="all"),
        pytest.param(["--search", "VALVE-1"], ["valve-1"], id="beginning"),
        pytest.param(["--status", "disabled"], ["valve-2"], id="status"),
        pytest.param(["--group", "PLANT-7", "--limit", "2"], ["Valve-0", "valve-1"], id="group"),
        pytest.param(["--enrollment", "key-1"], ["key-1"], id="enrollment"),
    ],
)
def test_the_list_is_filtered(service, filters, found):
    keyed = enroll_keys(service, "key-1")
    register(service, signs(service, "key-1", keyed.primary_key), "key-1")
    printed_by("registrations", "disable", "valve-2", *WHY)
    register(service, CA.leaf("valve-2"))

    assert names("registrations", "list", *filters) == found


def test_an_entry_that_is_not_there_is_no_empty_list(service):
    assert refusal_of("registrations", "list", "--group", "nobody") == (
        1,
        "There is no enrollment group nobody in plant.",
    )


def test_pages_need_one_query_each(service, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr("enrollments.models.keyset.FIRST_PAGE", 1)
    monkeypatch.setattr("enrollments.models.keyset.PAGE", 1)

    with django_assert_num_queries(1 + 3 + 1):
        assert len(printed_by("registrations", "list").splitlines()) == 4


def test_a_record_is_shown_with_evidence_attempts_and_who_wants_its_name(service):
    wanted_by_another(service)

    text = printed_by("registrations", "show", "VALVE-1")
    told = json.loads(printed_by("registrations", "show", "valve-1", "--json"))

    assert "Name wanted by   enrollment group supplier-2" in text
    assert told["name_held_by"] == "enrollment group plant-7"
    assert [one["outcome"] for one in told["attempts"]] == ["failed", "assigned"]
    assert told["evidence"][0].startswith("CN=valve-1 (SHA-256 ")
    assert told["registration"] is None


# --- Shutting out ----------------------------------------------------------------------------------


def test_devices_are_denied_together_and_it_is_told_what_that_did(service):
    enroll_keys(service, "valve-2")

    dry = printed_by("registrations", "disable", "valve-0", "valve-2", "--dry-run")
    text = printed_by("registrations", "disable", "valve-0", "valve-2", *WHY)

    # The one by its certificate, the other by the keys that are enrolled for it.
    assert dry.startswith(
        "If you deny Valve-0, valve-2 of plant:\n- 2 devices will be refused: Valve-0, valve-2."
    )
    assert text.startswith("Denied Valve-0, valve-2 of plant.")
    assert register(service, CA.leaf("valve-0")).outcome is Outcome.DISABLED
    assert register(service, CA.leaf("valve-1")).outcome is Outcome.ASSIGNED
    events = list(HistoryEvent.objects.order_by("pk").values_list("event", "subject_name", "reason"))[-2:]
    assert events == [
        ("enrollment.added_disabled", "Valve-0", "stolen"),
        ("enrollment.disabled", "valve-2", "stolen"),
    ]


def test_a_dry_run_denies_nobody(service):
    before = rows()

    told = json_of("registrations", "disable", "valve-0", "--dry-run")

    assert (told["dry_run"], told["changed"]) == (True, [])
    assert told["previews"][0]["effects"]["refused"]["devices"] == 1
    assert rows() == before
    assert not service.individualenrollments.exists()


def test_all_of_them_or_none(service):
    code, sentence = refusal_of("registrations", "disable", "valve-0", "nobody", *WHY)

    assert (code, "no registration record of nobody in plant" in sentence) == (1, True)
    assert "manage.py disable individual ID --deny" in sentence
    assert not service.individualenrollments.exists()


def test_denying_twice_changes_nothing(service):
    printed_by("registrations", "disable", "valve-0", *WHY)
    before = rows()

    assert printed_by("registrations", "disable", "valve-0", *WHY) == "Denied already: Valve-0.\n"
    assert rows() == before


def test_denying_works_without_the_key_that_decrypts(service, settings):
    """R16."""
    keyed = enroll_keys(service, "key-1")
    register(service, signs(service, "key-1", keyed.primary_key), "key-1")
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()

    assert "cannot be worked out" in printed_by("registrations", "disable", "key-1", "--dry-run")
    assert "Denied key-1 of plant." in printed_by("registrations", "disable", "key-1", *WHY)
    assert not service.individualenrollments.without_secrets().get().enabled
    assert "denied" in printed_by("registrations", "deprovision", "key-1", *WHY)


def test_deprovisioning_again_says_that_nothing_was_changed(service):
    deprovision = ("registrations", "deprovision", "valve-1")
    first = json.loads(printed_by(*deprovision, "--json", *WHY))
    again = json.loads(printed_by(*deprovision, "--json", *WHY))

    assert (first["changed"], again["changed"]) == (["valve-1"], [])
    assert "deprovisioned already, and nothing was changed" in printed_by(*deprovision, *WHY)


def test_deprovisioning_says_of_each_what_was_confirmed(service, monkeypatch):
    connector = CONNECTORS["builtin"]
    real = connector.deregister

    def deregister(hub, device_id, key):
        if key == "valve-1":
            raise HubUnavailable("The hub did not answer.")
        return real(hub, device_id, key)

    monkeypatch.setattr(connector, "deregister", deregister)

    assert "Valve-0 would be denied, and deregistered" in printed_by(
        "registrations", "deprovision", "valve-0", "--dry-run"
    )
    code, sentence = refusal_of("registrations", "deprovision", "valve-0", "valve-1", *WHY)

    assert (code, sentence) == (1, "Not done for valve-1: deprovision again when the hub answers.")
    assert sorted(HubDevice.objects.values_list("device_id", flat=True)) == ["valve-1", "valve-2"]
    assert set(service.individualenrollments.values_list("enabled", flat=True)) == {False}
    monkeypatch.undo()
    assert "valve-1 is deprovisioned" in printed_by("registrations", "deprovision", "valve-1", *WHY)


@pytest.mark.parametrize("act", ["disable", "deprovision"])
def test_who_shares_the_key_is_counted_before_and_after(service, act):
    """R6: the deny entry pins the certificate of the device, and bars its key."""
    twin = CA.leaf("twin-0")
    for one in (twin, CA.leaf("twin-1", key=twin.key)):
        register(service, one)

    dry = printed_by("registrations", act, "twin-0", "--dry-run")
    told = json_of("registrations", act, "twin-0", "--dry-run")
    text = printed_by("registrations", act, "twin-0", *WHY)

    assert "- 2 devices will be refused: twin-0, twin-1.\nNothing was changed." in dry
    assert told["previews"][0]["effects"]["refused"]["devices"] == 2
    assert "2 devices are refused from now on." in text


def test_what_denying_several_did_is_one_sum(service):
    """Of one the entry is turned off, to another one is added, and both have the key of a third device."""
    twin = CA.leaf("twin-0")
    for one in (twin, CA.leaf("twin-1", key=twin.key)):
        register(service, one)
    enroll_keys(service, "valve-2")

    told = json_of("registrations", "disable", "twin-0", "twin-1", "valve-2", *WHY)["previews"]

    assert [one["effects"]["refused"]["devices"] for one in told] == [3]


def test_enabling_says_which_entry_it_takes(service):
    """A record admits nobody: whether the device's own entry or its group is meant is for people to say."""
    for arguments in (("groups", "disable", "plant-7"), ("registrations", "disable", "valve-0")):
        printed_by(*arguments, *WHY)

    own = refusal_of("registrations", "enable", "valve-0")
    group = refusal_of("registrations", "enable", "valve-1")

    assert (own[0], group[0]) == (1, 1)
    assert "manage.py enrollments delete Valve-0 takes the entry away" in own[1]
    assert "manage.py groups enable plant-7 lets all of its devices in" in group[1]
    printed_by("groups", "enable", "plant-7", "--yes", *WHY)
    assert (
        "manage.py explain --registration-id valve-1" in refusal_of("registrations", "enable", "valve-1")[1]
    )


# --- Names -----------------------------------------------------------------------------------------


def test_a_name_is_released_after_saying_who_gets_it(service, monkeypatch):
    other = wanted_by_another(service)
    asked = []
    monkeypatch.setattr(registrations.Command, "agreed", lambda _, question: asked.append(question) or True)

    text = printed_by("registrations", "release", "valve-1", *WHY)

    assert asked == ["Release?"]
    assert "A device that enrollment group supplier-2 admits was refused the name once" in text
    assert text.endswith("Released valve-1 of plant.\n")
    assert register(service, other.leaf("valve-1")).outcome is Outcome.ASSIGNED
    assert HistoryEvent.objects.get(event="registration.released").reason == "stolen"


def test_several_names_are_freed_together(service):
    printed_by("registrations", "release", "valve-0", "valve-1", "--yes", *WHY)
    printed_by("registrations", "delete", "valve-1", "valve-2", "--yes", *WHY)

    assert list(RegistrationRecord.objects.values_list("registration_id", "owner_group")) == [
        ("Valve-0", None)
    ]
    assert "No entry held Valve-0; nothing was changed there." in printed_by(
        "registrations", "release", "valve-0", "--yes", *WHY
    )


@pytest.mark.parametrize("act", ["release", "delete"])
def test_nothing_is_freed_without_a_yes_nor_by_a_dry_run(service, act):
    before = rows()

    assert refusal_of("registrations", act, "valve-1", *WHY)[0] == 2
    told = json_of("registrations", act, "valve-1", "--dry-run")

    assert told["means"] == {
        "valve-1": [
            "It is held through enrollment group plant-7.",
            "No other device is known to want it. Whichever entry admits a device of this name next takes it over.",
        ]
    }
    assert rows() == before


def test_what_changed_while_it_was_asked_is_asked_again(service, monkeypatch):
    """R12: a yes holds for the entries and the holder that were looked at."""
    asked = []

    def answer(_command, _question):
        asked.append(1)
        if len(asked) == 1:
            wanted_by_another(service)
        return True

    monkeypatch.setattr(registrations.Command, "agreed", answer)

    text = printed_by("registrations", "release", "valve-1", "valve-2", *WHY)

    assert len(asked) == 2
    assert "Something was changed meanwhile, and nothing was done. This holds now:" in text
    assert "supplier-2 admits was refused the name once" in text
    assert HistoryEvent.objects.filter(event="registration.released").count() == 2
