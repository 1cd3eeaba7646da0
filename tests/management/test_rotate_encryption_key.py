"""`manage.py rotate_encryption_key`: every secret under the newest key, whatever happens on the way."""

import signal
import subprocess
import sys
import threading

import pytest
from cryptography.fernet import Fernet
from django.db import connection

from dpsportal.env import are_fernet_keys
from dpsportal.serving.supervisor import PROJECT_DIR
from enrollments.actions import encryption
from enrollments.actions.encryption import bring_under_newest_key, holders, standing
from enrollments.actions.operations import is_operation_of, new_operation_id
from enrollments.actions.tracking import read_tracking_id, tracking_id
from enrollments.models import AccessPolicy, HistoryEvent, HubDevice, IndividualEnrollment
from enrollments.models.fields import EncryptedTextField, fingerprint
from tests.devices import ALICE, enroll_keys, register, signs
from tests.live import installation
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db


def new_key():
    return Fernet.generate_key().decode()


def secrets():
    """Every key of every entry and policy, as the service reads them."""
    columns = ("primary_key", "secondary_key")
    return [
        list(model.objects.order_by("pk").values_list(*columns))
        for model in (IndividualEnrollment, AccessPolicy, HubDevice)
    ]


@pytest.fixture
def rotating(service, settings):
    """A service with secrets under an old key, and a newer one in front of it."""
    for number in range(7):
        enroll_keys(service, f"pump-{number}")
    keyed = IndividualEnrollment.objects.first()
    register(service, signs(service, keyed.registration_id, keyed.primary_key), keyed.registration_id)
    old, new = settings.DPS_ENCRYPTION_KEY, new_key()
    settings.DPS_ENCRYPTION_KEY = f"{new},{old}"
    return old, new


def test_every_encrypted_column_is_found():
    found = {(one.model.__name__, column) for one in holders() for column in one.columns}

    assert {
        ("AccessPolicy", "primary_key"),
        ("IndividualEnrollment", "webhook_query"),
        ("EnrollmentGroup", "secondary_key"),
        ("HubDevice", "primary_key"),
        ("TpmChallenges", "pending_secret"),
    } <= found
    assert all(
        isinstance(one.model._meta.get_field(name), EncryptedTextField)
        for one in holders()
        for name in one.columns
    )


def test_afterwards_the_newest_key_alone_reads_everything(rotating, settings):
    before = secrets()

    told = json_of("rotate_encryption_key")

    settings.DPS_ENCRYPTION_KEY = rotating[1]
    assert secrets() == before
    assert told["renewed"] == told["under_newest_key"] == standing().newest > 14
    assert (told["keys"], told["under_older_keys"], told["unreadable"]) == (2, 0, [])


def test_it_is_recorded_once_and_without_any_key(rotating):
    printed_by("rotate_encryption_key")
    assert "0 secrets were encrypted anew" in printed_by("rotate_encryption_key")

    row = HistoryEvent.objects.get(event="encryption_key.rotated")
    assert row.way == "command line"
    assert not [key for key in rotating if key in str(row.after)]


class Killed(Exception):
    pass


def killed_at(step):
    steps = iter(range(step))

    def tell(_):
        if next(steps, None) is None:
            raise Killed

    return tell


def test_interrupted_anywhere_it_goes_on_where_it_was(rotating, settings, monkeypatch):
    """After the first step of the first run, the second of the second, and so on, until one comes to its end."""
    monkeypatch.setattr(encryption, "BATCH", 1)
    before, kills, left = secrets(), 0, []

    while True:
        try:
            bring_under_newest_key(actor=ALICE, tell=killed_at(kills + 1))
            break
        except Killed:
            kills += 1
            # Whatever is done by then is read by the two keys together.
            assert secrets() == before
            left.append(standing().older)

    settings.DPS_ENCRYPTION_KEY = rotating[1]
    assert secrets() == before
    assert left == sorted(left, reverse=True)
    assert len(set(left)) > 5


def test_what_no_key_decrypts_is_named_and_the_rest_is_done(rotating, settings):
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE enrollments_individualenrollment SET primary_key = %s WHERE registration_id = 'pump-3'",
            [Fernet(new_key()).encrypt(b"x").decode()],
        )
    lost = IndividualEnrollment.objects.without_secrets().get(registration_id="pump-3")

    code, sentence = refusal_of("rotate_encryption_key")

    assert code == 1
    assert (
        f"1 secrets are decrypted by none of the keys given: IndividualEnrollment {lost.pk} primary_key"
        in sentence
    )
    settings.DPS_ENCRYPTION_KEY = rotating[1]
    assert len(list(IndividualEnrollment.objects.exclude(pk=lost.pk))) == 6


def test_with_a_single_key_it_says_whether_that_one_will_do(service, settings):
    assert "0 secrets were encrypted anew" in printed_by("rotate_encryption_key")

    settings.DPS_ENCRYPTION_KEY = new_key()
    assert refusal_of("rotate_encryption_key")[0] == 1


