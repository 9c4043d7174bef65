"""Kill the server again and again while events are posted, and count what got lost.

    python -m bench.crash --events 2000
    python -m tests.postgres python -m bench.crash

An event that got no answer is posted again, as Stripe does it; one that was answered 200 is not.
"""

import argparse
import http.client
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

from bench import command_line
from bench.world import (
    count_missing,
    deliver,
    find_damage,
    find_idle,
    is_fulfilled,
    paid_session,
    sell,
)
from tests.server import Server, running_server

POSTING_THREADS = 8
# How long after the answer that calls for it the kill may come: about the time of one request.
LONGEST_AIM = 0.03


@dataclass(frozen=True)
class Report:
    events: int
    kills: int
    acknowledged: int
    missing: int
    doubled: int
    partial: int
    next_fulfilled: bool

    def is_good(self) -> bool:
        broken = self.missing + self.doubled + self.partial
        return broken == 0 and self.acknowledged == self.events and self.next_fulfilled


def crash(*, events: int, answers_per_kill: int, seed: int) -> Report:
    """Post so many events through crashes to a server on the current, migrated database."""
    chance = random.Random(seed)  # noqa: S311
    plan = sell()
    bodies = [paid_session(plan, number) for number in range(events)]
    pending: SimpleQueue[bytes] = SimpleQueue()
    for body in bodies:
        pending.put(body)
    acknowledged: list[bytes] = []
    kills = 0
    damage: list[tuple[set[str], set[str]]] = []
    with running_server() as server:
        while not pending.empty():
            strike = Strike(server, chance, answers_per_kill)
            post_until_down(server, pending, acknowledged, strike)
            if strike.has_come:
                kills += 1
                # Now, not only at the end: a repeated delivery may mend what the crash broke.
                damage += [find_damage(), (set(), find_idle())]
                server.start()
        # A server that starts takes in what the last one had to spool.
        server.restart()
        next_fulfilled = is_fulfilled(server, paid_session(plan, events))
    damage += [find_damage(), (set(), find_idle())]
    doubled, partial = (set.union(*found) for found in zip(*damage, strict=True))
    return Report(
        events=events,
        kills=kills,
        acknowledged=len(acknowledged),
        missing=count_missing(acknowledged),
        doubled=len(doubled),
        partial=len(partial),
        next_fulfilled=next_fulfilled,
    )


# --- posting and killing


class Killable(Protocol):
    """A process, with those that it started."""

    def kill(self) -> None:
        """End it at once."""


class Strike:
    """One kill, due a random moment after a random number of answers."""

    def __init__(self, victim: Killable, chance: random.Random, answers_per_kill: int) -> None:
        self.has_come = False
        self._victim = victim
        self._answers_left = chance.randint(1, 2 * answers_per_kill - 1)
        self._aim = chance.uniform(0, LONGEST_AIM)
        self._lock = threading.Lock()

    def count_answer(self) -> None:
        with self._lock:
            self._answers_left -= 1
            is_due = self._answers_left == 0
        if is_due:
            time.sleep(self._aim)
            self._victim.kill()
            self.has_come = True


def post_until_down(
    server: Server, pending: SimpleQueue[bytes], acknowledged: list[bytes], strike: Strike
) -> None:
    """Post from several threads until nothing is pending or the server is gone."""

    def post_some() -> None:
        for body in taken_from(pending):
            try:
                status = deliver(server, body)
            except (OSError, http.client.HTTPException):
                pending.put(body)
                return
            if status == 200:
                acknowledged.append(body)
                strike.count_answer()
            else:
                pending.put(body)

    with ThreadPoolExecutor(POSTING_THREADS) as threads:
        for ended in [threads.submit(post_some) for _ in range(POSTING_THREADS)]:
            ended.result()


def taken_from(pending: SimpleQueue[bytes]) -> Iterator[bytes]:
    while True:
        try:
            yield pending.get_nowait()
        except Empty:
            return


# --- from the command line


def main() -> int:
    parser = argparse.ArgumentParser(description="Count what random SIGKILLs of the server lose.")
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--answers-per-kill", type=int, default=80, help="on average")
    return command_line.run(crash, parser)


if __name__ == "__main__":
    sys.exit(main())
