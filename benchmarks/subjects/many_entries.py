"""Many enrollments: adding them one by one, by bulk and by import, and reading a million of them page by page."""

import io
import json
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from http.client import HTTPResponse
from itertools import count, islice
from typing import Any
from urllib.parse import quote_plus

from benchmarks.copying import copy_row, digits
from benchmarks.devices import Line, Unexpected
from benchmarks.installation import Bench, Operation
from benchmarks.measure import Clock, Cost, Figure, Part, Ratio
from enrollments.actions.import_holding import hold
from enrollments.actions.imports import begin_import, cancel_import, file_is_there, start_import
from enrollments.audit.actor import Actor, Way
from enrollments.audit.sealer import seal_everything
from enrollments.models import ImportFormat, ImportRun, ProvisioningService
from enrollments.transfer.work import carry_out_run, check_run
from tests.certificates import root
from tests.devices import enroll_keys, new_service
from tests.service_api.conftest import service_token

PUT, BULK, CHECK, IMPORT = "enrolling.put", "enrolling.bulk", "enrolling.import-check", "enrolling.import"
FIRST, MIDDLE, LAST = "query.first-page", "query.middle-page", "query.last-page"
VERSION = "api-version=2021-10-01"
ACTOR = Actor("cli", "benchmark", Way.COMMAND_LINE)
BULK_SIZE = 10
PAGE = 1000
# What the worker may grow by while all pages are read one after the other.
MOST_GROWTH = 64 * 1024 * 1024


