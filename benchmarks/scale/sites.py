"""The installations of a run, as devices see them: each its listener, and the station that filled it and asks pages."""

import base64
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from benchmarks.devices import Device, trusting
from benchmarks.installation import Bench, Worker
from benchmarks.scale.names import DISABLED_EVERY, KEY_NAME, KNOWN, name_of
from benchmarks.scale.servers import POSTGRESQL, SQLITE, TITLES, new_database, postgresql_server
from benchmarks.scale.stations import Station
from benchmarks.sizes import Size
from tests.live import LiveListeners, installation
from tests.sas import sas_token

# Longer than any run.
TOKEN_SECONDS = 86_400
DISABLED_IN_STORMS = 8
# On two processors: one is filled from here while the other's database writes.
FILLED_AT_ONCE = 2
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Site:
    """One installation. `folder` has the certificates of its devices."""

    database: str
    enrollments: int
    bench: Bench
    station: Station
    folder: Path

    @property
    def key(self) -> str:
        """What the keys of its figures begin with."""
        return f"{self.database}.{self.enrollments}"

    @property
    def title(self) -> str:
        return f"{self.column}, {self.enrollments:,}"

    @property
    def column(self) -> str:
        """Where the digest has it."""
        return TITLES[self.database]

    def with_keys(self, number: int, remainder: int) -> list[Device]:
        """So many enabled devices from all over the enrollments: others for each remainder, from 1 to 4."""
        return self._spread(range(remainder, self._last_with_keys, DISABLED_EVERY), number)

    def disabled(self, number: int) -> list[Device]:
        return self._spread(range(DISABLED_EVERY, self._last_disabled, DISABLED_EVERY), number)

    @property
    def disabled_in_storms(self) -> list[Device]:
        """Others than these."""
        return self._spread(
            range(self._last_disabled, self._last_with_keys, DISABLED_EVERY), DISABLED_IN_STORMS
        )

    @property
    def _last_with_keys(self) -> int:
        return self.enrollments - self.enrollments // 10

    @property
    def _last_disabled(self) -> int:
        last = (self._last_with_keys - 1) // DISABLED_EVERY
        return (last - DISABLED_IN_STORMS + 1) * DISABLED_EVERY

    def _spread(self, there: range, number: int) -> list[Device]:
        chosen = there[:: max(1, len(there) // number)][:number]
        if len(chosen) < number:
            raise ValueError(f"{self.title}: there are {len(chosen)} devices, {number} are to be asked for")
        context = self._trusting()
        return [self._signing(name_of(KEY_NAME, each), self.station.key, context) for each in chosen]

    def strangers(self, name: str = "stranger") -> Iterator[Device]:
        """Devices that nobody knows, each new."""
        context = self._trusting()
        for number in count():
            yield self._signing(f"{name}-{number}", base64.b64encode(os.urandom(64)).decode(), context)

    def with_certificates(self, kind: str, number: int) -> list[Device]:
        return [self._showing(f"{kind}-{each}") for each in range(min(number, self.station.certificates))]

    def files(self, device: Device) -> str:
        """Where its certificate and key are, without their suffix; empty where it has none."""
        stem = self.folder / device.registration_id
        return str(stem) if stem.with_suffix(".crt").exists() else ""

    def _signing(self, name: str, key: str, context: ssl.SSLContext) -> Device:
        scope = self.station.id_scope
        token = sas_token(scope, name, key, expiry=int(time.time()) + TOKEN_SECONDS)
        return Device(name, scope, context, token)

    def _showing(self, name: str) -> Device:
        context = self._trusting()
        context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return Device(name, self.station.id_scope, context)

    def _trusting(self) -> ssl.SSLContext:
        return trusting(self.bench.live.ca_file)


@contextmanager
def sites(size: Size, databases: Sequence[str], tell: Tell) -> Iterator[list[Site]]:
    """One site for each database and number of enrollments, filled, with listeners that run."""
    with ExitStack() as until_the_end:
        server = until_the_end.enter_context(postgresql_server()) if POSTGRESQL in databases else ""
        # The largest first: they take longest.
        wanted = [
            (database, number) for number in sorted(size.enrollments, reverse=True) for database in databases
        ]
        with ThreadPoolExecutor(FILLED_AT_ONCE) as pool:
            opened = [pool.submit(_opened, until_the_end, size, *one, server, tell) for one in wanted]
            try:
                found = [one.result() for one in opened]
            finally:
                # Where something went wrong, or somebody interrupts, no other one is begun.
                pool.shutdown(cancel_futures=True)
        yield sorted(found, key=lambda site: (databases.index(site.database), site.enrollments))


def _opened(
    until_the_end: ExitStack, size: Size, database: str, enrollments: int, server: str, tell: Tell
) -> Site:
    title = f"{TITLES[database]}, {enrollments:,} enrollments"
    folder = Path(until_the_end.enter_context(tempfile.TemporaryDirectory(prefix="dpsportal-bench-")))
    url = {} if database == SQLITE else {"DATABASE_URL": new_database(server, f"bench_{enrollments}")}
    live: LiveListeners = until_the_end.enter_context(installation(folder, **url))
    station = until_the_end.enter_context(
        Station(live, enrollments, size.certificates, folder, lambda sentence: tell(f"{title}: {sentence}"))
    )
    live.start("device")
    site = Site(
        database, enrollments, Bench(live, Worker.of_listener(live), size, until_the_end), station, folder
    )
    _register_those_with_certificates(site)
    # By a worker that ends: the one that is measured has seen none of their certificates, as if it were a day later.
    live.stop("device")
    live.start("device")
    return replace(site, bench=replace(site.bench, worker=Worker.of_listener(live)))


def _register_those_with_certificates(site: Site) -> None:
    for device in site.with_certificates(KNOWN, site.station.certificates):
        with site.bench.line(device) as line:
            line.register(device)
