"""Everything at once on one database: two servers, two workers, mixed payments, and kills.

    python -m tests.postgres python -m bench.mixed --seconds 300

Buyers pay, by card or bank debit, come back to the page, get refunds and dispute; the stand-in for
Stripe delivers each event to both servers, and some events to none. Meanwhile a server and a
worker are killed every 20 seconds. In the end each purchase is compared with what its story says.
"""

import argparse
import logging
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.utils import timezone

from bench import command_line
from bench.stories import CREDITS, Market, ended_as_told
from bench.world import sell
from fulfillment.handlers import HANDLERS
from fulfillment.models import Checkout, Reconciliation, StripeEvent
from purchases.models import CreditEntry, Plan, Purchase
from tests.conftest import ACCOUNT_ID
from tests.sandbox_server import KEY, SandboxServer, running_sandbox
from tests.server import running_server
from tests.waiting import wait_until
from tests.worker import WorkerProcess, running_worker

BUYERS = 4
KILL_EVERY = 20
# In seconds: a story settles its bank debits itself.
NEVER = 24 * 60 * 60
QUIET_TIMEOUT = 600


@dataclass(frozen=True)
class Report:
    stories: int
    events: int
    kills: int
    found_by_reconciliation: int
    wrong: int
    without_record: int
    unsettled: int
    unbalanced: int
    spool_left: int

    def is_good(self) -> bool:
        return not (
            self.wrong + self.without_record + self.unsettled + self.unbalanced + self.spool_left
        )


def mixed(*, seconds: float, seed: int) -> Report:
    """Trade for so long on the current, migrated database, and compare once all is quiet."""
    chance = random.Random(seed)  # noqa: S311
    plan = sell()
    Plan.objects.update(credits=CREDITS)
    plan.refresh_from_db()
    with ExitStack() as stack:
        sandbox = stack.enter_context(
            running_sandbox(
                accounts=[ACCOUNT_ID], bank_debit_delay=NEVER, retry_gaps=(1, 2, 5, 10, 20)
            )
        )
        settings.STRIPE_API_BASE, settings.STRIPE_SECRET_KEY = sandbox.url, KEY
        spools = [
            Path(stack.enter_context(TemporaryDirectory(prefix="allegro-spool-"))) for _ in range(2)
        ]
        environs = [
            {
                "WEBHOOK_SPOOL_DIR": str(spool),
                "STRIPE_API_BASE": sandbox.url,
                "STRIPE_SECRET_KEY": KEY,
            }
            for spool in spools
        ]
        servers = [
            stack.enter_context(running_server(workers=1, env=environ)) for environ in environs
        ]
        workers = [stack.enter_context(running_worker(environ)) for environ in environs]
        sandbox.set_endpoints(
            *(
                {
                    "url": f"{server.url}/api/webhooks/stripe",
                    "secret": settings.STRIPE_WEBHOOK_SECRET,
                }
                for server in servers
            )
        )
        market = Market(plan, sandbox, servers)
        kills = trade(market, workers, seconds, chance)
        found = come_to_rest(sandbox, spools)
        return compare(market, kills=kills, found=found, spools=spools)


def trade(
    market: Market, workers: list[WorkerProcess], seconds: float, chance: random.Random
) -> int:
    """Let buyers play stories and kill meanwhile; returns how many were killed."""
    is_over = threading.Event()

    def buy(buyer: int) -> None:
        own = random.Random(chance.random())  # noqa: S311
        number = buyer
        while not is_over.wait(own.uniform(0, 0.5)):
            market.play(number, own)
            number += BUYERS
        connections.close_all()

    killed, end = 0, time.monotonic() + seconds
    with ThreadPoolExecutor(BUYERS) as threads:
        buyers = [threads.submit(buy, number) for number in range(BUYERS)]
        try:
            while (left := end - time.monotonic()) > 0:
                market.sandbox.disturb(drop=True)
                time.sleep(min(left, KILL_EVERY / 10))
                market.sandbox.disturb(drop=False)
                time.sleep(max(0, min(end - time.monotonic(), KILL_EVERY * 9 / 10)))
                for victim in (chance.choice(market.servers), chance.choice(workers)):
                    victim.kill()
                    victim.start()
                    killed += 1
                let_time_pass()
        finally:
            is_over.set()
        for ended in buyers:
            ended.result()
    return killed


def let_time_pass() -> None:
    """What the workers would do minutes later is due now."""
    now = timezone.now()
    Reconciliation.objects.update(due_at=now)
    Checkout.objects.filter(status="open", sweep_at=None).update(sweep_at=now)


def come_to_rest(sandbox: SandboxServer, spools: list[Path]) -> int:
    """Wait until nothing is under way; returns how many events reconciliation had to find."""
    wait_until(
        lambda: sandbox.control("idle", timeout=20, wait=False)["idle"], timeout=QUIET_TIMEOUT
    )
    said = StringIO()
    call_command("reconcile", stdout=said)

    def is_quiet() -> bool:
        StripeEvent.objects.filter(status="failed").update(next_attempt_at=timezone.now())
        return not StripeEvent.objects.unsettled().exists() and not left_in(spools)

    wait_until(is_quiet, timeout=QUIET_TIMEOUT)
    return int(said.getvalue().splitlines()[-1].split()[0])


def left_in(spools: list[Path]) -> int:
    return sum(len(list(spool.rglob("*.evt"))) for spool in spools)


# --- what is left


def compare(market: Market, *, kills: int, found: int, spools: list[Path]) -> Report:
    at_stripe = {event["id"] for event in events_at_stripe(market.sandbox)}
    done = StripeEvent.objects.filter(status="done").values_list("id", flat=True)
    return Report(
        stories=len(market.stories),
        events=len(at_stripe),
        kills=kills,
        found_by_reconciliation=found,
        wrong=sum(not ended_as_told(story) for story in market.stories)
        + Purchase.objects.exclude(
            checkout_session_id__in=[story.session_id for story in market.stories]
        ).count(),
        without_record=len(at_stripe - set(done)),
        unsettled=StripeEvent.objects.unsettled().count(),
        unbalanced=count_unbalanced(),
        spool_left=left_in(spools),
    )


def count_unbalanced() -> int:
    """How many lines of the ledger do not continue the one before."""
    balances: dict[object, int] = {}
    wrong = 0
    for entry in CreditEntry.objects.order_by("id"):
        balances[entry.member_id] = balances.get(entry.member_id, 0) + entry.amount
        wrong += entry.balance_after != balances[entry.member_id]
    return wrong


def events_at_stripe(sandbox: SandboxServer) -> list[dict[str, str]]:
    """The events that mean something to us."""
    listed = sandbox.client.v1.events.list({"limit": 100}, {"stripe_account": ACCOUNT_ID})
    return [{"id": event.id} for event in listed.auto_paging_iter() if event.type in HANDLERS]


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare purchases with stories, after kills.")
    parser.add_argument("--seconds", type=float, default=300)
    logging.getLogger("stripe").setLevel(logging.WARNING)
    return command_line.run(mixed, parser)


if __name__ == "__main__":
    sys.exit(main())