class BackEnd:
    """What calls the service API, with the keys of a policy."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.service = new_service(name)
        self.host = f"{name}.example"
        ProvisioningService.objects.filter(pk=self.service.pk).update(host_name=self.host)
        self._port, self._context = bench.live.device_port, bench.trusting()
        policy = self.service.access_policies.get()
        resource = quote_plus(self.host)
        self._token = service_token(
            policy.primary_key, policy.name, resource=resource, expiry=int(time.time()) + 86_400
        )

    def line(self) -> Line:
        return Line(self._port, self._context).warmed()

    def request(self, method: str, path: str, body: Any, **headers: object) -> bytes:
        raw = json.dumps(body).encode()
        head = [
            f"{method} {path}?{VERSION} HTTP/1.1",
            f"Host: {self.host}",
            f"Authorization: {self._token}",
            "Content-Type: application/json",
            f"Content-Length: {len(raw)}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join([*head, "", ""]).encode() + raw


def many_entries(bench: Bench) -> Part:
    lines = _pinned()
    back_end, size = BackEnd(bench, "enrolling"), bench.size
    return Part(
        "Enrolling one device by its certificate",
        [
            Figure(
                PUT,
                "service API: PUT",
                size.slow_calls,
                bench.at_the_listener(partial(_puts, back_end, lines)),
            ),
            Figure(
                BULK, "service API: bulk of ten, one of them", size.slow_calls, _bulks(bench, back_end, lines)
            ),
            Figure(CHECK, "import: checking a line", size.imported_lines, _checks(back_end.service, lines)),
            Figure(
                IMPORT, "import: carrying a line out", size.imported_lines, _imports(back_end.service, lines)
            ),
        ],
        [
            Ratio("import to PUT", IMPORT, PUT, clock=Clock.WALL),
            Ratio("import to bulk", IMPORT, BULK, clock=Clock.WALL),
        ],
    )


def _pinned() -> Iterator[dict[str, Any]]:
    """Entries by certificate, under one name after the other."""
    ca = root("Factory of many")
    for number in count():
        name = f"many-{number:07}"
        pair = {"primary": {"certificate": ca.leaf(name).pem}}
        yield {"registrationId": name, "attestation": {"type": "x509", "x509": {"clientCertificates": pair}}}


def _puts(
    back_end: BackEnd, lines: Iterator[dict[str, Any]], needed: ExitStack, times: int
) -> Sequence[Operation]:
    line = needed.enter_context(back_end.line())
    return [
        partial(line.expect, 200, back_end.request("PUT", f"/enrollments/{one['registrationId']}", one))
        for one in islice(lines, times)
    ]


def _bulks(bench: Bench, back_end: BackEnd, lines: Iterator[dict[str, Any]]) -> Callable[[int], Cost]:
    def prepare(needed: ExitStack, times: int) -> Sequence[Operation]:
        line = needed.enter_context(back_end.line())
        bodies = ({"mode": "create", "enrollments": list(islice(lines, BULK_SIZE))} for _ in range(times))
        return [partial(_succeed, line, back_end.request("POST", "/enrollments", one)) for one in bodies]

    def repeat(times: int) -> Cost:
        calls = max(1, times // BULK_SIZE)
        cost = bench.at_the_listener(prepare)(calls)
        return Cost(cost.cpu / BULK_SIZE, cost.wall / BULK_SIZE)

    return repeat


def _succeed(line: Line, request: bytes) -> None:
    told = line.expect(200, request)
    if not told["isSuccessful"]:
        raise Unexpected(str(told)[:500])


def _checked(service: ProvisioningService, content: bytes) -> ImportRun:
    run = begin_import(service, list_name="many.jsonl", format=ImportFormat.JSON_LINES, actor=ACTOR)
    check_run(run, file_is_there(run, actor=ACTOR), io.BytesIO(content), None)
    run.refresh_from_db()
    return run


def _list_of(lines: Iterator[dict[str, Any]], times: int) -> bytes:
    return "\n".join(json.dumps(one) for one in islice(lines, times)).encode()


def _checks(service: ProvisioningService, lines: Iterator[dict[str, Any]]) -> Callable[[int], Cost]:
    def repeat(times: int) -> Cost:
        content = _list_of(lines, times)
        cost, run = _measured(times, lambda: _checked(service, content))
        cancel_import(run, actor=ACTOR)
        return cost

    return repeat


def _imports(service: ProvisioningService, lines: Iterator[dict[str, Any]]) -> Callable[[int], Cost]:
    def repeat(times: int) -> Cost:
        run = _checked(service, _list_of(lines, times))
        epoch = ProvisioningService.epoch_of(service.pk)
        run = start_import(run, without_bad_lines=False, actor=ACTOR, expected_epoch=epoch)
        held = hold(run.pk)
        if held is None:
            raise Unexpected("somebody else has the import")
        cost, run = _measured(times, lambda: carry_out_run(*held))
        if run.counts != {"added": times}:
            raise Unexpected(f"{run.counts} instead of {times} added")
        seal_everything()
        return cost

    return repeat


def _measured(times: int, act: Callable[[], ImportRun]) -> tuple[Cost, ImportRun]:
    """With the processes that it begins and waits for."""
    wall, cpu = time.perf_counter(), _cpu()
    run = act()
    return Cost((_cpu() - cpu) / times, (time.perf_counter() - wall) / times), run


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def queries(bench: Bench) -> Part:
    """All of them are read once before anything is measured: each is there, once, and the worker does not grow."""
    back_end, number = BackEnd(bench, "queried"), bench.size.queried
    _fill(back_end.service, number)
    page = min(PAGE, max(1, number // 10))
    continuations = _read_all(bench, back_end, number, page)
    places = {
        FIRST: "",
        MIDDLE: continuations[len(continuations) // 2],
        LAST: continuations[-1],
    }
    titles = {FIRST: "the first page", MIDDLE: "one in the middle", LAST: "the last one"}
    return Part(
        f"A query of {number} enrollments: a page of {page}",
        [
            Figure(
                key, titles[key], max(1, bench.size.slow_calls // 10), _pages(bench, back_end, page, place)
            )
            for key, place in places.items()
        ],
        [
            Ratio("a page in the middle to the first", MIDDLE, FIRST, below=2, clock=Clock.WALL),
            Ratio("the last page to the first", LAST, FIRST, below=2, clock=Clock.WALL),
        ],
    )


def _fill(service: ProvisioningService, number: int) -> None:
    """Rows as they stand in the database, past the actions: it is about reading them."""
    name = f"'queried-' || {digits('i', 7)}"
    copy_row(
        enroll_keys(service, "queried-0000000"),
        number - 1,
        {"registration_id": name, "registration_key": name},
    )


def _read_all(bench: Bench, back_end: BackEnd, number: int, page: int) -> list[str]:
    """The continuations, in their order."""
    continuations: list[str] = []
    seen, last, settled = 0, "", 0
    with back_end.line() as line:
        while True:
            rows, continuation = _ask(
                line, _query(back_end, page, continuations[-1] if continuations else "")
            )
            names = [row["registrationId"] for row in rows]
            if names != sorted(names) or names[0] <= last:
                raise Unexpected("a page does not go on behind the one before it")
            seen, last = seen + len(names), names[-1]
            if not continuation:
                break
            continuations.append(continuation)
            if len(continuations) == 5:
                settled = bench.worker.memory()
    grown = bench.worker.memory() - settled if settled else 0
    if seen != number or grown > MOST_GROWTH:
        raise Unexpected(f"{seen} of {number} were told, and the worker grew by {grown} bytes")
    return continuations


def _query(back_end: BackEnd, page: int, continuation: str) -> bytes:
    headers = {"x_ms_max_item_count": page, **({"x_ms_continuation": continuation} if continuation else {})}
    return back_end.request("POST", "/enrollments/query", {"query": "SELECT *"}, **headers)


def _ask(line: Line, request: bytes) -> tuple[list[dict[str, Any]], str]:
    line._socket.sendall(request)
    with HTTPResponse(line._socket) as response:
        response.begin()
        body = json.loads(response.read())
        if response.status != 200:
            raise Unexpected(str(body)[:500])
        return body, response.headers.get("x-ms-continuation", "")


def _pages(bench: Bench, back_end: BackEnd, page: int, continuation: str) -> Callable[[int], Cost]:
    def prepare(needed: ExitStack, times: int) -> Sequence[Operation]:
        line = needed.enter_context(back_end.line())
        return [partial(_ask, line, _query(back_end, page, continuation))] * times

    return bench.at_the_listener(prepare)
