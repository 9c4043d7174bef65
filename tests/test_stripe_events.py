"""Every event that Stripe really sends, and what each of them leaves behind."""

import uuid
from datetime import UTC, datetime

import pytest

from fulfillment.models import Checkout
from purchases.models import Entitlement, Plan, Purchase
from tests.conftest import ACCOUNT_ID, EVENTS, TENANT_ID, changed, stripe_event

NOTHING = (None, 0)
UNHANDLED = ("ignored", "unhandled_type", *NOTHING)
CHARGE = ("done", "charge_recorded", *NOTHING)
REFUND = ("done", "refund_recorded", *NOTHING)
DISPUTE = ("done", "dispute_recorded", *NOTHING)
# File -> status and outcome of the record, status of the purchase, number of entitlements.
OUTCOMES = {
    "account.application.authorized": ("done", "account_authorized", *NOTHING),
    "account.application.deauthorized": ("done", "account_disconnected", *NOTHING),
    "account.updated": ("done", "account_updated", *NOTHING),
    "account.updated.enabled": ("done", "account_updated", *NOTHING),
    "capability.updated": UNHANDLED,
    "charge.dispute.closed.lost": DISPUTE,
    "charge.dispute.closed.won": DISPUTE,
    "charge.dispute.created": DISPUTE,
    "charge.dispute.created.inquiry": DISPUTE,
    "charge.dispute.funds_reinstated": DISPUTE,
    "charge.dispute.funds_withdrawn": DISPUTE,
    "charge.failed": CHARGE,
    "charge.refund.updated.failed": REFUND,
    "charge.refunded.full": CHARGE,
    "charge.refunded.partial": CHARGE,
    "charge.refunded.partial_second": CHARGE,
    "charge.succeeded": CHARGE,
    "checkout.session.async_payment_failed": ("done", "payment_failed", "failed", 0),
    "checkout.session.async_payment_succeeded": ("done", "fulfilled", "paid", 2),
    "checkout.session.completed.no_cost_paid": ("done", "fulfilled", "paid", 2),
    "checkout.session.completed.no_payment_required": ("held", "amount_mismatch", *NOTHING),
    "checkout.session.completed.paid": ("done", "fulfilled", "paid", 2),
    "checkout.session.completed.setup_mode": ("ignored", "not_a_payment", *NOTHING),
    "checkout.session.completed.stripe_trigger": ("ignored", "not_ours", *NOTHING),
    "checkout.session.completed.unpaid": ("done", "pending", "pending", 0),
    "checkout.session.completed.unpaid_then_fails": ("done", "pending", "pending", 0),
    "checkout.session.expired": ("done", "expired", *NOTHING),
    "payment_intent.succeeded": UNHANDLED,
    "refund.created": REFUND,
    "refund.failed": REFUND,
    "refund.updated": REFUND,
}
OF_SESSIONS_WITH_METADATA = [
    name
    for name in OUTCOMES
    if name.startswith("checkout.") and not name.endswith(("setup_mode", "stripe_trigger"))
]


@pytest.fixture
def leaves(recorded):
    """What an event left: its record's status and outcome, and the row of `OUTCOMES`' rest."""

    def leaves(event):
        status = Purchase.objects.values_list("status", flat=True).first()
        return *recorded(event), status, Entitlement.objects.active().count()

    return leaves


@pytest.fixture
def link_event(paid_event, account, plan):
    """Paid through a Payment Link that the tenant made: no checkout of ours."""
    return changed(paid_event, metadata={"tenant_id": TENANT_ID, "plan_id": str(plan.id)})


