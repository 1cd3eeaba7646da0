"""Certificates that a second process reads ahead are what this one would read, and without it nothing is different."""

import json
import os
import select
import signal
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest

from dpsportal.serving.supervisor import PROJECT_DIR
from enrollments.attestation.x509 import DeviceCertificate, as_values, from_values
from enrollments.models import HistoryEvent, ImportFormat, IndividualEnrollment
from enrollments.transfer import planning, reading, work
from enrollments.transfer.planning import from_text
from enrollments.transfer.reading import with_certificates
from tests.certificates import root, self_signed
from tests.devices import enroll_device
from tests.transfer.lists import (
    below,
    carried_out,
    checked,
    csv_of,
    imported,
    json_lines,
    keys,
    pinned,
    problems,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("alice")]


@pytest.fixture
def begun(monkeypatch):
    """The readers that are begun, in portions of two lines and as on two cores."""
    readers = []

    class Noted(reading._Reader):
        def __init__(self):
            super().__init__()
            readers.append(self)

    monkeypatch.setattr(reading, "_Reader", Noted)
    monkeypatch.setattr(reading, "_cores", lambda: 2)
    monkeypatch.setattr(work, "CHUNK_LINES", 2)
    return readers


def what_is_there(since=0):
    held = IndividualEnrollment.objects.order_by("registration_key")
    columns = ("subject_sha256", "spki_sha256", "subject_key_id", "certificate__pem", "slot")
    rows = HistoryEvent.objects.filter(pk__gt=since, event="enrollment.added").order_by("subject_name")
    return [(str(one), list(one.certificates.order_by("slot").values_list(*columns))) for one in held], [
        row.after for row in rows
    ]


LEAVES = [self_signed(f"pump-{number}") for number in range(6)]


