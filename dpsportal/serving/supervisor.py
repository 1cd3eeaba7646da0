"""All listeners as one service: signals go to each, and when one ends the others do not stay without it."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from django.conf import settings

from dpsportal.serving.gunicorn_common import empty_metrics_folder
from dpsportal.serving.tls import UnusableCertificate, server_context

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent
STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})
WATCHED_SIGNALS = STOP_SIGNALS | {signal.SIGHUP, signal.SIGCHLD}
# Above the time that gunicorn gives its workers to finish what they have begun.
STOP_SECONDS = 15
PR_SET_PDEATHSIG = 1


def listener_command(listener: str) -> list[str]:
    return [
        *(sys.executable, "-m", "gunicorn"),
        *("--config", f"python:dpsportal.serving.gunicorn_{listener}"),
        f"dpsportal.serving.{listener}_wsgi:application",
    ]


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpsportal.settings")
    # Reading a setting also stops us here, once, and not in each listener, if a variable cannot be read.
    listeners = ["portal", "device", *(["proxied"] if settings.DPS_PROXIED_BIND else [])]
    if settings.DPS_METRICS_BIND:
        empty_metrics_folder()
        listeners.append("metrics")
    commands = {listener: listener_command(listener) for listener in listeners}
    return supervise(commands, obstacle_to_reload=unusable_certificate)


def unusable_certificate() -> str | None:
    """What is wrong with the certificate that a reload would begin to use, if anything.

    A worker that cannot start ends its listener: better to go on with what works.
    """
    if settings.DPS_TLS_CERT and settings.DPS_TLS_KEY:
        try:
            server_context(settings.DPS_TLS_CERT, settings.DPS_TLS_KEY)
        except UnusableCertificate as error:
            return f"DPS_TLS_CERT cannot be used: {error}"
    return None


def supervise(
    commands: Mapping[str, list[str]], *, obstacle_to_reload: Callable[[], str | None] = lambda: None
) -> int:
    """Run the commands until a stop signal (0) or until one of them ends by itself (1)."""
    # SIGHUP is "reload" from an operator, but "the terminal is gone" when there is one.
    stop_signals = STOP_SIGNALS | ({signal.SIGHUP} if sys.stdin is not None and sys.stdin.isatty() else set())
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED_SIGNALS)
    listeners: dict[str, subprocess.Popen[bytes]] = {}
    stop_with = signal.SIGTERM
    try:
        for name, command in commands.items():
            listeners[name] = _start(command)
        while True:
            received = signal.Signals(signal.sigwait(WATCHED_SIGNALS))
            if received in stop_signals:
                stop_with = signal.SIGTERM if received == signal.SIGHUP else received
                return 0
            if received == signal.SIGHUP:
                if (obstacle := obstacle_to_reload()) is not None:
                    sys.stderr.write(f"Not reloaded, everything goes on as before. {obstacle}.\n")
                    continue
                for process in listeners.values():
                    process.send_signal(signal.SIGHUP)
            elif ended := [name for name, process in listeners.items() if process.poll() is not None]:
                _report(ended, listeners)
                return 1
    finally:
        _stop(listeners, stop_with)


def _start(command: list[str]) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join(filter(None, [str(PROJECT_DIR), os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        # A session of its own: Ctrl-C reaches it through us alone, and its workers can be ended with it.
        start_new_session=True,
        preexec_fn=_prepare_child(os.getpid()),  # the supervisor has no threads
    )


def _prepare_child(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED_SIGNALS)
        if libc is not None:
            # When we are killed without a chance to say so, the system tells the listener to stop.
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

    return prepare


def _report(ended: list[str], listeners: "Mapping[str, subprocess.Popen[bytes]]") -> None:
    for name in ended:
        sys.stderr.write(
            f"The {name} listener ended with exit status {listeners[name].returncode}; "
            "everything else is stopped. Its last messages above say why.\n"
        )


def _stop(listeners: "Mapping[str, subprocess.Popen[bytes]]", number: int) -> None:
    running = [process for process in listeners.values() if process.poll() is None]
    for process in running:
        process.send_signal(number)
    deadline = time.monotonic() + STOP_SECONDS
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