@pytest.fixture
def credits_event(tenant, package):
    """A tenant has paid the platform itself for a package of credits."""
    session = {
        "id": "cs_test_a1b2c3d4e5f6g7h8",
        "object": "checkout.session",
        "mode": "payment",
        "status": "complete",
        "payment_status": "paid",
        "payment_intent": "pi_credits",
        "amount_subtotal": 25000,
        "amount_total": 25000,
        "currency": "eur",
        "customer_details": {"email": "accounts@acme.example", "name": None},
        "metadata": {"tenant_id": TENANT_ID, "package": "10_credits", "credits": "10"},
    }
    return {
        "id": "evt_1234567890",
        "object": "event",
        "type": "checkout.session.completed",
        "api_version": "2026-10-28.endive",
        "created": 1708425600,
        "livemode": False,
        "data": {"object": session},
    }


def metadata(event, **fields):
    """A copy of an event with other values in its session's metadata."""
    return changed(event, metadata={**event["data"]["object"]["metadata"], **fields})


def test_every_event_stands_in_the_table():
    assert sorted(OUTCOMES) == sorted(path.stem for path in EVENTS.glob("*.json"))


@pytest.mark.parametrize("name", OUTCOMES)
def test_each_event_has_its_outcome(name, deliver, leaves, account, open_checkout):
    # Before any of the events happened.
    account.connected_at = datetime(2024, 1, 1, tzinfo=UTC)
    account.save()
    event = stripe_event(name)
    open_checkout(event["data"]["object"]["id"])

    response = deliver(event)

    assert (response.status_code, response.json()) == (200, {"received": True})
    assert leaves(event) == OUTCOMES[name]


@pytest.mark.parametrize("name", OF_SESSIONS_WITH_METADATA)
def test_a_session_without_checkout_or_plan_of_ours_is_ignored(name, deliver, leaves, account):
    event = stripe_event(name)

    deliver(event)

    assert leaves(event) == ("ignored", "not_ours", *NOTHING)


def test_a_bare_trigger_is_told_how_to_send_a_real_one(deliver, caplog):
    deliver(stripe_event("checkout.session.completed.stripe_trigger"))

    assert "manage.py simulate" in caplog.text


def test_nothing_to_pay_for_a_discounted_session_is_free(deliver, open_checkout):
    event = stripe_event("checkout.session.completed.no_cost_paid")
    open_checkout(event["data"]["object"]["id"])

    deliver(event)

    purchase = Purchase.objects.get()
    assert (purchase.payment_status, purchase.amount_total) == ("free", 0)


def test_no_payment_is_required_for_a_free_plan(deliver, leaves, open_checkout, plan):
    Plan.objects.update(amount=0)
    event = stripe_event("checkout.session.completed.no_payment_required")
    event = changed(event, amount_subtotal=0)
    open_checkout(event["data"]["object"]["id"])

    deliver(event)

    assert leaves(event) == ("done", "fulfilled", "paid", 2)


def test_an_expired_session_closes_its_checkout(deliver, open_checkout):
    event = stripe_event("checkout.session.expired")
    open_checkout(event["data"]["object"]["id"])

    deliver(event)

    assert Checkout.objects.get().status == "expired"


# --- one after the other, in every order


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("completed.unpaid", "async_payment_succeeded", "fulfilled"),
        ("async_payment_succeeded", "completed.unpaid", "already_fulfilled"),
        ("completed.unpaid_then_fails", "async_payment_failed", "payment_failed"),
        ("async_payment_failed", "completed.unpaid_then_fails", "payment_failed"),
    ],
)
def test_a_payment_may_take_days(first, second, outcome, deliver, recorded, open_checkout):
    first = stripe_event(f"checkout.session.{first}")
    second = stripe_event(f"checkout.session.{second}")
    open_checkout(first["data"]["object"]["id"])

    deliver(first)
    deliver(second)

    assert recorded(second) == ("done", outcome)


