"""Rates that several nodes count together, in a real Valkey or Redis server, and what happens without it."""

import shutil
import socket
import subprocess
import threading
import time

import pytest
import redis

from enrollments.throttling import cache_table
from enrollments.throttling.buckets import BUCKET_BYTES, NOTHING
from enrollments.throttling.cache_table import CacheTable
from enrollments.throttling.limits import Caller, Limiter
from enrollments.throttling.shared_table import SharedTable
from tests.live import free_port

SERVER = shutil.which("valkey-server") or shutil.which("redis-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="neither Valkey nor Redis is installed")
PUMP = Caller(1, "pump-042", "key", is_proven=True)


class Server:
    def __init__(self, folder):
        self.port, self.folder = free_port(), folder
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        self.process = subprocess.Popen(
            [SERVER, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                return redis.Redis.from_url(self.url).ping()
            except redis.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def node(server, tmp_path):
    """Makes the limiter of one more node."""
    made = []

    def make():
        made.append(Limiter(tmp_path / f"node-{len(made)}", slots=64, cache_url=server.url, secret=b"s" * 16))
        return made[-1]

    return make


def a_table(server, tmp_path, **slots):
    fallback = SharedTable(tmp_path / "local", **slots)
    return CacheTable(server.url, "proven", b"s" * 16, fallback=fallback, **slots)


def count(numbers):
    return (numbers[0] + 1, 0.0, 0.0, 0.0, 0.0), int(numbers[0]) + 1


def look(numbers):
    return None, numbers


def test_what_one_node_counts_the_others_know(node):
    first, second = node(), node()

    waits = [
        limiter.take_registration(PUMP, 1000.0, per_minute=3) for limiter in (first, second, first, second)
    ]

    assert waits[:3] == [0, 0, 0]
    assert waits[3] > 0


def test_a_refused_device_is_held_back_by_a_node_that_never_saw_it(node):
    first, second = node(), node()
    for _ in range(6):
        first.note_refusal(PUMP, 1000.0, epoch=7, shortest=3, longest=300)

    assert second.held_back(PUMP, 1001.0, epoch=7, longest=300) > 0
    assert second.back_off_of(PUMP).in_a_row == 6
    second.note_admission(PUMP, now=1002.0)
    assert first.held_back(PUMP, 1003.0, epoch=7, longest=300) == 0


def test_nothing_is_lost_when_many_count_at_once(server, tmp_path):
    tables = [a_table(server, tmp_path / str(number), slots=8) for number in range(4)]

    def counting(table):
        for _ in range(25):
            table.change(b"one key", 1.0, count)

    threads = [threading.Thread(target=counting, args=[table]) for table in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    counted = [tables[0].change(b"one key", 2.0, look)[0]]
    counted += [table._fallback.change(b"one key", 2.0, look)[0] for table in tables]
    assert sum(counted) == 100


def test_invented_names_take_up_no_more_than_the_table_has(server, tmp_path):
    table = a_table(server, tmp_path, slots=64)

    for number in range(500):
        table.change(f"invented-{number}".encode(), float(number), count)

    kept = redis.Redis.from_url(server.url).keys("*")
    assert len(kept) <= 8
    assert all(redis.Redis.from_url(server.url).strlen(key) == BUCKET_BYTES for key in kept)
    assert all(0 < redis.Redis.from_url(server.url).ttl(key) <= cache_table.KEPT_SECONDS for key in kept)


def test_the_server_holds_no_names(server, tmp_path):
    a_table(server, tmp_path, slots=64).change(PUMP.key("registrations"), 1.0, count)

    client = redis.Redis.from_url(server.url)
    assert all(b"pump" not in key + client.get(key) for key in client.keys("*"))


def test_what_is_none_of_ours_counts_as_nothing_and_is_replaced(server, tmp_path):
    table = a_table(server, tmp_path, slots=8)
    redis.Redis.from_url(server.url).set("dps:proven:0", b"somebody else's")

    assert table.look(b"a") is None
    assert table.change(b"a", 1.0, look) == NOTHING
    assert [table.change(b"a", 1.0, count) for _ in range(2)] == [1, 2]


def test_without_the_server_each_node_counts_for_itself_and_says_so_once(server, node, monkeypatch):
    said = []
    monkeypatch.setattr(
        cache_table.logger, "error", lambda *args, **rest: said.append(rest["extra"]["fields"])
    )
    first, second = node(), node()
    server.stop()

    for limiter in (first, second):
        assert limiter.take_registration(PUMP, 1000.0, per_minute=1) == 0
        assert limiter.take_registration(PUMP, 1000.0, per_minute=1) > 0

    assert len(said) == 2  # a node each
    assert said[0]["cause"] == "ConnectionError"
    server.start()


def test_when_the_server_is_back_they_count_together_again(server, node, monkeypatch):
    monkeypatch.setattr(cache_table, "PAUSE_SECONDS", 0.0)
    first, second = node(), node()
    server.stop()
    assert first.take_registration(PUMP, 1000.0, per_minute=1) == 0
    server.start()

    assert first.take_registration(PUMP, 1000.0, per_minute=1) == 0
    assert second.take_registration(PUMP, 1000.0, per_minute=1) > 0


def test_a_server_that_accepts_and_never_answers_costs_little(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_table.logger, "error", lambda *args, **rest: None)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        limiter = Limiter(tmp_path, slots=64, cache_url=url)

        assert limiter.take_registration(PUMP, 1000.0, per_minute=1) == 0
        assert limiter.take_registration(PUMP, 1000.0, per_minute=1) > 0
