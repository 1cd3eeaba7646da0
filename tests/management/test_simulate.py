"""`manage.py simulate`, called wrongly; what it does when called rightly is in tests/simulator."""

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from dpsportal.serving.server_certificate import ensure_server_certificate
from tests.devices import new_service

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--host", "nowhere"], "give host:port"),
        (["--host", "host:99999"], "give host:port"),
        (["--prefix", "has space"], "makes no registration IDs"),
        (["--prefix", "x" * 60], "common name"),
        (["--issue"], "need --cert"),
        (["--cert", "no-such-file"], "No such file"),
        (["--cert", "x", "--devices", "2"], "one device"),
        (["--cert", "x", "--mechanism", "mixed"], "--mechanism x509"),
        (["--cert", "x", "--intermediates", "2"], "made on the fly"),
        (["--tpm", "swtpm"], "--mechanism tpm"),
        (["--allow-key-groups"], "goes with --enroll and --mechanism symmetric-group"),
        (["--enroll", "--mechanism", "symmetric-group"], "--allow-key-groups switches it on"),
        (["--seconds", "5"], "go with --storm"),
        (["--healthy", "2"], "go with --storm"),
        (["--storm", "--devices", "1001"], "at most 1000 devices"),
        (["--cert", "x", "--mechanism", "tpm"], "--mechanism x509"),
        (["--cacert", "no-such-file"], "--cacert no-such-file cannot be used"),
        (["--write-pki", "/dev/null/folder"], "--write-pki /dev/null/folder cannot be used"),
    ],
)
def test_wrong_usage_is_told_apart(tmp_path, options, sentence):
    new_service()
    ensure_server_certificate(tmp_path)

    with pytest.raises(CommandError, match=sentence) as refused:
        call_command("simulate", "--cacert", str(tmp_path / "tls" / "ca.pem"), *options)

    assert refused.value.returncode == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--devices", "0"], "from 1 to"),
        (["--devices", "many"], "whole number"),
        (["--mechanism", "password"], "invalid choice"),
        (["--tpm", "discrete"], "invalid choice"),
        (["--profile", "python"], "invalid choice"),
        (["--storm", "rude"], "invalid choice"),
        (["--storm", "--seconds", "3601"], "from 1 to 3600"),
        (["--storm", "--healthy", "51"], "from 1 to 50"),
        (["--storm", "--concurrency", "201"], "from 1 to 200"),
        (["--hurry", "nan"], "number of seconds"),
    ],
)
def test_values_that_cannot_be_read_are_refused(options, sentence):
    with pytest.raises(CommandError, match=sentence):
        call_command("simulate", *options)


def test_before_the_listener_has_made_its_ca_the_way_out_is_told(settings, tmp_path):
    new_service()
    settings.DPS_DATA_DIR = tmp_path

    with pytest.raises(CommandError, match="--cacert names another one") as refused:
        call_command("simulate")

    assert refused.value.returncode == 1


def test_where_swtpm_is_missing_the_way_out_is_told(monkeypatch, tmp_path):
    new_service()
    ensure_server_certificate(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CommandError, match="--tpm virtual") as refused:
        call_command(
            *("simulate", "--mechanism", "tpm", "--tpm", "swtpm", "--devices", "1"),
            *("--cacert", str(tmp_path / "tls" / "ca.pem")),
        )

    assert refused.value.returncode == 2
