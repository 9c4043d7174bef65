"""What is sold and paid in the benchmarks and fault tests, and what all of it should leave behind.

Whatever was done to the server, `find_damage` and `count_missing` say what came of it.
"""

import json
from datetime import timedelta

from django.db.models import Count, Q
from django.utils import timezone

from fulfillment.models import Checkout, StripeEvent
from purchases import catalog
from purchases.models import Offer, Plan, Product, Purchase
from tenants.keys import sha256
from tenants.models import Member, PaymentAccount, Tenant
from tests.conftest import ACCOUNT_ID, TENANT_ID, changed, sign, stripe_event
from tests.sandbox_server import SandboxServer
from tests.server import Server, post

PRICE = 25000
COMPLETED = "checkout.session.completed"
# What one session leaves behind, by the status of its purchase: purchases, entitlements, those
# of them that were revoked, purchase events, records of the payment, and its checkout closed.
WHOLE = {"paid": (1, 2, 0, 3, 1, 1), "refunded": (1, 2, 2, 6, 1, 1)}


def sell(slug: str = "crash") -> Plan:
    """A tenant with an account and a plan of two products, at the price in the sample events."""
    tenant = Tenant.objects.create(id=TENANT_ID, slug=slug, name="Crash Test Weekly")
    PaymentAccount.objects.create(
        tenant=tenant, stripe_account_id=ACCOUNT_ID, livemode=False, charges_enabled=True
    )
    offer = Offer.objects.create(tenant=tenant, slug="membership", name="Membership")
    plan = Plan.objects.create(
        offer=offer, name="Monthly", amount=PRICE, currency="eur", duration="P1M"
    )
    for product in ("archive", "newsletter"):
        plan.products.add(Product.objects.create(tenant=tenant, slug=product, name=product.title()))
    return plan


def open_checkout(plan: Plan, session_id: str) -> Checkout:
    """A checkout of the plan, as if its session had been made at Stripe."""
    return Checkout.objects.create(
        tenant=plan.offer.tenant,
        plan=plan,
        snapshot=catalog.snapshot_of_plan(plan),
        account_id=ACCOUNT_ID,
        livemode=False,
        stripe_session_id=session_id,
        token_sha256=sha256(session_id),
        expires_at=timezone.now() + timedelta(hours=24),
    )


def buy(plan: Plan, sandbox: SandboxServer, *, email: str, method: str = "card") -> dict[str, str]:
    """Open a session at the stand-in for Stripe and pay it; nobody waits for its events."""
    item = {"currency": "eur", "unit_amount": PRICE, "product_data": {"name": "Monthly"}}
    session = sandbox.client.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "line_items": [{"price_data": item, "quantity": 1}],
            "success_url": "https://shop.example/thanks",
            "metadata": {"tenant_id": str(plan.offer.tenant_id)},
        },
        {"stripe_account": ACCOUNT_ID},
    )
    open_checkout(plan, session.id)
    paid: dict[str, str] = sandbox.pay(session.id, method, email=email, wait=False)
    return paid


def paid_session(plan: Plan, name: object) -> bytes:
    """Open a checkout for a new member and return the event that says it is paid."""
    open_checkout(plan, f"cs_test_crash{name}")
    event = changed(
        stripe_event(f"{COMPLETED}.paid"),
        event_id=f"evt_crash{name}",
        id=f"cs_test_crash{name}",
        payment_intent=f"pi_crash{name}",
        customer_details={"email": f"member{name}@example.com", "name": "Jenny Rosen"},
    )
    return json.dumps(event).encode()


def refund_of(paid: bytes) -> bytes:
    """The event that says that the session's payment went back in full."""
    payment = json.loads(paid)["data"]["object"]["payment_intent"]
    event = changed(
        stripe_event("charge.refunded.full"),
        event_id=f"evt_refund_{payment}",
        id=f"ch_{payment}",
        payment_intent=payment,
        amount_refunded=PRICE,
    )
    return json.dumps(event).encode()


def deliver(server: Server, body: bytes) -> int:
    """Post the event as Stripe does; returns the answer's status."""
    headers = {"Stripe-Signature": sign(body), "Content-Type": "application/json"}
    return post(f"{server.url}/api/webhooks/stripe", body, headers).status


def store_as_failed(bodies: list[bytes]) -> None:
    """Keep the events as records that failed once and are due."""
    StripeEvent.objects.bulk_create(
        StripeEvent(
            id=event["id"],
            object_id=event["data"]["object"]["id"],
            type=event["type"],
            payload=body,
            status="failed",
            attempts=1,
            next_attempt_at=timezone.now(),
            channel="webhook",
        )
        for body in bodies
        for event in [json.loads(body)]
    )


# --- what is left


def count_missing(acknowledged: list[bytes]) -> int:
    """How many events were answered 200 without a record that is done."""
    done = set(StripeEvent.objects.filter(status="done").values_list("id", flat=True))
    return sum(json.loads(body)["id"] not in done for body in acknowledged)


def find_damage() -> tuple[set[str], set[str]]:
    """The sessions that have left something twice, and those that left only a part of it.

    Each query is one statement and so sees one instant, though a commit may still be under way.
    """
    paid = Q(stripe_events__status="done", stripe_events__type=COMPLETED)
    left = {
        (session_id, status): counts
        for session_id, status, *counts in Purchase.objects.order_by()
        .values_list("checkout_session_id", "status")
        .annotate(
            purchases=Count("id", distinct=True),
            granted=Count("entitlements", distinct=True),
            revoked=Count(
                "entitlements", filter=Q(entitlements__revoked_at__isnull=False), distinct=True
            ),
            logged=Count("events", distinct=True),
            records=Count("stripe_events", filter=paid, distinct=True),
            closed=Count("checkout", filter=Q(checkout__status="complete"), distinct=True),
        )
    }
    doubled, partial = set(), set()
    for (session_id, status), counts in left.items():
        whole = WHOLE.get(status, ())
        if any(map(int.__gt__, counts, whole)):
            doubled.add(session_id)
        if not whole or any(map(int.__lt__, counts, whole)):
            partial.add(session_id)
    partial.update(Member.objects.filter(purchases=None).values_list("email", flat=True))
    return doubled, partial


def find_idle() -> set[str]:
    """What the events are about whose records led to nothing, or to nothing yet."""
    idle = StripeEvent.objects.filter(~Q(status="done") | Q(type=COMPLETED, purchase=None))
    return set(idle.values_list("object_id", flat=True))


def is_fulfilled(server: Server, body: bytes) -> bool:
    """Whether the event, delivered now, is answered 200 and fulfilled by then."""
    is_acknowledged = deliver(server, body) == 200
    session_id = json.loads(body)["data"]["object"]["id"]
    return (
        is_acknowledged
        and Purchase.objects.filter(checkout_session_id=session_id, status="paid").exists()
    )
