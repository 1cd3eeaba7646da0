"""The commands for people as processes: pipes that close, a terminal that answers, Ctrl-C, exit codes."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ENROLL = """
from enrollments.actions.enrollments import add_individual_enrollment
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.audit.actor import Actor, Way
from enrollments.models import AttestationMechanism, IndividualEnrollment, ProvisioningService
service, actor = ProvisioningService.objects.get(), Actor("user", "alice", Way.PORTAL)
for number in range(3):
    add_individual_enrollment(
        service,
        IndividualSpec(registration_id=f"pump-{number}", mechanism=AttestationMechanism.SYMMETRIC_KEY),
        actor=actor,
    )
seed = IndividualEnrollment.objects.first()
many = []
for number in range(5_000):
    seed.pk, seed.registration_id, seed.registration_key = None, f"valve-{number}", f"valve-{number}"
    many.append(IndividualEnrollment(**{f.attname: getattr(seed, f.attname) for f in seed._meta.concrete_fields}))
IndividualEnrollment.objects.bulk_create(many, batch_size=500)
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """The environment of an installation with its database alone: nothing of it runs."""
    environment = {**os.environ, "DPS_DATA_DIR": str(tmp_path_factory.mktemp("data")), "DPS_DEBUG": "off"}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    environment.pop("DATABASE_URL", None)
    for command in (
        ["migrate", "--verbosity", "0"],
        ["first_start"],
        ["shell", "--verbosity", "0", "-c", ENROLL],
    ):
        subprocess.run(manage(*command), cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    return environment


def manage(*command):
    return [sys.executable, "manage.py", *command]


def run(installation, *command, **options):
    return subprocess.run(
        manage(*command),
        cwd=REPOSITORY,
        env=installation,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def listing(installation):
    """A list longer than a pipe holds, that goes on until it is read."""
    return subprocess.Popen(
        manage("enrollments", "list"),
        cwd=REPOSITORY,
        env=installation,
        preexec_fn=as_at_a_terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def status_of(installation, name):
    return run(installation, "enrollments", "list", "--search", name).stdout.splitlines()[1].split()[1]


def test_a_reader_that_has_seen_enough_ends_a_list_quietly(installation):
    process = listing(installation)
    assert process.stdout.readline().startswith("REGISTRATION ID")
    process.stdout.close()

    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


def test_exit_codes(installation):
    assert run(installation, "enrollments", "show", "pump-1").returncode == 0
    refused = run(installation, "enrollments", "show", "nobody")
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    for wrong in (
        [],
        ["list", "--status", "off"],
        ["list", "--limit", "0"],
        ["disable", "pump-1"],
        ["dance"],
    ):
        called = run(installation, "enrollments", *wrong)
        assert (called.returncode, "Traceback" in called.stderr) == (2, False), wrong


def test_names_are_piped_from_one_command_into_the_next(installation):
    listed = run(installation, "enrollments", "list", "--search", "valve-499")
    names = "\n".join(line.split()[0] for line in listed.stdout.splitlines()[1:])

    done = run(installation, "enrollments", "disable", "-", "--reason", "recalled", input=names)

    assert (done.returncode, done.stdout[:34]) == (0, "Disabled 11 individual enrollments")
    assert status_of(installation, "valve-4999") == "disabled"


def as_at_a_terminal(terminal: int | None = None) -> None:
    """Ctrl-C ends programs there, also where whoever runs these tests has them ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if terminal is not None:
        os.login_tty(terminal)


def read_from(terminal, deadline):
    """What comes next; nothing where the other end is closed."""
    ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
    assert ready, "the command neither ended nor said anything more"
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that nobody holds the other end any more
        return b""


def on_a_terminal(installation, *command, answer):
    """The exit code and output of a command in a terminal of its own, where somebody gives this answer."""
    main, other = pty.openpty()
    process = subprocess.Popen(
        manage(*command), cwd=REPOSITORY, env=installation, preexec_fn=lambda: as_at_a_terminal(other)
    )
    os.close(other)
    deadline = time.monotonic() + 60
    shown = b""
    try:
        while b"[y/N]" not in shown:
            piece = read_from(main, deadline)
            assert piece, shown.decode()
            shown += piece
        if isinstance(answer, bytes):
            os.write(main, answer)
        else:
            process.send_signal(answer)
        while piece := read_from(main, deadline):
            shown += piece
        return process.wait(timeout=60), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(main)


def test_somebody_at_a_terminal_is_asked(installation):
    run(installation, "enrollments", "disable", "pump-2", "--reason", "lost", check=True)
    enable = ("enrollments", "enable", "pump-2", "--reason", "found")

    code, shown = on_a_terminal(installation, *enable, answer=b"n\n")
    assert (code, "Nobody said yes, so nothing was changed." in shown) == (1, True)
    assert status_of(installation, "pump-2") == "disabled"

    code, shown = on_a_terminal(installation, *enable, answer=b"y\n")
    assert (code, "1 device will come in anew" in shown) == (0, True)
    assert status_of(installation, "pump-2") == "enabled"


@pytest.mark.parametrize("answer", [b"\x03", signal.SIGINT], ids=["key", "signal"])
def test_ctrl_c_at_the_question_changes_nothing(installation, answer):
    run(installation, "enrollments", "disable", "pump-0", "--reason", "lost", check=True)

    code, shown = on_a_terminal(
        installation, "enrollments", "enable", "pump-0", "--reason", "found", answer=answer
    )

    assert (code, "Interrupted before it was done." in shown, "Traceback" in shown) == (130, True, False)
    assert status_of(installation, "pump-0") == "disabled"


def test_ctrl_c_ends_a_list_in_one_line(installation):
    process = listing(installation)
    process.stdout.readline()
    # It waits for a reader of what does not fit into the pipe.
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _rest, told = process.communicate(timeout=60)

    assert process.returncode == 130
    assert told == "CommandError: Interrupted.\n"
