"""Let thousands of records be due at once, and see whether members who buy now notice.

python -m bench.backlog --records 10000 --workers 1
python -m tests.postgres python -m bench.backlog
"""

import argparse
import re
import sys
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from django.db import connection

from bench import command_line
from bench.world import (
    count_missing,
    find_damage,
    find_idle,
    is_fulfilled,
    paid_session,
    refund_of,
    sell,
    store_as_failed,
)
from fulfillment.models import StripeEvent
from purchases.models import Plan
from tests.server import Server, running_server
from tests.waiting import wait_until
from tests.worker import WorkerProcess, running_worker

REFUNDED = 0.3
# Of one transaction while the records are put there.
CHUNK = 1000
BUY_EVERY = 0.5
END_TIMEOUT = 3600


@dataclass(frozen=True)
class Report:
    records: int
    seconds: int
    missing: int
    doubled: int
    partial: int
    bought_meanwhile: int
    not_at_once: int
    slowest_milliseconds: int
    worker_megabytes: int

    def is_good(self) -> bool:
        return not (self.missing + self.doubled + self.partial + self.not_at_once)


@dataclass
class Shop:
    """Members who buy while the worker is busy, one after the other."""

    plan: Plan
    server: Server
    took: list[float] = field(default_factory=list)
    not_at_once: int = 0

    def keep_buying(self, end: threading.Event) -> None:
        with closing(connection):
            for number in count():
                started = time.perf_counter()
                body = paid_session(self.plan, f"now{number}")
                self.not_at_once += not is_fulfilled(self.server, body)
                self.took.append(time.perf_counter() - started)
                if end.wait(BUY_EVERY):
                    return


def backlog(*, records: int, workers: int, seed: int) -> Report:
    """Store the records before the workers start, and wait until none is left."""
    plan = sell()
    bodies = bodies_of(plan, records)
    for start in range(0, records, CHUNK):
        store_as_failed(bodies[start : start + CHUNK])
    with ExitStack() as running:
        server = running.enter_context(running_server())
        shop, end = Shop(plan, server), threading.Event()
        buyers = threading.Thread(target=shop.keep_buying, args=(end,))
        started = time.monotonic()
        processes = [running.enter_context(running_worker()) for _ in range(workers)]
        buyers.start()
        try:
            wait_until(is_worked_off, timeout=END_TIMEOUT)
        finally:
            seconds = time.monotonic() - started
            end.set()
            buyers.join()
        megabytes = max(map(peak_of, processes))
    doubled, partial = find_damage()
    return Report(
        records=records,
        seconds=round(seconds),
        missing=count_missing(bodies),
        doubled=len(doubled),
        partial=len(partial | find_idle()),
        bought_meanwhile=len(shop.took),
        not_at_once=shop.not_at_once,
        slowest_milliseconds=round(max(shop.took) * 1000),
        worker_megabytes=megabytes,
    )


def bodies_of(plan: Plan, records: int) -> list[bytes]:
    """Paid sessions, and the refunds of some of them."""
    refunds = round(REFUNDED * records)
    paid = [paid_session(plan, number) for number in range(records - refunds)]
    return [*paid, *map(refund_of, paid[:refunds])]


def is_worked_off() -> bool:
    time.sleep(0.2)
    return not StripeEvent.objects.filter(status="failed").exists()


def peak_of(worker: WorkerProcess) -> int:
    """The most memory that the process has had, in MB."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) // 1024


def main() -> int:
    parser = argparse.ArgumentParser(description="Work off what is due all at once.")
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1)
    return command_line.run(backlog, parser)


if __name__ == "__main__":
    sys.exit(main())