def by(text):
    return {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": text}}}}


def test_what_was_written_down_is_read_again_as_it_was():
    for leaf in (*LEAVES, root("Plant").leaf("pump"), root("Plant")):
        one = DeviceCertificate.of(leaf.parsed)

        again = from_values(one.der, json.loads(json.dumps(as_values(one))))

        assert [getattr(again, name) for name in DeviceCertificate.__match_args__] == [
            getattr(one, name) for name in DeviceCertificate.__match_args__
        ]
        assert again.pem == leaf.parsed.pem


def test_what_is_read_ahead_is_what_is_read_here(service, begun, monkeypatch):
    expected = {leaf.pem: DeviceCertificate.of(leaf.parsed) for leaf in LEAVES[reading.FIRST * 2 :]}
    met = {}

    def noted(portions):
        for portion, known in with_certificates(portions):
            met.update(known)
            yield portion, known

    monkeypatch.setattr(work, "with_certificates", noted)
    imported(service, *map(pinned, LEAVES))

    assert len(begun) == 1
    assert begun[0]._process.returncode is not None
    assert met == expected
    assert [as_values(met[text]) for text in expected] == list(map(as_values, expected.values()))


@pytest.mark.parametrize("how", ["one core", "another import has it", "it does not begin", "it is killed"])
def test_without_a_second_process_the_same_is_imported(service, begun, monkeypatch, how):
    imported(service, *map(pinned, LEAVES))
    expected = what_is_there()
    IndividualEnrollment.objects.all().delete()
    before = HistoryEvent.objects.latest("id").pk
    if how == "one core":
        monkeypatch.setattr(reading, "_cores", lambda: 1)
    elif how == "it does not begin":
        monkeypatch.setattr(reading.sys, "executable", "/nowhere/python")
    elif how == "it is killed":
        ask = reading._Reader._ask

        def killed(self, texts):
            self._process.kill()
            self._process.wait()
            return ask(self, texts)

        monkeypatch.setattr(reading._Reader, "_ask", killed)
    begun.clear()

    if how == "another import has it":
        with reading._one_at_a_time:
            run = imported(service, *map(pinned, LEAVES))
    else:
        run = imported(service, *map(pinned, LEAVES))

    assert len(begun) == (how == "it is killed")
    assert run.counts == {"added": 6}
    assert what_is_there(since=before) == expected


def test_what_is_wrong_with_a_certificate_is_said_as_without(service, begun):
    lines = [
        *(keys(f"k{number}") for number in range(2)),
        {**pinned(self_signed("other")), "registrationId": "a"},
        {**pinned(LEAVES[0]), "registrationId": "pump-0", "attestation": pinned(LEAVES[1])["attestation"]},
        {**pinned(LEAVES[1]), "attestation": by("no")},
        pinned(LEAVES[2]),
        below("plant", root("Plant")),
        pinned(LEAVES[3], attestation=by(LEAVES[3].pem + LEAVES[4].pem)),
    ]

    run = checked(service, json_lines(*lines))

    assert len(begun) == 1
    told = problems(run)
    assert told.keys() == {3, 4, 5, 8}
    assert "they must be the same" in told[3]
    assert "they must be the same" in told[4]
    assert "This is no certificate" in told[5]
    assert "this holds 2 certificates" in told[8]
    assert carried_out(run).counts == {"added": 4}


def test_an_ended_check_leaves_no_process(service, begun):
    rows = csv_of(*({"registrationId": f"pump-{n}", "primaryCertificate": LEAVES[n].pem} for n in range(6)))

    run = checked(service, rows + b'"not closed', format=ImportFormat.CSV)

    assert run.state == "refused"
    assert [one._process.returncode is not None for one in begun] == [True]


def test_it_has_no_key_of_ours(settings, begun, monkeypatch):
    monkeypatch.setenv("DPS_ENCRYPTION_KEY", settings.DPS_ENCRYPTION_KEY)
    reader = reading._Reader()
    try:
        environment = Path(f"/proc/{reader._process.pid}/environ").read_bytes()
    finally:
        reader.give_up()

    assert b"DPS_" not in environment


PARENT = """
import os, django
django.setup()
from enrollments.transfer.reading import _Reader
reader = _Reader()
reader._ask([])
print(reader._process.pid, flush=True)
os.read(0, 1)
"""


def test_it_ends_with_whoever_began_it():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=PROJECT_DIR,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    child = os.pidfd_open(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()

    # Readable when it has ended.
    assert select.select([child], [], [], 60)[0]


def test_a_chunk_of_another_version_is_read_by_its_messages(service, monkeypatch):
    run = checked(service, json_lines(*map(pinned, LEAVES[:2])))
    text = run.content.get().content
    known = from_text(text)
    monkeypatch.setattr(planning, "FORM", "another")

    unknown = from_text(text)

    assert all(one.certificates for one in known)
    assert not any(one.certificates for one in unknown)
    der = b64encode(LEAVES[0].parsed.der).decode()
    assert unknown[0].message["attestation"]["x509"]["clientCertificates"]["primary"]["certificate"] == der
    assert carried_out(run).counts == {"added": 2}


def test_of_a_line_that_disables_its_name_is_kept(service):
    enroll_device(service, LEAVES[0])
    line = {**pinned(LEAVES[0]), "operation": "disable", "deviceId": "a secret of somebody"}

    run = checked(service, json_lines(line))

    assert "secret" not in run.content.get().content
    assert carried_out(run).counts == {"disabled": 1}


def test_both_slots_may_hold_one_certificate_or_two(service):
    old, new, one = self_signed("two"), self_signed("two"), self_signed("one")
    pair = {"primary": {"certificate": old.pem}, "secondary": {"certificate": new.pem}}
    same = {"primary": {"certificate": one.pem}, "secondary": {"certificate": one.pem}}
    lines = [
        {"registrationId": name, "attestation": {"type": "x509", "x509": {"clientCertificates": both}}}
        for name, both in (("two", pair), ("one", same))
    ]

    assert imported(service, *lines).counts == {"added": 2}
    thumbprints = [
        [one.certificate.thumbprint_sha256 for one in entry.certificates.order_by("slot")]
        for entry in IndividualEnrollment.objects.order_by("-registration_id")
    ]
    assert thumbprints[0] == [old.parsed.thumbprint_sha256, new.parsed.thumbprint_sha256]
    assert thumbprints[1] == [one.parsed.thumbprint_sha256] * 2
