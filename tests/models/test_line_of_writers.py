"""On SQLite those who write come in turn: nobody is overtaken again and again by whoever writes one after the other."""

import os
import subprocess
import sys
import threading

import pytest
from django.db import connection

from enrollments.actions.registrations import Outcome
from enrollments.models import RegistrationAttempt, locks
from tests.actions.test_r12_at_once import finish, in_thread
from tests.certificates import self_signed
from tests.devices import new_service, register


@pytest.fixture
def place(tmp_path, monkeypatch):
    place = str(tmp_path / "db.sqlite3")
    monkeypatch.setattr(locks, "_place_in_line", lambda: place)
    return place


def test_one_at_a_time(place):
    inside, most = [], []

    def write():
        for _ in range(50):
            with locks.in_line():
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (max(most), len(most)) == (1, 300)


def test_nobody_is_overtaken_by_those_who_come_again_and_again(place):
    turns, stop = [], threading.Event()

    def greedy():
        while not stop.is_set():
            with locks.in_line():
                turns.append(1)

    others = [threading.Thread(target=greedy) for _ in range(3)]
    for thread in others:
        thread.start()
    try:
        waits = []
        for _ in range(20):
            door = locks._locked(f"{place}-line-of-writers")  # as whoever is next in line
            asked = len(turns)
            os.close(locks._locked(f"{place}-turn-of-writers"))
            waits.append(len(turns) - asked)
            os.close(door)
    finally:
        stop.set()
        for thread in others:
            thread.join()

    # Who has the turn, and who had passed the door.
    assert max(waits) <= 2


def test_turn_of_a_process_that_was_killed_is_over(place):
    holding = (
        "import sys\nfrom enrollments.models import locks\n"
        "locks._locked(sys.argv[1] + '-turn-of-writers', first=sys.argv[1] + '-line-of-writers')\n"
        "print('holds', flush=True)\nsys.stdin.read()\n"
    )
    settings = (
        "import os, django\nos.environ['DJANGO_SETTINGS_MODULE'] = 'dpsportal.settings'\ndjango.setup()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", settings + holding, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"holds\n"
        process.kill()
        process.wait()

        with locks.in_line():
            pass


def test_whoever_has_the_turn_may_take_it_again(place):
    """What is done after a commit is done before the turn is over."""

    def twice():
        with locks.in_line(), locks.in_line():
            pass
        os.close(locks._locked(f"{place}-turn-of-writers"))  # which is free again

    thread, results = in_thread(twice)
    finish(thread)
    assert results == [None]


def test_exception_ends_a_turn(place):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locks.in_line():
            raise ZeroDivisionError


@pytest.mark.django_db
def test_no_line_where_the_database_has_no_file(settings):
    assert locks._place_in_line() is None


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has writers beside each other")
@pytest.mark.django_db(transaction=True)
def test_what_a_stranger_tries_waits_for_its_turn_too():
    """Otherwise whoever is refused would look again and again, and be overtaken by all who register."""
    service, stranger = new_service("plant"), self_signed("pump-042")
    turn = locks._locked(f"{locks._place_in_line()}-turn-of-writers")

    thread, results = in_thread(lambda: register(service, stranger))
    thread.join(0.2)
    tried = RegistrationAttempt.objects.count()
    os.close(turn)
    finish(thread)

    assert tried == 0
    assert results[0].outcome is Outcome.UNAUTHORIZED
    assert RegistrationAttempt.objects.count() == 1