def news(kind, event_id):
    """What we hear of one session, with its payment taking days."""
    type_, payment_status = {
        "completed": ("completed", "unpaid"),
        "paid": ("completed", "paid"),
        "succeeded": ("async_payment_succeeded", "paid"),
        "failed": ("async_payment_failed", "unpaid"),
        "expired": ("expired", "unpaid"),
    }[kind]
    event = stripe_event("checkout.session.completed.unpaid")
    event["type"] = f"checkout.session.{type_}"
    return changed(event, event_id=event_id, payment_status=payment_status)


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("completed", "succeeded", ("done", "fulfilled", "paid", 2)),
        ("completed", "failed", ("done", "payment_failed", "failed", 0)),
        ("succeeded", "completed", ("done", "already_fulfilled", "paid", 2)),
        ("succeeded", "failed", ("done", "already_fulfilled", "paid", 2)),
        ("succeeded", "expired", ("done", "expired", "paid", 2)),
        ("paid", "completed", ("done", "already_fulfilled", "paid", 2)),
        ("paid", "paid", ("done", "already_fulfilled", "paid", 2)),
        ("failed", "completed", ("done", "payment_failed", "failed", 0)),
        ("failed", "succeeded", ("done", "fulfilled", "paid", 2)),
        ("failed", "paid", ("done", "fulfilled", "paid", 2)),
        ("expired", "paid", ("done", "fulfilled", "paid", 2)),
    ],
)
def test_paid_absorbs_what_else_is_heard(first, second, outcome, deliver, leaves, open_checkout):
    open_checkout(news(first, "evt_first")["data"]["object"]["id"])
    deliver(news(first, "evt_first"))

    deliver(news(second, "evt_second"))

    assert leaves({"id": "evt_second"}) == outcome


@pytest.mark.parametrize(
    ("first", "second"), [("paid", "expired"), ("expired", "paid"), ("failed", "paid")]
)
def test_a_paid_checkout_is_complete(first, second, deliver, open_checkout):
    open_checkout(news(first, "evt_first")["data"]["object"]["id"])

    deliver(news(first, "evt_first"))
    deliver(news(second, "evt_second"))

    assert Checkout.objects.get().status == "complete"


@pytest.mark.parametrize(
    "names",
    [
        ("charge.succeeded", "checkout.session.completed.paid"),
        ("checkout.session.completed.paid", "charge.succeeded"),
    ],
)
def test_the_purchase_has_its_charge(names, deliver, checkout):
    first, second = map(stripe_event, names)

    deliver(first)
    deliver(second)

    assert Purchase.objects.get().charge_id == "ch_3QPaidPI000000000A1c0"


def test_a_declined_charge_is_not_the_purchases(deliver, checkout, paid_event):
    deliver(changed(stripe_event("charge.failed"), payment_intent="pi_3QPaidPI000000000A1"))

    deliver(paid_event)

    assert Purchase.objects.get().charge_id == ""


# --- our own checkouts


def test_the_checkouts_snapshot_beats_later_edits(deliver, leaves, checkout, plan, paid_event):
    plan.products.clear()
    Plan.objects.update(amount=1, currency="usd", duration="P1Y")

    deliver(paid_event)

    assert leaves(paid_event) == ("done", "fulfilled", "paid", 2)


def test_a_deleted_plan_is_still_delivered(deliver, leaves, checkout, plan, paid_event):
    plan.delete()

    deliver(paid_event)

    assert leaves(paid_event) == ("done", "fulfilled", "paid", 2)


def test_a_checkout_whose_session_was_not_noted_is_bound(
    deliver, leaves, open_checkout, paid_event
):
    checkout = open_checkout(None)
    event = metadata(paid_event, checkout_id=str(checkout.id))

    deliver(event)

    checkout.refresh_from_db()
    assert leaves(event) == ("done", "fulfilled", "paid", 2)
    assert checkout.stripe_session_id == event["data"]["object"]["id"]


def test_a_session_that_names_anothers_checkout_is_held(deliver, leaves, checkout, paid_event):
    event = metadata(paid_event, checkout_id=str(checkout.id))
    event = changed(event, id="cs_test_another")

    deliver(event)

    assert leaves(event) == ("held", "session_mismatch", *NOTHING)


