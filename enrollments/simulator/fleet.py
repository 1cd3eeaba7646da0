"""Many devices at once: a pool of threads that ends when its consumer does."""

import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace

from enrollments.simulator.client import Device, Endpoint, Interrupted, Pace, Result, provision


def run_fleet(
    devices: Sequence[Device], endpoint: Endpoint, pace: Pace, *, concurrency: int
) -> Generator[tuple[Device, Result], None, None]:
    """Results as they come. Close it to stop: who waits ends at once, an exchange in flight is finished."""
    pace = replace(pace, stop=threading.Event())
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="device")
    try:
        running = {pool.submit(provision, device, endpoint, pace): device for device in devices}
        for future in as_completed(running):
            try:
                yield running[future], future.result()
            except Interrupted:
                return
    finally:
        pace.stop.set()
        pool.shutdown(cancel_futures=True)
