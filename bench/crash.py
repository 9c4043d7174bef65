"""Kill the server again and again while events are posted, and count what got lost.

    python -m bench.crash --events 2000
    python -m tests.postgres python -m bench.crash

An event that got no answer is posted again, as Stripe does it; one that was answered 200 is not.
"""

import argparse
import http.client
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue

from django.db import connection
from django.db.models import Count, Q
from django.utils import timezone

from fulfillment.models import Checkout, StripeEvent
from purchases import catalog
from purchases.models import Offer, Plan, Product, Purchase
from tenants.models import Member, PaymentAccount, Tenant
from tests.conftest import ACCOUNT_ID, TENANT_ID, changed, sign, stripe_event
from tests.server import Server, post, running_server

POSTING_THREADS = 8
# How long after the answer that calls for it the kill may come: about the time of one request.
LONGEST_AIM = 0.03
# What one session leaves behind: purchase, entitlements, purchase events, records, and its
# checkout closed.
WHOLE = (1, 2, 3, 1, 1)


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
                damage.append(find_damage())
                server.start()
        next_fulfilled = is_fulfilled(server, paid_session(plan, events))
    damage.append(find_damage())
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


# --- what is bought


def sell() -> Plan:
    """A tenant with an account and a plan of two products, at the price in the sample events."""
    tenant = Tenant.objects.create(id=TENANT_ID, slug="crash", name="Crash Test Weekly")
    PaymentAccount.objects.create(tenant=tenant, stripe_account_id=ACCOUNT_ID, livemode=False)
    offer = Offer.objects.create(tenant=tenant, slug="membership", name="Membership")
    plan = Plan.objects.create(
        offer=offer, name="Monthly", amount=25000, currency="eur", duration="P1M"
    )
    for slug in ("archive", "newsletter"):
        plan.products.add(Product.objects.create(tenant=tenant, slug=slug, name=slug.title()))
    return plan


def paid_session(plan: Plan, number: int) -> bytes:
    """Open a checkout for a new member and return the event that says it is paid."""
    session_id = f"cs_test_crash{number}"
    Checkout.objects.create(
        tenant=plan.offer.tenant,
        plan=plan,
        snapshot=catalog.snapshot_of_plan(plan),
        account_id=ACCOUNT_ID,
        livemode=False,
        stripe_session_id=session_id,
        token_sha256=f"{number:064}",
        expires_at=timezone.now() + timedelta(hours=24),
    )
    event = changed(
        stripe_event("checkout.session.completed.paid"),
        event_id=f"evt_crash{number}",
        id=session_id,
        payment_intent=f"pi_crash{number}",
        customer_details={"email": f"member{number}@example.com", "name": "Jenny Rosen"},
    )
    return json.dumps(event).encode()


# --- posting and killing


class Strike:
    """One kill, due a random moment after a random number of answers."""

    def __init__(self, server: Server, chance: random.Random, answers_per_kill: int) -> None:
        self.has_come = False
        self._server = server
        self._answers_left = chance.randint(1, 2 * answers_per_kill - 1)
        self._aim = chance.uniform(0, LONGEST_AIM)
        self._lock = threading.Lock()

    def count_answer(self) -> None:
        with self._lock:
            self._answers_left -= 1
            is_due = self._answers_left == 0
        if is_due:
            time.sleep(self._aim)
            self._server.kill()
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


def deliver(server: Server, body: bytes) -> int:
    headers = {"Stripe-Signature": sign(body), "Content-Type": "application/json"}
    return post(f"{server.url}/api/webhooks/stripe", body, headers).status


# --- what is left


def count_missing(acknowledged: list[bytes]) -> int:
    """How many events were answered 200 without a record that is done."""
    done = set(StripeEvent.objects.filter(status="done").values_list("id", flat=True))
    return sum(json.loads(body)["id"] not in done for body in acknowledged)


def find_damage() -> tuple[set[str], set[str]]:
    """The sessions that have left something twice, and those that left only a part of it.

    Each query is one statement and so sees one instant, though a commit may still be under way.
    """
    left = {
        session_id: counts
        for session_id, *counts in Purchase.objects.order_by()
        .values_list("checkout_session_id")
        .annotate(
            purchases=Count("id", distinct=True),
            granted=Count("entitlements", distinct=True),
            logged=Count("events", distinct=True),
            records=Count("stripe_events", filter=Q(stripe_events__status="done"), distinct=True),
            closed=Count("checkout", filter=Q(checkout__status="complete"), distinct=True),
        )
    }
    doubled = {key for key, counts in left.items() if any(map(int.__gt__, counts, WHOLE))}
    partial = {key for key, counts in left.items() if any(map(int.__lt__, counts, WHOLE))}
    idle = StripeEvent.objects.filter(~Q(status="done") | Q(purchase=None))
    partial.update(idle.values_list("object_id", flat=True))
    partial.update(Member.objects.filter(purchases=None).values_list("email", flat=True))
    return doubled, partial


def is_fulfilled(server: Server, body: bytes) -> bool:
    is_acknowledged = deliver(server, body) == 200
    session_id = json.loads(body)["data"]["object"]["id"]
    return (
        is_acknowledged
        and Purchase.objects.filter(checkout_session_id=session_id, status="paid").exists()
    )


# --- from the command line


@contextmanager
def fresh_database() -> Iterator[None]:
    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)


def main() -> int:
    parser = argparse.ArgumentParser(description="Count what random SIGKILLs of the server lose.")
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--answers-per-kill", type=int, default=80, help="on average")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))  # noqa: S311
    chosen = parser.parse_args()
    started = time.monotonic()
    with fresh_database():
        report = crash(**vars(chosen))
    counts = ", ".join(f"{name} {value}" for name, value in asdict(report).items())
    took = f"{time.monotonic() - started:.0f} s on {connection.vendor}, seed {chosen.seed}"
    sys.stdout.write(f"{counts} ({took})\n")
    return 0 if report.is_good() else 1


if __name__ == "__main__":
    sys.exit(main())
