"""The same facts make the same state, in any order; and the database itself refuses what can't be.

The constraints are named here as the operator would read them in an error.
"""

from datetime import timedelta
from itertools import combinations, permutations

import pytest
from django.db import IntegrityError, transaction
from django.forms import model_to_dict
from django.utils import timezone

from fulfillment.models import Checkout, StripeEvent
from purchases.models import Charge, Entitlement, Plan, Purchase, PurchaseEvent
from purchases.settling import settle
from tenants.models import Member, MemberSession, PaymentAccount
from tests.conftest import changed, stripe_event

UNPAID = stripe_event("checkout.session.completed.unpaid")
SESSION = UNPAID["data"]["object"]["id"]
PAYMENT = UNPAID["data"]["object"]["payment_intent"]
FACTS = {
    "unpaid": UNPAID,
    "failed": changed(
        stripe_event("checkout.session.async_payment_failed"), id=SESSION, payment_intent=PAYMENT
    ),
    "paid": changed(
        stripe_event("checkout.session.async_payment_succeeded"), id=SESSION, payment_intent=PAYMENT
    ),
    "expired": changed(stripe_event("checkout.session.expired"), id=SESSION),
    "charged": changed(stripe_event("charge.succeeded"), payment_intent=PAYMENT),
}
# Not those of four: with all five every one of their orders occurs, with one fact more.
SETS = [set(facts) for n in (1, 2, 3, 5) for facts in combinations(FACTS, n)]


@pytest.fixture
def state_after(deliver, open_checkout):
    """Deliver facts in an order, look at what there is then, and undo it all."""
    open_checkout(SESSION)

    def state_after(order):
        with transaction.atomic():
            for name in order:
                deliver(FACTS[name])
            state = state_now()
            transaction.set_rollback(True)
        return state

    return state_after


def state_now():
    purchase = Purchase.objects.first()
    granted = Entitlement.objects.filter(purchase=purchase).active()
    announced = PurchaseEvent.objects.exclude(type__in=["purchase.pending", "purchase.failed"])
    return {
        "checkout": str(Checkout.objects.get().status),
        "payment": purchase and purchase.payment_status,
        "status": purchase and purchase.status,
        "charge": purchase and purchase.charge_id,
        "products": sorted(granted.values_list("product__slug", flat=True)),
        "announced": sorted(announced.values_list("type", flat=True)),
        "members": Member.objects.count(),
    }


def state_called_for(facts):
    """What a set of facts calls for, written down without looking at how it is worked out."""
    is_paid = "paid" in facts
    has_purchase = facts & {"unpaid", "failed", "paid"}
    payment = next((fact for fact in ("paid", "failed", "unpaid") if fact in facts), None)
    status = {"paid": "paid", "failed": "failed", "unpaid": "pending", None: None}[payment]
    checkout = {"paid": "complete", "failed": "failed", "unpaid": "complete", None: "open"}[payment]
    return {
        "checkout": "expired" if checkout == "open" and "expired" in facts else checkout,
        "payment": payment,
        "status": status,
        "charge": (FACTS["charged"]["data"]["object"]["id"] if "charged" in facts else "")
        if has_purchase
        else None,
        "products": ["archive", "newsletter"] if is_paid else [],
        "announced": ["entitlement.granted", "entitlement.granted", "purchase.completed"]
        if is_paid
        else [],
        "members": 1 if has_purchase else 0,
    }


@pytest.mark.parametrize("facts", SETS, ids=lambda facts: "+".join(sorted(facts)))
def test_every_order_of_the_same_facts_ends_in_the_same_state(state_after, facts):
    states = [state_after(order) for order in permutations(sorted(facts))]

    assert states == [state_called_for(facts)] * len(states)


@pytest.mark.parametrize("repeated", FACTS)
def test_facts_told_again_under_another_event_id_change_nothing(deliver, open_checkout, repeated):
    open_checkout(SESSION)
    deliver(FACTS["unpaid"])
    deliver(FACTS["paid"])
    deliver(FACTS["charged"])
    before = everything()

    deliver(changed(FACTS[repeated], event_id="evt_the_same_thing_again"))

    assert everything() == before
    assert StripeEvent.objects.get(pk="evt_the_same_thing_again").status == "done"


def test_settling_again_writes_nothing(deliver, checkout, paid_event):
    deliver(paid_event)
    before = everything()

    with transaction.atomic():
        settle(Purchase.objects.get(), channel=Purchase.Channel.REPLAY)

    assert everything() == before


