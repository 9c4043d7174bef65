"""Stripe's official CLI drives the product: `listen` carries the events, `trigger` causes them."""

import json

import pytest

from fulfillment.models import StripeEvent
from purchases.models import Entitlement, Purchase
from tests.cli.stripe_cli import documented
from tests.conftest import ACCOUNT_ID, TENANT_ID
from tests.server import post
from tests.waiting import wait_until

COMPLETED = "checkout.session.completed"
BARE_TRIGGER = ["trigger", COMPLETED]


@pytest.fixture
def listen(webhook):
    """The documented `stripe listen`, forwarding to the product."""
    return documented("stripe listen", {"http://localhost:8000/api/webhooks/stripe": webhook})


@pytest.fixture
def trigger(plan):
    """The documented `stripe trigger`, for the plan; its session has two of one item."""
    replacements = {
        "acct_…": ACCOUNT_ID,
        "TENANT_ID": TENANT_ID,
        "PLAN_ID": str(plan.id),
        "unit_amount=600": f"unit_amount={plan.amount // 2}",
        "expected_amount=1200": f"expected_amount={plan.amount}",
    }
    return documented("stripe trigger checkout.session.completed --stripe-account", replacements)


@pytest.fixture
def session_id(server, sandbox, plan, publishable_key):
    """A checkout of our own, opened as a browser does and waiting for its buyer."""
    headers = {"Authorization": f"Bearer {publishable_key}", "Content-Type": "application/json"}
    answer = post(
        f"{server.url}/api/checkout/sessions", json.dumps({"plan": str(plan.id)}), headers
    )
    assert answer.status == 201, answer.body
    return json.loads(answer.body)["url"].removeprefix(f"{sandbox.url}/c/pay/")


def record(account_id):
    """The settled record of a completed checkout on the account, once it is there."""
    found = StripeEvent.objects.filter(
        type=COMPLETED, account_id=account_id, settled_at__isnull=False
    )
    return wait_until(found.first)


def outcome(account_id):
    settled = record(account_id)
    return str(settled.status), settled.outcome


def forwarded_to(sandbox, account_id):
    """Where the completed checkout of an account was sent, and what was answered."""
    attempts = wait_until(lambda: sandbox.attempts(record(account_id).id))
    return [(attempt["url"], attempt["status"]) for attempt in attempts]


def granted():
    return sorted(Entitlement.objects.active().values_list("product__slug", flat=True))


def test_the_secret_is_the_same_each_time(stripe_cli, webhook, listen):
    with stripe_cli.listening(*listen) as first:
        pass

    with stripe_cli.listening(*listen) as second:
        assert second == first


def test_a_bare_trigger_is_not_ours_and_the_log_says_how_to_send_a_real_one(
    stripe_cli, server, listen
):
    with stripe_cli.listening(*listen):
        stripe_cli.run(*BARE_TRIGGER)

        assert outcome("") == ("ignored", "not_ours")

    assert not Purchase.objects.exists()
    line = wait_until(lambda: next((at for at in server.log().splitlines() if "not_ours" in at), 0))
    assert "manage.py simulate checkout" in line
    assert "docs/developing.md" in line


def test_the_documented_trigger_is_a_purchase(stripe_cli, listen, trigger, plan):
    with stripe_cli.listening(*listen):
        stripe_cli.run(*trigger)

        assert outcome(ACCOUNT_ID) == ("done", "fulfilled")

    purchase = Purchase.objects.get()
    assert (purchase.plan, purchase.amount_total, purchase.status) == (plan, 25000, "paid")
    assert granted() == ["archive", "newsletter"]


def test_a_checkout_of_our_own_is_fulfilled_through_the_cli_alone(
    stripe_cli, sandbox, listen, session_id
):
    with stripe_cli.listening(*listen):
        sandbox.pay(session_id, email="buyer@example.com")

        assert outcome(ACCOUNT_ID) == ("done", "fulfilled")

    purchase = Purchase.objects.get()
    assert (purchase.checkout_session_id, purchase.fulfilled_by) == (session_id, "webhook")
    assert granted() == ["archive", "newsletter"]


@pytest.mark.parametrize("suffix", ["", "/"], ids=["one address", "two addresses"])
def test_forward_connect_to_takes_the_accounts_events(
    suffix, stripe_cli, sandbox, webhook, listen, trigger
):
    with stripe_cli.listening(*listen, "--forward-connect-to", webhook + suffix):
        stripe_cli.run(*BARE_TRIGGER)
        stripe_cli.run(*trigger)

        assert forwarded_to(sandbox, "") == [(webhook, 200)]
        assert forwarded_to(sandbox, ACCOUNT_ID) == [(webhook + suffix, 200)]

    assert outcome("") == ("ignored", "not_ours")
    assert outcome(ACCOUNT_ID) == ("done", "fulfilled")


def test_what_was_not_delivered_is_sent_again(stripe_cli, server, sandbox, listen, session_id):
    with stripe_cli.listening(*listen):
        server.stop()
        sandbox.pay(session_id)
        wait_until(lambda: "connection refused" in stripe_cli.output())
        server.start()
        events = sandbox.client.v1.events.list({"type": COMPLETED}, {"stripe_account": ACCOUNT_ID})

        stripe_cli.run("events", "resend", events.data[0].id, "--account", ACCOUNT_ID)

        assert outcome(ACCOUNT_ID) == ("done", "fulfilled")

    assert Purchase.objects.get().checkout_session_id == session_id
