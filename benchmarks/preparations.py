"""What has to be there before requests of one kind are measured: devices that have rested, and their connections."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice

from benchmarks.devices import Device, Fleet
from benchmarks.installation import Bench, Operation, Preparation


def on_one_line(bench: Bench, fleet: Fleet) -> Preparation:
    def prepare(needed: ExitStack, times: int) -> list[Operation]:
        devices = fleet.take(times)
        line = needed.enter_context(bench.line(devices[0]).warmed())
        return [partial(line.register, device) for device in devices]

    return prepare


def newcomers(bench: Bench, devices: Iterator[Device]) -> Preparation:
    def prepare(needed: ExitStack, times: int) -> list[Operation]:
        taken = list(islice(devices, times))
        line = needed.enter_context(bench.line(taken[0]).warmed())
        return [partial(line.register, device) for device in taken]

    return prepare


def on_lines_of_their_own(bench: Bench, fleet: Fleet) -> Preparation:
    """A certificate belongs to its connection."""

    def prepare(needed: ExitStack, times: int) -> list[Operation]:
        return [
            partial(needed.enter_context(bench.line(device).warmed()).register, device)
            for device in fleet.take(times)
        ]

    return prepare


def on_new_lines(bench: Bench, fleet: Fleet) -> Preparation:
    def connect_and_register(device: Device) -> None:
        with bench.line(device) as line:
            line.register(device)

    def prepare(_: ExitStack, times: int) -> list[Operation]:
        return [partial(connect_and_register, device) for device in fleet.take(times)]

    return prepare


def each_on_a_line(bench: Bench, status: int, devices: Iterator[Device]) -> Preparation:
    """Each device asks once: it is not held back yet."""

    def prepare(needed: ExitStack, times: int) -> list[Operation]:
        return [
            partial(needed.enter_context(bench.line(device).warmed()).expect, status, device.registration)
            for device in islice(devices, times)
        ]

    return prepare


def throttled(bench: Bench, device: Device) -> Preparation:
    def prepare(needed: ExitStack, times: int) -> list[Operation]:
        line = needed.enter_context(bench.line(device))
        line.until_throttled(device)
        return [partial(line.expect, 429, device.registration)] * times

    return prepare


def throttled_on_new_lines(bench: Bench, device: Device) -> Preparation:
    def connect_and_ask() -> None:
        with bench.line(device) as line:
            line.expect(429, device.registration)

    def prepare(_: ExitStack, times: int) -> list[Operation]:
        with bench.line(device) as line:
            line.until_throttled(device)
        return [connect_and_ask] * times

    return prepare
