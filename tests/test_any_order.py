"""The same facts end in the same state: any order, any repetition, and a failure on the way."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Sum
from hypothesis import HealthCheck, Phase, event, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fulfillment.models import StripeEvent
from purchases import ledger
from purchases.models import CreditEntry, Entitlement, Purchase
from tests.conftest import TOKEN, VERIFIER, changed, stripe_event
from tests.stripe_stand_in import stripe_stand_in

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
PAID = stripe_event("checkout.session.completed.paid")
SESSION = PAID["data"]["object"]["id"]
PAYMENT = PAID["data"]["object"]["payment_intent"]
CHARGE = stripe_event("charge.succeeded")
REFUND = stripe_event("refund.created")
DISPUTE = stripe_event("charge.dispute.created")


def session(kind, payment_status="unpaid"):
    news = changed(PAID, payment_status=payment_status)
    news["type"] = f"checkout.session.{kind}"
    return news


def refund(number, amount, status="succeeded", payment=PAYMENT):
    return changed(REFUND, id=f"re_{number}", amount=amount, status=status, payment_intent=payment)


def dispute(number, status, second):
    news = changed(DISPUTE, id=f"du_{number}", status=status)
    news["created"] += second
    return news


FACTS = {
    "unpaid": session("completed"),
    "paid": session("completed", "paid"),
    "paid later": session("async_payment_succeeded", "paid"),
    "payment failed": session("async_payment_failed"),
    "expired": session("expired"),
    "charged": CHARGE,
    "declined": changed(CHARGE, id="ch_declined", status="failed", failure_code="card_declined"),
    "refund 1": refund(1, 5000),
    "refund 1 failed": refund(1, 5000, "failed"),
    "refund 2 pending": refund(2, 7500, "pending"),
    "refund 2": refund(2, 7500),
    "refund 2 canceled": refund(2, 7500, "canceled"),
    "refund 3": refund(3, 12500),
    "refunded 20 %": changed(CHARGE, amount_refunded=5000),
    "refunded 50 %": changed(CHARGE, amount_refunded=12500),
    "refunded 100 %": changed(CHARGE, amount_refunded=25000),
    "disputed": dispute(1, "needs_response", 0),
    "under review": dispute(1, "under_review", 1),
    "won": dispute(1, "won", 9),
    "lost": dispute(2, "lost", 9),
    "inquiry": dispute(3, "warning_needs_response", 0),
    "inquiry escalated": dispute(3, "needs_response", 0),
    "inquiry closed": dispute(3, "warning_closed", 5),
    "earlier refunded": refund(0, 25000, payment="pi_earlier"),
}
# What belongs together is drawn together: most orders of strangers make no difference.
STORIES = [
    ["unpaid", "paid later", "payment failed", "expired"],
    ["charged", "declined", "refunded 20 %", "refunded 50 %"],
    ["charged", "refunded 100 %", "refund 1", "refund 2", "refund 3"],
    ["refund 1", "refund 1 failed", "earlier refunded"],
    ["refund 2 pending", "refund 2", "refund 2 canceled"],
    ["disputed", "under review", "won"],
    ["disputed", "won", "lost"],
    ["inquiry", "inquiry escalated", "inquiry closed"],
]
RETURN, REPLAY = "return to the page", "replay"
# What Stripe says of the session to whoever asks, while no webhook has said it yet.
AT_STRIPE = {
    "open": {"status": "open"},
    "unpaid": {"payment_status": "unpaid"},
    "paid": {},
    "failed": {
        "payment_intent": {"id": PAYMENT, "status": "requires_payment_method"},
        "payment_status": "unpaid",
    },
    "expired": {"status": "expired", "payment_status": "unpaid"},
}
TABLES = [
    f"purchases_{name}"
    for name in (
        "purchase", "entitlement", "creditentry", "purchaseevent", "charge", "refund", "dispute",
    )
]  # fmt: skip


@st.composite
def histories(draw):
    """A set of facts, what Stripe says if asked, and one way in which we may hear of it all."""
    stories = draw(st.sets(st.integers(0, len(STORIES) - 1), min_size=1, max_size=3))
    untold = draw(st.sets(st.sampled_from(sorted(FACTS)), max_size=3))
    facts = {"paid", *(fact for story in stories for fact in STORIES[story])} - untold
    steps = [RETURN, REPLAY] if draw(st.booleans()) else []
    at_stripe = draw(st.sampled_from(["open", "unpaid", "paid"]))
    deliveries = [
        (name, copy if draw(st.booleans()) else 0)
        for name in sorted(facts)
        for copy in range(draw(st.integers(1, 2)))
    ]
    order = draw(st.permutations([*deliveries, *((step, 0) for step in steps)]))
    broken = draw(st.none() | st.tuples(st.integers(0, len(order) - 1), st.sampled_from(TABLES)))
    return facts, order, broken, said_by_stripe(facts, at_stripe)


def said_by_stripe(facts, otherwise):
    """Stripe does not contradict its own webhooks."""
    if facts & {"paid", "paid later"}:
        return "paid"
    if "payment failed" in facts:
        return "failed"
    return "expired" if "expired" in facts else otherwise


class World:
    """Where a history happens, in a transaction that is undone."""

    def __init__(self, deliver, returns, at_stripe):
        self._deliver, self._returns, self._at_stripe = deliver, returns, at_stripe

    def after(self, order, at_stripe, broken=None):
        """The state once the steps were taken, one of them with a table that takes no rows."""
        self._at_stripe.add(PAID, **AT_STRIPE[at_stripe])
        with transaction.atomic(), time_machine.travel(NOW, tick=False):
            for number, (name, copy) in enumerate(order):
                with taking_no_rows(broken[1] if broken and broken[0] == number else None):
                    self._take(name, copy)
            self._take(REPLAY)
            if (RETURN, 0) in order:
                self._take(RETURN)
            state = state_now()
            transaction.set_rollback(True)
        return state

    def _take(self, name, copy=0):
        if name == RETURN:
            self._returns()
        elif name == REPLAY:
            call_command("process_events")
        else:
            self._deliver(changed(FACTS[name], event_id=f"evt_{name.replace(' ', '_')}_{copy}"))


@contextmanager
def taking_no_rows(table):
    with connection.cursor() as cursor:
        if table:
            cursor.execute("INSERT INTO taking_no_rows VALUES (%s)", [table])
        yield
        if table:
            cursor.execute("DELETE FROM taking_no_rows")


@pytest.fixture
def fragile_tables(db):
    """Let the tables named in `taking_no_rows` refuse every new row."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE taking_no_rows (name text)")
        if connection.vendor == "postgresql":
            cursor.execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "IF EXISTS (SELECT 1 FROM taking_no_rows WHERE name = TG_TABLE_NAME) THEN "
                "RAISE EXCEPTION 'no rows now' USING ERRCODE = 'check_violation'; END IF; "
                "RETURN NEW; END $$"
            )
        for table in TABLES:
            refusal = (
                "FOR EACH ROW EXECUTE FUNCTION refuse()"
                if connection.vendor == "postgresql"
                else f"WHEN EXISTS (SELECT 1 FROM taking_no_rows WHERE name = '{table}') "
                "BEGIN SELECT RAISE(ABORT, 'no rows now'); END"
            )
            cursor.execute(f"CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table} {refusal}")


