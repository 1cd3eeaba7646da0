"""The worker leans on names of gunicorn that are not public; when one changes, this says which."""

import gc
import inspect
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import gunicorn
import pytest
from gunicorn import http
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.http.parser import Parser
from gunicorn.http.unreader import Unreader
from gunicorn.workers.gthread import PollableMethodQueue, TConn, ThreadWorker

from dpsportal.serving.gunicorn_common import listener_settings
from dpsportal.serving.limits import DEVICE_LIMITS
from dpsportal.serving.refusals import for_devices
from dpsportal.serving.worker import ListenerWorker


def test_gunicorn_is_the_version_that_the_worker_was_read_against():
    assert gunicorn.__version__ == "27.0.1"


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (Arbiter.stop, ["self", "graceful"]),
        (ThreadWorker.run, ["self"]),
        (ThreadWorker.init_process, ["self"]),
        (ThreadWorker.set_accept_enabled, ["self", "enabled"]),
        (ThreadWorker.accept, ["self", "listener"]),
        (ThreadWorker.enqueue_req, ["self", "conn"]),
        (ThreadWorker.finish_request, ["self", "conn", "fs"]),
        (ThreadWorker.handle, ["self", "conn"]),
        (ThreadWorker.handle_error, ["self", "req", "client", "addr", "exc"]),
        (ThreadWorker._keepalive_after, ["self", "conn", "keepalive"]),
        (ThreadWorker._cap_keepalive, ["self", "deadline"]),
        (ThreadWorker.murder_pending, ["self"]),
        (ThreadWorker.handle_exit, ["self", "sig", "frame"]),
        (ThreadWorker.handle_quit, ["self", "sig", "frame"]),
        (ThreadWorker.wait_for_and_dispatch_events, ["self", "timeout"]),
        (TConn.__init__, ["self", "cfg", "sock", "client", "server"]),
        (TConn.init, ["self"]),
        (TConn.close, ["self", "graceful"]),
        (http.get_parser, ["cfg", "source", "source_addr", "http2_connection"]),
        (Parser.finish_body, ["self", "deadline", "max_bytes"]),
        (Unreader.take_buffered, ["self"]),
        (Config.forwarded_allow_networks, ["self"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signature(function, parameters):
    assert list(inspect.signature(function).parameters) == parameters


def names_used_by(function) -> set[str]:
    return set(function.__code__.co_names)


def test_the_loop_still_calls_what_the_worker_replaces():
    called = names_used_by(ThreadWorker.run)

    assert {
        "murder_pending",
        "_cap_keepalive",
        "wait_for_and_dispatch_events",
        "set_accept_enabled",
        "nr_conns",
        "worker_connections",
        "graceful_timeout",
    } <= called


def test_stopping_still_goes_through_what_parting_is_put_before():
    assert "stop" in names_used_by(Arbiter.halt)
    assert {"LISTENERS", "kill_workers", "close_sockets"} <= names_used_by(Arbiter.stop)


def test_an_interrupt_waits_for_no_lock_that_the_interrupted_code_holds():
    worker = ListenerWorker.__new__(ListenerWorker)
    worker.alive, worker.cfg, worker.tpool = True, Config(), ThreadPoolExecutor(1)
    worker.method_queue = PollableMethodQueue()
    worker.method_queue.init()
    # As it is while the loop hands a request over to a thread.
    with worker.tpool._shutdown_lock:
        interrupted = threading.Thread(target=worker.handle_quit, args=(signal.SIGQUIT, None), daemon=True)
        interrupted.start()
        interrupted.join(5)
        assert not interrupted.is_alive()
    worker.method_queue.close()

    assert (worker.alive, worker.cfg.graceful_timeout) == (False, 0)


def test_a_request_thread_still_does_what_the_connection_prepares():
    called = names_used_by(ThreadWorker.handle)

    assert {
        "initialized",
        "data_ready",
        "init",
        "parser",
        "is_http2",
        "_keepalive_after",
        "handle_error",
    } <= called


def test_the_connection_still_has_the_attributes_that_are_set():
    source = inspect.getsource(TConn.__init__)

    for name in ("sock", "client", "server", "timeout", "parser", "initialized", "is_http2", "data_ready"):
        assert f"self.{name} = " in source


def test_what_a_worker_begins_with_is_no_garbage():
    Config().set(
        "post_worker_init", keeping := listener_settings(DEVICE_LIMITS, for_devices)["post_worker_init"]
    )

    try:
        keeping(object())
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
