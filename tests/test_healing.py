"""What went wrong between Stripe and us, and how it comes right by itself or by a command."""

import http.client
import json
import os
import re
import signal
import time
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from bench.world import count_missing, is_fulfilled, refund_of, store_as_failed
from fulfillment.models import Checkout, Reconciliation, StripeEvent
from purchases.models import Purchase
from tests import faults
from tests.conftest import sign
from tests.deployment import NEW_SECRET, RECOVERY_TIMEOUT
from tests.server import request
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("transactional_db")


@pytest.fixture
def transactional_db(deployment):
    """In place of pytest-django's, which would empty the database under the running worker."""


def test_one_reconciliation_finds_what_was_never_delivered(deployment):
    bodies = deployment.sell_at_stripe(120)
    deployment.deliver(bodies[100:])

    first, second = StringIO(), StringIO()
    call_command("reconcile", stdout=first)
    deployment.verify()
    call_command("reconcile", stdout=second)

    assert count_missing(bodies) == 0
    assert "\n0 of " in second.getvalue()
    assert "\n0 of " not in first.getvalue()


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_clock_that_is_off_costs_no_event(deployment, minutes):
    bodies = deployment.sell_at_stripe(2)

    deployment.deliver(bodies, timestamp=int(time.time()) + 60 * minutes)

    assert count_missing(bodies) == 2
    call_command("reconcile", stdout=StringIO())
    deployment.verify()


def test_while_a_secret_is_replaced_both_are_good(deployment):
    old, new, both = deployment.sell(3)

    deployment.deliver([old])
    deployment.deliver([new], secret=NEW_SECRET)
    deployment.deliver(
        [both], signature=f"{sign(both)},{sign(both, secret=NEW_SECRET).split(',')[1]}"
    )

    assert count_missing([old, new, both]) == 0
    deployment.verify()


def test_a_poison_event_holds_up_no_other_and_is_kept(deployment):
    refused, failing, *good = deployment.sell(6)
    event_id, session_id = json.loads(refused)["id"], json.loads(failing)["data"]["object"]["id"]
    with (
        faults.refusing("fulfillment_stripeevent", "id", event_id),
        faults.refusing("purchases_purchase", "checkout_session_id", session_id),
    ):
        deployment.deliver([refused, failing, *good])
        record = StripeEvent.objects.get(pk=json.loads(failing)["id"])
        assert (record.status, record.outcome) == ("failed", "IntegrityError")
        wait_until(lambda: list(deployment.spool.glob("bad/*.evt")), timeout=RECOVERY_TIMEOUT)
        wait_until(lambda: attempts_at(record) >= 2, timeout=RECOVERY_TIMEOUT)
        assert count_missing(good) == 0

    for file in deployment.spool.glob("bad/*.evt"):
        file.rename(deployment.spool / file.name)
    StripeEvent.objects.filter(pk=record.pk).update(next_attempt_at=timezone.now())
    deployment.verify()


def attempts_at(record):
    return StripeEvent.objects.values_list("attempts", flat=True).get(pk=record.pk)


def test_while_many_records_are_worked_off_what_is_delivered_is_fulfilled(deployment):
    sold, bought_meanwhile = deployment.sell(2)
    deployment.deliver([sold])
    refund = json.loads(refund_of(sold))
    bodies = [json.dumps({**refund, "id": f"evt_due_{number}"}).encode() for number in range(150)]

    store_as_failed(bodies)
    deployment.acknowledged += [*bodies, bought_meanwhile]
    waiting = StripeEvent.objects.filter(status="failed")
    wait_until(lambda: waiting.count() < len(bodies))

    assert is_fulfilled(deployment.server, bought_meanwhile)
    assert waiting.exists()
    deployment.verify()
    (peak,) = re.findall(
        r"VmHWM:\s+(\d+) kB", Path(f"/proc/{deployment.worker.pid}/status").read_text()
    )
    assert int(peak) < 200 * 1024


def test_what_is_under_way_is_answered_before_the_server_ends(deployment):
    bodies = deployment.sell(4)
    with faults.inbox_locked(deployment):
        clients = [posted(deployment.server, body) for body in bodies]
        # Connections are taken in turn: once this is answered, those before it are under way.
        request("GET", f"{deployment.server.url}/.well-known/openid-configuration")
        os.kill(deployment.server.pid, signal.SIGTERM)
        statuses = [client.getresponse().status for client in clients]
    for client in clients:
        client.close()
    deployment.server.restart()

    assert statuses == [200] * 4
    deployment.acknowledged += bodies
    deployment.verify()


def posted(server, body):
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    client.request("POST", "/api/webhooks/stripe", body, {"Stripe-Signature": sign(body)})
    return client


@pytest.mark.parametrize("kind", ["429", "500", "garbage", "slow"])
def test_while_stripe_fails_its_deliveries_are_fulfilled(deployment, kind):
    bodies = deployment.sell_at_stripe(1)
    deployment.sandbox.fault(kind, seconds=7)

    # Of one account: with a slow Stripe each costs the whole of the gateway's patience.
    with pytest.raises(CommandError, match="could not be asked"):
        call_command("reconcile", tenant="crash", stdout=StringIO(), stderr=StringIO())
    deployment.verify()

    assert count_missing(bodies) == 1
    deployment.sandbox.fault("none")
    call_command("reconcile", stdout=StringIO())
    assert count_missing(bodies) == 0


def test_a_worker_says_that_stripe_fails_and_goes_on_once_it_does_not(deployment):
    (body,) = deployment.sell_at_stripe(1)
    deployment.sandbox.fault("500")
    ask_again(deployment)
    wait_until(Reconciliation.objects.exclude(error="").exists, timeout=RECOVERY_TIMEOUT)
    assert count_missing([body]) == 1

    deployment.sandbox.fault("none")
    ask_again(deployment)

    wait_until(lambda: status_of(body) == "paid", timeout=RECOVERY_TIMEOUT)
    wait_until(
        lambda: not Reconciliation.objects.exclude(error="").exists(), timeout=RECOVERY_TIMEOUT
    )
    assert Purchase.objects.latest("fulfilled_at").fulfilled_by == "sweep"


def ask_again(deployment):
    """Let the worker sweep and reconcile now; both are due when it starts."""
    deployment.worker.kill()
    Reconciliation.objects.update(due_at=timezone.now(), leased_until=None)
    Checkout.objects.filter(purchase=None).update(sweep_at=timezone.now())
    deployment.worker.start()


def status_of(body):
    session_id = json.loads(body)["data"]["object"]["id"]
    purchases = Purchase.objects.filter(checkout_session_id=session_id)
    return purchases.values_list("status", flat=True).first()
