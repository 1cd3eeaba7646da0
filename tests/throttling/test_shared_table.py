"""The table in shared memory: between threads and processes, bounded, and never in the way of a start."""

import errno
import os
import threading

import pytest

from enrollments.throttling.buckets import NOTHING, WAYS
from enrollments.throttling.shared_table import SharedTable


def count(numbers):
    return (numbers[0] + 1, 0.0, 0.0, 0.0, 0.0), int(numbers[0]) + 1


def look(numbers):
    return None, numbers


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rates" / "proven"


def test_numbers_are_remembered_per_key(path):
    table = SharedTable(path, slots=64)

    assert [table.change(key, 1.0, count) for key in (b"a", b"a", b"b", b"a")] == [1, 2, 1, 3]
    assert table.change(b"c", 1.0, look) == NOTHING


def test_looking_takes_up_no_room(path):
    table = SharedTable(path, slots=WAYS)
    table.change(b"kept", 1.0, count)

    for number in range(1000):
        table.change(f"{number}".encode(), 2.0, look)

    assert table.change(b"kept", 3.0, count) == 2


def test_full_table_forgets_what_was_not_touched_for_longest(path):
    table = SharedTable(path, slots=WAYS)
    for number in range(WAYS):
        table.change(f"{number}".encode(), float(number + 1), count)
    table.change(b"0", 100.0, count)

    table.change(b"new", 101.0, count)

    assert table.change(b"0", 102.0, look)[0] == 2
    assert table.change(b"new", 102.0, look)[0] == 1
    assert table.change(b"1", 102.0, look) == NOTHING


def test_flood_of_keys_leaves_the_file_as_large_as_it_was(path):
    table = SharedTable(path, slots=256)
    table.change(b"first", 1.0, count)
    size = path.stat().st_size

    for number in range(5000):
        table.change(f"{number}".encode(), 2.0, count)

    assert path.stat().st_size == size


def test_another_process_sees_the_same_numbers(path):
    table = SharedTable(path, slots=64)
    table.change(b"a", 1.0, count)

    child = os.fork()
    if child == 0:
        # The same object, after a fork, as in a worker of a listener.
        os._exit(table.change(b"a", 1.0, count))
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 2
    assert table.change(b"a", 1.0, count) == 3


def test_threads_and_processes_lose_no_count(path):
    table = SharedTable(path, slots=64)
    table.change(b"warm", 1.0, look)

    def work() -> None:
        for _ in range(500):
            table.change(b"a", 1.0, count)

    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.waitpid(child, 0)

    assert table.change(b"a", 1.0, look)[0] == 2500


def test_numbers_outlive_a_restart(path):
    SharedTable(path, slots=64).change(b"a", 1.0, count)

    assert SharedTable(path, slots=64).change(b"a", 1.0, count) == 2


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff" * 4096])
def test_file_that_is_none_of_ours_is_begun_anew(path, content):
    path.parent.mkdir()
    path.write_bytes(content)

    assert SharedTable(path, slots=64).change(b"a", 1.0, count) == 1


def test_table_of_another_size_is_begun_anew(path):
    SharedTable(path, slots=64).change(b"a", 1.0, count)

    assert SharedTable(path, slots=128).change(b"a", 1.0, count) == 1


def test_file_is_for_its_own_account_alone(path):
    SharedTable(path, slots=64).change(b"a", 1.0, count)

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_file_of_another_layout_is_replaced_and_not_cut(path):
    """Cut, it would kill the processes that have it mapped."""
    running = SharedTable(path, slots=128)
    running.change(b"a", 1.0, count)
    inode = path.stat().st_ino

    SharedTable(path, slots=64).change(b"a", 1.0, count)

    assert path.stat().st_ino != inode
    assert running.change(b"a", 1.0, count) == 2


def test_without_room_on_the_disk_each_process_counts_by_itself(path, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    table = SharedTable(path, slots=64)

    assert [table.change(b"a", 1.0, count) for _ in range(2)] == [1, 2]
    assert [one.getMessage() for one in caplog.records] == ["rates are not shared between processes"]
    assert list(path.parent.iterdir()) == []


def test_room_for_all_of_it_is_taken_at_once(path):
    SharedTable(path, slots=1024).change(b"a", 1.0, count)

    assert path.stat().st_blocks * 512 >= path.stat().st_size


def test_two_that_start_at_once_share_one_file(path):
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            SharedTable(path, slots=64).change(b"a", 1.0, count)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)

    assert SharedTable(path, slots=64).change(b"a", 1.0, look)[0] == 6


# --- Looking from outside -----------------------------------------------------------------------------


def test_another_reader_sees_what_was_counted_and_leaves_no_trace(path):
    writer = SharedTable(path, slots=64)
    writer.change(b"a", 1.0, count)
    before = path.read_bytes()

    reader = SharedTable(path, slots=64)

    assert reader.look(b"a") == (1.0, 0.0, 0.0, 0.0, 0.0)
    assert reader.look(b"b") is None
    assert path.read_bytes() == before
    assert writer.change(b"a", 2.0, count) == 2
    assert reader.look(b"a") == (2.0, 0.0, 0.0, 0.0, 0.0)


def test_a_table_that_is_not_there_is_not_made_by_looking(path):
    assert SharedTable(path, slots=64).look(b"a") is None
    assert not path.parent.exists()


@pytest.mark.parametrize(
    "content", [b"", b"short", b"x" * 200], ids=["empty", "cut off", "of something else"]
)
def test_a_file_that_is_no_such_table_says_nothing_and_is_left_alone(path, content):
    path.parent.mkdir()
    path.write_bytes(content)

    assert SharedTable(path, slots=64).look(b"a") is None
    assert path.read_bytes() == content


def test_a_table_of_another_size_says_nothing(path):
    SharedTable(path, slots=64).change(b"a", 1.0, count)

    assert SharedTable(path, slots=128).look(b"a") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_table_that_may_not_be_read_says_nothing(path):
    SharedTable(path, slots=64).change(b"a", 1.0, count)
    path.chmod(0)

    assert SharedTable(path, slots=64).look(b"a") is None
