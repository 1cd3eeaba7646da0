"""`python -m benchmarks.scale.refused`: devices that are refused, and ask again and again, whatever they are told.

A process of its own, so that they do not take the time of the devices whose answers are measured. It reads one line of
JSON, says when all are connected, asks until its standard input ends, and tells how many answers there were.
"""

import json
import sys
import time
from collections import Counter
from threading import Event, Thread
from typing import Any

from benchmarks.devices import Device, Line, trusting


def main() -> None:
    told = json.loads(sys.stdin.readline())
    lines = [_connected(told, device) for device in told["devices"]]
    over, answers = Event(), Counter[int]()
    # Each keeps to its own times, and is late only by what it waits for its own answers.
    apart = len(lines) / told["per_second"]
    threads = [
        Thread(
            target=_ask, args=(line, device.registration, number * apart / len(lines), apart, over, answers)
        )
        for number, (line, device) in enumerate(lines)
    ]
    print("connected", flush=True)
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps(answers), flush=True)


def _connected(told: dict[str, Any], device: dict[str, str]) -> tuple[Line, Device]:
    context = trusting(told["ca_file"])
    if stem := device.get("files"):
        context.load_cert_chain(f"{stem}.crt", f"{stem}.key")
    one = Device(device["registration_id"], told["id_scope"], context, device.get("authorization", ""))
    return Line(told["port"], context).warmed(), one


def _ask(line: Line, request: bytes, first: float, apart: float, over: Event, answers: Counter[int]) -> None:
    due = time.monotonic() + first
    while not over.wait(max(0.0, due - time.monotonic())):
        answers[line.ask(request).status] += 1
        due += apart


if __name__ == "__main__":
    main()