def test_operations_and_tracking_ids_go_on_while_both_keys_are_there(service, settings):
    old = settings.DPS_ENCRYPTION_KEY
    operation, tracking = new_operation_id(service, "pump"), tracking_id(42, 7)

    settings.DPS_ENCRYPTION_KEY = f"{new_key()}\n{old}\n"

    assert is_operation_of(operation, service, "pump")
    assert not is_operation_of(operation, service, "other")
    assert read_tracking_id(tracking) == (42, 7)
    assert is_operation_of(new_operation_id(service, "pump"), service, "pump")
    assert read_tracking_id(tracking_id(43, 8)) == (43, 8)

    settings.DPS_ENCRYPTION_KEY = new_key()
    assert not is_operation_of(operation, service, "pump")
    assert read_tracking_id(tracking) is None


def test_what_tells_keys_of_devices_apart_outlives_taking_the_old_key_out(settings):
    old, new = settings.DPS_ENCRYPTION_KEY, new_key()
    before = fingerprint("a key")

    settings.DPS_ENCRYPTION_KEY = f"{new},{old}"
    both = fingerprint("a key")
    settings.DPS_ENCRYPTION_KEY = new

    assert (fingerprint("a key"), before == both) == (both, False)


@pytest.mark.parametrize(
    ("text", "usable"),
    [
        (new_key(), True),
        (f"{new_key()},{new_key()}", True),
        (f"{new_key()}\n{new_key()} , {new_key()}", True),
        ("", False),
        (",", False),
        (f"{new_key()},short", False),
    ],
    ids=["one", "two", "three", "nothing", "a comma", "one too short"],
)
def test_the_form_of_the_setting(text, usable):
    assert are_fernet_keys(text) is usable


@pytest.mark.django_db(transaction=True)
def test_what_is_written_meanwhile_is_not_overwritten(rotating, settings, monkeypatch):
    monkeypatch.setattr(encryption, "BATCH", 1)
    service = IndividualEnrollment.objects.first().service
    written, stop = {}, threading.Event()

    def write():
        turn = 0
        try:
            while not stop.wait(0.01):
                written[f"new-{turn}"] = enroll_keys(service, f"new-{turn}").primary_key
                turn += 1
        finally:
            connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        bring_under_newest_key(actor=ALICE)
    finally:
        stop.set()
        writer.join()

    settings.DPS_ENCRYPTION_KEY = rotating[1]
    stored = dict(IndividualEnrollment.objects.values_list("registration_id", "primary_key"))
    assert written
    assert written.items() <= stored.items()


# The command, which kills itself in the middle of a batch: when it has encrypted so many secrets anew.
KILLED_ON_THE_WAY = """
import os, signal, sys
import django
from django.core.management import call_command

django.setup()
from enrollments.actions import encryption

value, left = encryption.Value, int(sys.argv[1])

def counted(*args):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return value(*args)

encryption.Value = counted
call_command("rotate_encryption_key")
"""


def test_killed_as_a_process_while_the_service_runs(tmp_path):
    """The real thing: SIGKILL at several points, a listener that answers all along, then the new key alone."""
    with installation(tmp_path) as live:
        live.start("device")
        key = live.enroll_keys("pump-042")
        live.python(
            "from enrollments.models import IndividualEnrollment\n"
            "one = IndividualEnrollment.objects.get()\n"
            "IndividualEnrollment.objects.bulk_create(IndividualEnrollment(service=one.service,\n"
            "    registration_id=f'p-{n}', registration_key=f'p-{n}', mechanism='symmetricKey',\n"
            "    primary_key=one.primary_key, secondary_key=one.secondary_key) for n in range(3000))\n"
        )
        old, new = (tmp_path / "encryption_key").read_text(), new_key()
        (tmp_path / "encryption_key").write_text(f"{new}\n{old}\n")
        live.stop("device")
        live.start("device")
        before, done = stored_tokens(live), [0]
        for secrets in (350, 700, 1100, 1900):
            process = subprocess.run(
                [sys.executable, "-c", KILLED_ON_THE_WAY, str(secrets)],
                cwd=PROJECT_DIR,
                env=live.environment,
                capture_output=True,
                check=False,
            )
            assert process.returncode == -signal.SIGKILL, process.stderr
            done.append(sum(now != then for now, then in zip(stored_tokens(live), before, strict=True)))
            assert live.is_ready("device")

        told = live.json_of("rotate_encryption_key")
        (tmp_path / "encryption_key").write_text(new)

        # What a run had brought over before it was killed stayed so, and each got further than the one before.
        assert done == sorted(set(done))
        assert 0 < done[-1] < len(before)
        assert (told["under_older_keys"], told["unreadable"]) == (0, [])
        assert live.json_of("rotate_encryption_key")["under_newest_key"] == told["under_newest_key"] > 6000
        shown = live.python(
            "from enrollments.models import IndividualEnrollment\n"
            "print(*set(IndividualEnrollment.objects.values_list('primary_key', flat=True)))"
        )
        assert shown.strip() == key


def stored_tokens(live):
    return live.rows("SELECT primary_key, secondary_key FROM enrollments_individualenrollment ORDER BY id")
