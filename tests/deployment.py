"""A server and a worker for faults to be injected into, and the verdict after each."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from django.conf import settings
from django.core.management import call_command
from django.db import connection

from bench.world import (
    buy,
    count_missing,
    find_damage,
    find_idle,
    is_fulfilled,
    paid_session,
    sell,
)
from fulfillment.models import StripeEvent
from tests.conftest import ACCOUNT_ID, sign
from tests.faults import clerk
from tests.sandbox_server import KEY, running_sandbox
from tests.server import post, running_server
from tests.waiting import wait_until
from tests.worker import running_worker

MODES = ["always_200", "store_or_503", "strict"]
# What Stripe Checkout waits for an answer is 10 s; we promise half of it.
# And what a machine that is busy with other tests may add: SQLite waits in many short sleeps.
PROMISED_SECONDS, BUSY_SECONDS = 5, 3
# On a machine with other work; usually it is a second or two.
RECOVERY_TIMEOUT = 120
NEW_SECRET = "whsec_test_second000000000000000000"


class Deployment:
    """What is sold, delivered and acknowledged; `verify` says whether it is all there."""

    def __init__(self, env, *, plan, server, worker, sandbox, role):
        self.plan, self.server, self.worker, self.sandbox = plan, server, worker, sandbox
        self.env, self.clerk = env, role
        self.mode = env["STRIPE_WEBHOOK_RESPONSES"]
        self.spool = Path(env["WEBHOOK_SPOOL_DIR"])
        self.acknowledged = []
        self._sold = 0

    def sell(self, count):
        """The events of as many paid sessions."""
        first, self._sold = self._sold, self._sold + count
        return [paid_session(self.plan, number) for number in range(first, self._sold)]

    def sell_at_stripe(self, count):
        """The events of as many sessions as Stripe has them, none of them delivered."""
        known = {event["id"] for event in self._events_at_stripe()}
        for _ in range(count):
            self._sold += 1
            buy(self.plan, self.sandbox, email=f"buyer{self._sold}@example.com")
        return [
            json.dumps(event).encode()
            for event in self._events_at_stripe()
            if event["id"] not in known and event["type"] == "checkout.session.completed"
        ]

    def deliver(self, bodies, *, threads=4, **signing):
        """Post the events side by side; returns the answers."""

        def deliver(body):
            started = time.monotonic()
            answer = self.post(body, **signing)
            return answer, time.monotonic() - started

        with ThreadPoolExecutor(threads) as pool:
            answered = list(pool.map(deliver, bodies))
        assert max(seconds for _, seconds in answered) < PROMISED_SECONDS + BUSY_SECONDS
        self.acknowledged += [
            body for body, (answer, _) in zip(bodies, answered, strict=True) if answer.status == 200
        ]
        return [answer for answer, _ in answered]

    def post(self, body, *, signature=None, **signing):
        headers = {"Stripe-Signature": signature or sign(body, **signing)}
        return post(f"{self.server.url}/api/webhooks/stripe", body, headers)

    def spooled(self):
        return [path.name for path in self.spool.rglob("*.evt")]

    def is_quiet(self):
        is_at_rest = not (self.spooled() or StripeEvent.objects.unsettled().exists())
        return is_at_rest and count_missing(self.acknowledged) == 0

    def verify(self):
        """Nothing acknowledged is missing, doubled or partial, and the next is fulfilled."""
        wait_until(self.is_quiet, timeout=RECOVERY_TIMEOUT)
        assert (*find_damage(), find_idle()) == (set(), set(), set())
        (body,) = self.sell(1)
        assert is_fulfilled(self.server, body)

    def _events_at_stripe(self):
        events, has_more, after = [], True, ""
        while has_more:
            headers = {"Authorization": f"Bearer {KEY}", "Stripe-Account": ACCOUNT_ID}
            _, _, text = self.sandbox.request("GET", f"/v1/events?limit=100{after}", **headers)
            page = json.loads(text)
            events += [{**event, "account": ACCOUNT_ID} for event in page["data"]]
            has_more = page["has_more"]
            after = f"&starting_after={events[-1]['id']}" if events else ""
        return events


@contextmanager
def deployed(mode):
    """A server and a worker on the test database, which is emptied again in the end."""
    with ExitStack() as stack:
        stack.callback(call_command, "flush", verbosity=0, interactive=False)
        spool = stack.enter_context(TemporaryDirectory(prefix="allegro-spool-"))
        sandbox = stack.enter_context(running_sandbox(accounts=[ACCOUNT_ID]))
        env = {
            "WEBHOOK_SPOOL_DIR": spool,
            "STRIPE_WEBHOOK_RESPONSES": mode,
            "STRIPE_WEBHOOK_SECRET": f"{settings.STRIPE_WEBHOOK_SECRET},{NEW_SECRET}",
            "STRIPE_API_BASE": sandbox.url,
            "STRIPE_SECRET_KEY": KEY,
        }
        role = None
        if connection.vendor == "postgresql":
            role = stack.enter_context(clerk())
            env["DATABASE_URL"] = role.url
        plan = sell()
        server = stack.enter_context(running_server(env=env))
        worker = stack.enter_context(running_worker(env))
        yield Deployment(env, plan=plan, server=server, worker=worker, sandbox=sandbox, role=role)