@pytest.fixture
def world(fragile_tables, plan, open_checkout, deliver, client, publishable_key, settings):
    """A member who bought the plan ten days ago, and is about to buy it again."""
    plan.credits = 10
    plan.save()
    client.raise_request_exception = False
    lasts = {"expires_at": NOW + timedelta(hours=24)}
    open_checkout("cs_test_earlier", **lasts)
    open_checkout(SESSION, token=TOKEN, **lasts)
    with time_machine.travel(NOW - timedelta(days=10), tick=False):
        deliver(
            changed(PAID, event_id="evt_earlier", id="cs_test_earlier", payment_intent="pi_earlier")
        )

    def returns():
        client.post(
            "/api/purchases/exchange",
            {"token": TOKEN, "verifier": VERIFIER},
            content_type="application/json",
            headers={"Authorization": f"Bearer {publishable_key}"},
        )

    with stripe_stand_in() as at_stripe:
        settings.STRIPE_API_BASE = at_stripe.url
        yield World(deliver, returns, at_stripe)


def state_now():
    """What there is in the end, but for ids, the log's order and who told us first."""
    member = Purchase.objects.get(checkout_session_id="cs_test_earlier").member
    balance = ledger.balance_of(member.tenant, member)
    assert balance == CreditEntry.objects.aggregate(sum=Sum("amount"))["sum"]
    assert not StripeEvent.objects.filter(status__in=StripeEvent.UNSETTLED).exists()
    purchases = Purchase.objects.order_by("checkout_session_id").values_list(
        "checkout_session_id", "status", "payment_status", "refunded_amount", "charge_id"
    )
    return {"purchases": list(purchases), "access": access_now(), "credits": balance}


def access_now():
    rows = Entitlement.objects.order_by("purchase__checkout_session_id", "product__slug")
    return [
        (
            row.product.slug,
            row.purchase.checkout_session_id,
            row.starts_at,
            row.ends_at,
            row.suspended_at is not None,
            row.revoked_at is not None,
        )
        for row in rows.select_related("product", "purchase")
    ]


# No shrinking: it would take minutes. Where CI is set, the examples are the same each time.
@hypothesis_settings(
    max_examples=30,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories())
def test_the_end_depends_on_the_facts_alone(world, history):
    facts, order, broken, at_stripe = history
    in_order = [(name, 0) for name in FACTS if name in facts]
    if (RETURN, 0) in order:
        in_order.append((RETURN, 0))

    state = world.after(order, at_stripe, broken)

    event(str([status for _, status, *_ in state["purchases"]]))
    assert state == world.after(in_order, at_stripe)
