"""Kill the server or the worker in round after round, and count what got lost.

    python -m bench.kills --rounds 60 --deliveries 60
    python -m tests.postgres python -m bench.kills

In each round some events are posted, some wait in the spool and some are records that failed
and are due again, so that the worker has as much to lose as the server.
"""

import argparse
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from django.conf import settings
from django.utils import timezone

from bench import command_line
from bench.crash import Strike, post_until_down
from bench.world import (
    count_missing,
    find_damage,
    find_idle,
    paid_session,
    refund_of,
    sell,
    store_as_failed,
)
from fulfillment import spool
from fulfillment.models import StripeEvent
from purchases.models import Plan
from tests.server import Server, running_server
from tests.waiting import wait_until
from tests.worker import WorkerProcess, running_worker

# Of the deliveries of a round.
REFUNDED, SPOOLED, FAILED = 0.2, 0.15, 0.15
END_TIMEOUT = 600


@dataclass(frozen=True)
class Report:
    rounds: int
    deliveries: int
    acknowledged: int
    missing: int
    doubled: int
    partial: int
    spool_left: int

    def is_good(self) -> bool:
        broken = self.missing + self.doubled + self.partial + self.spool_left
        return broken == 0 and self.acknowledged == self.deliveries


def kills(*, rounds: int, deliveries: int, seed: int) -> Report:
    """Run the rounds on the current, migrated database and let the worker finish."""
    chance = random.Random(seed)  # noqa: S311
    plan = sell()
    acknowledged: list[bytes] = []
    doubled, partial = set(), set()
    with spool_folder(), running_server() as server, running_worker() as worker:
        for number in range(rounds):
            bodies = bodies_of_round(plan, number, deliveries)
            acknowledged += play(bodies, server, worker, chance)
            found = find_damage()
            doubled |= found[0]
            partial |= found[1]
        quiet = Quiet(acknowledged)
        wait_until(quiet, timeout=END_TIMEOUT)
        left = spool.measure().files
    found = find_damage()
    return Report(
        rounds=rounds,
        deliveries=rounds * deliveries,
        acknowledged=len(acknowledged),
        missing=count_missing(acknowledged),
        doubled=len(doubled | found[0]),
        partial=len(partial | found[1] | find_idle()),
        spool_left=left,
    )


def bodies_of_round(plan: Plan, number: int, count: int) -> list[bytes]:
    """Paid sessions, and the refunds of some of them."""
    refunds = round(REFUNDED * count)
    paid = [paid_session(plan, f"{number}x{index}") for index in range(count - refunds)]
    return [*paid, *map(refund_of, paid[:refunds])]


def play(
    bodies: list[bytes], server: Server, worker: WorkerProcess, chance: random.Random
) -> list[bytes]:
    """Hand in the events while one process, or both, are killed; returns the acknowledged."""
    chance.shuffle(bodies)
    spooled, failed = round(SPOOLED * len(bodies)), round(FAILED * len(bodies))
    acknowledged = bodies[: spooled + failed]
    for body in bodies[:spooled]:
        spool.store(body)
    store_as_failed(bodies[spooled : spooled + failed])
    pending: SimpleQueue[bytes] = SimpleQueue()
    for body in bodies[spooled + failed :]:
        pending.put(body)
    victims: list[Server | WorkerProcess] = chance.choice([[server], [worker], [server, worker]])
    strike = Strike(Together(victims), chance, pending.qsize() // 2)
    post_until_down(server, pending, acknowledged, strike)
    for victim in victims:
        victim.kill()
        victim.start()
    # Nobody is killed any more in this round: what got no answer is posted again.
    post_until_down(server, pending, acknowledged, Strike(Together([]), chance, len(bodies)))
    return acknowledged


class Together:
    """Several processes that are killed as one."""

    def __init__(self, victims: list[Server | WorkerProcess]) -> None:
        self._victims = victims

    def kill(self) -> None:
        for victim in self._victims:
            victim.kill()


class Quiet:
    """Whether the worker has worked everything off."""

    def __init__(self, acknowledged: list[bytes]) -> None:
        self._acknowledged = acknowledged

    def __call__(self) -> bool:
        # What was retried while its worker was killed waits for its next turn otherwise.
        StripeEvent.objects.filter(status="failed").update(next_attempt_at=timezone.now())
        return not spool.measure().files and count_missing(self._acknowledged) == 0


@contextmanager
def spool_folder() -> Iterator[Path]:
    """A spool of its own for this process and those that it starts."""
    before = settings.WEBHOOK_SPOOL_DIR
    with TemporaryDirectory(prefix="allegro-spool-") as folder:
        settings.WEBHOOK_SPOOL_DIR = os.environ["WEBHOOK_SPOOL_DIR"] = folder
        yield Path(folder)
    settings.WEBHOOK_SPOOL_DIR = os.environ["WEBHOOK_SPOOL_DIR"] = before


def main() -> int:
    parser = argparse.ArgumentParser(description="Count what SIGKILLs of server and worker lose.")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--deliveries", type=int, default=60, help="of each round")
    return command_line.run(kills, parser)


if __name__ == "__main__":
    sys.exit(main())
