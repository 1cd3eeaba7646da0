"""A PostgreSQL server of a test's own, durable as it comes, that can be killed and started again."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg

from tests.live import free_port
from tests.serving.listeners import wait_until

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
START_SECONDS = 60


class Server:
    def __init__(self, folder: Path) -> None:
        # The server refuses to run as root, and whoever it runs as must get to the folder.
        self._account = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        self._data, self._log, self._port = folder / "data", folder / "log", free_port()
        if self._account:
            shutil.chown(folder, **self._account)
        self._run("initdb", "-U", "dpsportal", "--auth=trust", "--encoding=UTF8", "--no-sync")
        self._process: subprocess.Popen | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"postgres://dpsportal@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                BINARIES[-1] / "postgres",
                *("-D", self._data, "-p", str(self._port)),
                *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._data}"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=self._log.open("ab"),
            cwd=self._data.parent,
            start_new_session=True,
            **self._account,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def kill(self) -> None:
        """All its processes at once. They are of sessions of their own, so each is named."""
        if self._process.poll() is not None:
            return
        os.kill(self._process.pid, signal.SIGSTOP)  # so that it begets no more
        doomed = [*children_of(self._process.pid), self._process.pid]
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in doomed), seconds=60)

    def _answers(self) -> bool:
        try:
            with closing(psycopg.connect(self.url, connect_timeout=5)):
                return True
        except psycopg.OperationalError:
            return False

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [BINARIES[-1] / program, "-D", self._data, *arguments],
            cwd=self._data.parent,
            stdout=subprocess.DEVNULL,
            check=True,
            **self._account,
        )


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def server():
    # Not below pytest's folder, which is root's alone.
    with tempfile.TemporaryDirectory(prefix="dpsportal-postgres-") as folder:
        running = Server(Path(folder))
        try:
            yield running
        finally:
            running.kill()