def test_settling_grants_what_is_missing_and_nothing_twice(deliver, checkout, paid_event):
    deliver(paid_event)
    kept = Entitlement.objects.get(product__slug="archive")
    Entitlement.objects.filter(product__slug="newsletter").delete()

    with transaction.atomic():
        settle(Purchase.objects.get(), channel=Purchase.Channel.REPLAY)

    assert Entitlement.objects.active().count() == 2
    assert Entitlement.objects.get(product__slug="archive").pk == kept.pk
    assert Entitlement.objects.values("starts_at", "ends_at").distinct().count() == 1


def everything():
    models = (Purchase, Entitlement, PurchaseEvent, Charge, Checkout, Member)
    return [model_to_dict(row) for model in models for row in model.objects.order_by("pk")]


# --- what the database refuses


@pytest.fixture
def bought(deliver, checkout, paid_event):
    deliver(paid_event)
    return Purchase.objects.get()


def purchase_again(bought, **fields):
    return Purchase(**{**columns(bought), "id": None, **fields})


def columns(row):
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def entitlement_again(bought, **fields):
    return Entitlement(**{**columns(bought.entitlements.first()), "id": None, **fields})


def account_again(bought, **fields):
    return PaymentAccount(**{**columns(PaymentAccount.objects.get()), "id": None, **fields})


def plan_again(bought, **fields):
    return Plan(**{**columns(bought.plan), "id": None, **fields})


def member_again(bought, **fields):
    return Member(**{"tenant": bought.tenant, **fields})


def session_of(bought, **fields):
    return MemberSession(
        member=bought.member,
        refresh_family=bought.id,
        expires_at=timezone.now() + timedelta(days=1),
        **fields,
    )


def record_again(bought, **fields):
    return StripeEvent(**{**columns(StripeEvent.objects.get()), "id": "evt_other", **fields})


def fresh(bought, make, fields):
    """The row, with an id of its own where the database does not give it one."""
    row = make(bought, **fields)
    if row.pk is None and row._meta.pk.has_default():
        row.pk = row._meta.pk.get_default()
    return row


@pytest.mark.parametrize(
    ("make", "fields", "constraint"),
    [
        (
            purchase_again,
            {"checkout_session_id": "cs_2", "status": "x"},
            "purchase_fulfilled_once_paid",
        ),
        (
            purchase_again,
            {"checkout_session_id": "cs_2", "status": "pending"},
            "purchase_fulfilled_once_paid",
        ),
        (
            purchase_again,
            {"checkout_session_id": "cs_2", "fulfilled_at": None},
            "purchase_fulfilled_once_paid",
        ),
        (
            purchase_again,
            {"checkout_session_id": "cs_2", "payment_status": "maybe"},
            "purchase_payment_status",
        ),
        (
            purchase_again,
            {"checkout_session_id": "cs_2", "amount_total": 10**12},
            "purchase_amount_total",
        ),
        (
            entitlement_again,
            {"purchase_id": None, "ends_at": timezone.now() - timedelta(days=1)},
            "entitlement_ends_after_it_starts",
        ),
        (account_again, {"stripe_account_id": "", "livemode": True}, "stripe_account_id"),
        (plan_again, {"amount": 10**12}, "plan_amount"),
        (plan_again, {"currency": "EUR"}, "plan_currency"),
        (plan_again, {"currency": "eu"}, "plan_currency"),
        (member_again, {"name": "Nobody"}, "member_can_be_found_again"),
        (member_again, {"email": "MEMBER@Example.com"}, "member_email_per_tenant"),
        (
            session_of,
            {"authenticated": False, "purchase_id": None},
            "membersession_unproven_is_limited",
        ),
        (record_again, {"status": "failed", "settled_at": None}, "stripeevent_failed_is_retried"),
        (record_again, {"status": "done", "settled_at": None}, "stripeevent_settled_once_done"),
        (record_again, {"status": "lost", "settled_at": None}, "stripeevent_s"),
    ],
)
def test_the_database_refuses_what_breaks_a_rule_and_names_it(bought, make, fields, constraint):
    row = fresh(bought, make, fields)

    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        row.save(force_insert=True)


@pytest.mark.parametrize(
    ("make", "fields", "constraint", "column"),
    [
        (purchase_again, {}, "checkout_session_id", "checkout_session_id"),
        (entitlement_again, {}, "entitlement_once_per_purchase", "purchase_id"),
        (
            account_again,
            {"disconnected_at": timezone.now()},
            "paymentaccount_account_per_mode",
            "stripe_account_id",
        ),
        (
            account_again,
            {"stripe_account_id": "acct_second"},
            "paymentaccount_one_active_per_mode",
            "tenant_id",
        ),
    ],
)
def test_the_database_refuses_a_second_one(bought, make, fields, constraint, column):
    row = fresh(bought, make, fields)

    # SQLite names the column where PostgreSQL names the constraint.
    named = f"{constraint}|{column}"
    with pytest.raises(IntegrityError, match=named), transaction.atomic():
        row.save(force_insert=True)