@pytest.mark.parametrize(
    "price",
    [
        {"amount_subtotal": 24999},
        {"amount_subtotal": 25001},
        {"amount_subtotal": 250},
        {"amount_subtotal": None, "amount_total": 1},
        {"amount_subtotal": None, "amount_total": None},
        {"currency": "usd"},
        {"currency": None},
    ],
    ids=str,
)
def test_another_price_than_the_checkouts_is_held(price, deliver, leaves, checkout, paid_event):
    event = changed(paid_event, **price)

    deliver(event)

    assert leaves(event) == ("held", "amount_mismatch", *NOTHING)


# --- a Payment Link of the tenant


def test_a_payment_link_sells_the_plan_it_names(deliver, leaves, link_event):
    deliver(link_event)

    assert leaves(link_event) == ("done", "fulfilled", "paid", 2)
    assert Purchase.objects.get().member.email == "member@example.com"


def test_tax_may_come_on_top(deliver, leaves, link_event):
    event = changed(link_event, amount_total=29750)

    deliver(event)

    assert leaves(event) == ("done", "fulfilled", "paid", 2)
    assert Purchase.objects.get().amount_total == 29750


@pytest.mark.parametrize("price", [{"amount_subtotal": 24999}, {"currency": "usd"}], ids=str)
def test_a_payment_link_with_another_price_is_held(price, deliver, leaves, link_event):
    event = changed(link_event, **price)

    deliver(event)

    assert leaves(event) == ("held", "amount_mismatch", *NOTHING)


@pytest.mark.parametrize("plan_id", [str(uuid.UUID(int=1)), "", "no-uuid", None, 7, ["x"]])
def test_an_unknown_plan_is_held(plan_id, deliver, leaves, link_event):
    event = metadata(link_event, plan_id=plan_id)

    deliver(event)

    assert leaves(event) == ("held", "unknown_plan", *NOTHING)


def test_a_plan_of_another_tenant_is_held(deliver, leaves, link_event, other_account, plan):
    other_account.tenant.offers.create(slug="daily", name="Daily").plans.add(plan)

    deliver(link_event)

    assert leaves(link_event) == ("held", "unknown_plan", *NOTHING)


# --- credit packages, sold by the platform itself


def test_a_credit_package_is_the_tenants_purchase(deliver, leaves, credits_event):
    deliver(credits_event)

    purchase = Purchase.objects.get()
    assert leaves(credits_event) == ("done", "fulfilled", "paid", 0)
    assert (str(purchase.tenant_id), purchase.package_id) == (TENANT_ID, "10_credits")
    assert (purchase.member, purchase.account_id) == (None, "")


def test_a_live_credit_package_is_bought_with_a_live_key(deliver, leaves, settings, credits_event):
    settings.STRIPE_LIVEMODE = True
    event = changed(credits_event, id="cs_live_a1b2c3d4e5f6g7h8")
    event["livemode"] = True

    deliver(event)

    assert leaves(event) == ("done", "fulfilled", "paid", 0)
    assert Purchase.objects.get().livemode


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"credits": "1000"}, "credits_mismatch"),
        ({"credits": ""}, "credits_mismatch"),
        ({"package": "11_credits"}, "unknown_package"),
        ({"package": None}, "unknown_package"),
        ({"tenant_id": str(uuid.UUID(int=1))}, "unknown_tenant"),
        ({"tenant_id": "no-uuid"}, "unknown_tenant"),
    ],
)
def test_a_package_that_does_not_exist_so_is_held(fields, outcome, deliver, leaves, credits_event):
    event = metadata(credits_event, **fields)

    deliver(event)

    assert leaves(event) == ("held", outcome, *NOTHING)


def test_a_package_at_another_price_is_held(deliver, leaves, credits_event):
    event = changed(credits_event, amount_subtotal=24999, amount_total=24999)

    deliver(event)

    assert leaves(event) == ("held", "amount_mismatch", *NOTHING)


def test_a_tenant_cannot_sell_itself_credits(deliver, leaves, account, credits_event):
    event = changed(credits_event, account=ACCOUNT_ID)

    deliver(event)

    assert leaves(event) == ("ignored", "not_ours", *NOTHING)
