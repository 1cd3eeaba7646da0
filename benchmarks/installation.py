"""What is measured: a throw-away installation, its device listener in processes of its own, and this process."""

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import django

from benchmarks.devices import Device, Line, trusting
from benchmarks.measure import Besides, Cost
from benchmarks.sizes import Size
from dpsportal.serving.supervisor import PROJECT_DIR
from tests.live import LiveListeners, free_port, installation

Operation = Callable[[], object]
# Makes as many operations as it is told, and opens what they need; that is closed after them.
Preparation = Callable[[ExitStack, int], Sequence[Operation]]


@dataclass(frozen=True, slots=True)
class Worker:
    """The one process that answers the listener's requests, seen from outside."""

    pid: int

    @classmethod
    def of_listener(cls, live: LiveListeners) -> "Worker":
        master = live.processes["device"].pid
        (pid,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return cls(int(pid))

    def cpu(self) -> float:
        """Seconds of a processor that it has used, in user and system mode, all its threads together."""
        # What clock_getcpuclockid(3) answers on Linux; /proc/PID/stat has the same, in hundredths of a second.
        return time.clock_gettime(~self.pid << 3 | 2)

    def memory(self) -> int:
        """Bytes that it holds in memory, with what it shares with the process that it was forked from."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) * 1024


@dataclass(frozen=True, slots=True)
class Bench:
    """What subjects are given. The models of this process and the listener share one database.

    Whatever is to be stopped after the run is entered into `until_the_end`.
    """

    live: LiveListeners
    worker: Worker
    size: Size
    until_the_end: ExitStack

    def line(self, device: Device) -> Line:
        return Line(self.live.device_port, device.context)

    def trusting(self) -> ssl.SSLContext:
        return trusting(self.live.ca_file)

    def at_the_listener(self, prepare: Preparation) -> Callable[[int], Cost]:
        """How to repeat what the listener does. CPU is the worker's: what a client costs is the client's affair.

        What is prepared does not count.
        """

        def repeat(times: int) -> Cost:
            with ExitStack() as needed:
                operations = prepare(needed, times)
                wall, cpu = time.perf_counter(), self.worker.cpu()
                for operation in operations:
                    operation()
                wall, cpu = time.perf_counter() - wall, self.worker.cpu() - cpu
                return Cost(cpu / times, wall / times, {Besides.MEMORY: self.worker.memory()})

        return repeat


@contextmanager
def bench(folder: Path, size: Size) -> Iterator[Bench]:
    """Set up everything but the subjects. From here on Django means this installation, in this process too."""
    with installation(folder) as live:
        os.environ.update(live.environment)
        django.setup()
        live.start("device")
        with ExitStack() as until_the_end:
            yield Bench(live, Worker.of_listener(live), size, until_the_end)


def with_ceiling(bench: Bench) -> Bench:
    """The same for the two bare views (benchmarks/ceiling) over the same database, which know its devices of now."""
    environment = {**bench.live.environment, "DJANGO_SETTINGS_MODULE": "benchmarks.ceiling.settings"}
    subprocess.run([sys.executable, "-m", "benchmarks.ceiling"], cwd=PROJECT_DIR, env=environment, check=True)
    port = free_port()
    live = replace(
        bench.live,
        device_port=port,
        environment={**environment, "DPS_DEVICE_BIND": f"127.0.0.1:{port}"},
        processes={},
    )
    live.start("device")
    bench.until_the_end.callback(live.stop, "device")
    return replace(bench, live=live, worker=Worker.of_listener(live))
