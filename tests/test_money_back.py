"""Money goes back, by every road: what the member has then, and sees at once."""

import uuid
from itertools import permutations

import jwt
import pytest

from fulfillment.models import StripeEvent
from purchases import ledger
from purchases.models import (
    CreditEntry,
    Entitlement,
    Plan,
    Product,
    Purchase,
    PurchaseEvent,
    Refund,
)
from tenants import tokens
from tenants.models import Member
from tests.conftest import changed, stripe_event
from tests.test_concurrency import at_once

BOTH = ["archive", "newsletter"]
PAID = stripe_event("checkout.session.completed.paid")
PAYMENT = PAID["data"]["object"]["payment_intent"]


@pytest.fixture
def plan(plan):
    """Two products for a month and ten credits, at 250.00 EUR."""
    plan.credits = 10
    plan.save()
    return plan


def refund(amount, number=1, status="succeeded", **fields):
    name = "refund.failed" if status == "failed" else "refund.created"
    event_id = f"evt_refund_{number}_{status}"
    return changed(
        stripe_event(name),
        event_id=event_id,
        **{"id": f"re_{number}", "amount": amount, "status": status, **fields},
    )


def refunded_so_far(amount, **fields):
    """The charge, with all that was refunded of it until then."""
    return changed(
        stripe_event("charge.refunded.partial"),
        event_id=f"evt_charge_refunded_{amount}",
        **{"amount_refunded": amount, **fields},
    )


def again(event, number):
    """The same news under another event id."""
    return changed(event, event_id=f"{event['id']}_{number}")


def of(event, session, payment):
    """A sale like this one, of another session and payment."""
    return changed(event, event_id=f"{event['id']}_{session}", id=session, payment_intent=payment)


@pytest.fixture
def browser(client, db):
    """What a signed-in member sees now: the products, by both ways, and the credits."""
    held = []

    def browser():
        if not held:
            held.append(tokens.new_refresh_token())
            tokens.open_session(
                Member.objects.get(),
                authenticated=True,
                purchase_id=uuid.uuid4(),
                refresh_token=held[0],
            )
        body = {"refresh_token": held[0]}
        answer = client.post("/api/members/token/refresh", body, content_type="application/json")
        held[0] = answer.json()["refresh_token"]
        bearer = {"Authorization": f"Bearer {answer.json()['jwt']}"}
        claims = jwt.decode(answer.json()["jwt"], options={"verify_signature": False})
        listed = client.get("/api/entitlements", headers=bearer).json()["data"]
        assert claims["products"] == sorted({row["product"] for row in listed})
        balance = client.get("/api/credits", headers=bearer).json()["balance"]
        return claims["products"], balance

    return browser


@pytest.fixture
def state(browser):
    """The status of the only purchase, and what the member sees."""
    return lambda: (Purchase.objects.get().status, *browser())


@pytest.fixture
def after(deliver, state):
    """The state once one more event has been delivered."""

    def after(event):
        assert deliver(event).status_code == 200
        return state()

    return after


# --- the real events, by name

STATES = {
    "charge.refunded.partial": ("partially_refunded", BOTH, 8),
    "charge.refunded.partial_second": ("partially_refunded", BOTH, 6),
    "charge.refunded.full": ("refunded", [], 0),
    "refund.created": ("partially_refunded", BOTH, 8),
    "refund.updated": ("partially_refunded", BOTH, 8),
    "refund.failed": ("paid", BOTH, 10),
    "charge.refund.updated.failed": ("paid", BOTH, 10),
    "charge.dispute.created": ("disputed", [], 10),
    "charge.dispute.created.inquiry": ("paid", BOTH, 10),
    "charge.dispute.funds_withdrawn": ("disputed", [], 10),
    "charge.dispute.funds_reinstated": ("paid", BOTH, 10),
    "charge.dispute.closed.won": ("paid", BOTH, 10),
    "charge.dispute.closed.lost": ("lost", [], 0),
}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("is_first", [False, True], ids=["after the sale", "before the sale"])
def test_each_event_about_money_going_back_has_its_state(name, is_first, deliver, checkout, state):
    events = [PAID, stripe_event(name)]

    [deliver(event) for event in (reversed(events) if is_first else events)]

    assert state() == STATES[name]


@pytest.mark.parametrize(
    ("completed", "later", "states"),
    [
        ("unpaid", "succeeded", [("pending", [], 0), ("paid", BOTH, 10)]),
        ("unpaid_then_fails", "failed", [("pending", [], 0), ("failed", [], 0)]),
    ],
)
def test_each_event_of_a_delayed_payment_has_its_state(
    completed, later, states, open_checkout, after
):
    first = stripe_event(f"checkout.session.completed.{completed}")
    second = stripe_event(f"checkout.session.async_payment_{later}")
    open_checkout(first["data"]["object"]["id"])

    assert [after(first), after(second)] == states


# --- step by step: every step is seen at once


def test_what_the_member_sees_follows_every_step(checkout, after):
    steps = {
        "checkout.session.completed.paid": ("paid", BOTH, 10),
        "charge.dispute.created.inquiry": ("paid", BOTH, 10),
        "refund.created": ("partially_refunded", BOTH, 8),
        "charge.dispute.created": ("disputed", [], 8),
        "charge.dispute.closed.won": ("partially_refunded", BOTH, 8),
        "refund.failed": ("paid", BOTH, 10),
        "charge.refunded.partial_second": ("partially_refunded", BOTH, 8),
        "charge.refunded.full": ("partially_refunded", BOTH, 2),
    }

    assert {name: after(stripe_event(name)) for name in steps} == steps


def test_credits_go_back_in_steps_with_the_money(checkout, after):
    events = [PAID, *map(refunded_so_far, (5000, 12500, 25000))]

    states = [after(event) for event in events]

    assert states == [
        ("paid", BOTH, 10),
        ("partially_refunded", BOTH, 8),
        ("partially_refunded", BOTH, 5),
        ("refunded", [], 0),
    ]


@pytest.mark.parametrize("order", [*permutations(range(3))], ids=str)
@pytest.mark.parametrize("road", ["charge", "refunds", "both"])
def test_steps_shuffled_and_tripled_end_where_they_should(order, road, deliver, checkout, state):
    charge = [refunded_so_far(amount) for amount in (5000, 12500, 25000)]
    refunds = [refund(amount, number) for number, amount in enumerate((5000, 7500, 12500))]
    roads = {"charge": [charge], "refunds": [refunds], "both": [charge, refunds]}[road]
    deliver(PAID)

    for number in range(3):
        [deliver(again(steps[step], number)) for step in order for steps in roads]

    assert state() == ("refunded", [], 0)
    assert CreditEntry.objects.count() <= 4


# --- by name


def test_a_refund_before_the_sale_leaves_nothing_open(deliver, checkout, paid_event, state):
    deliver(refund(25000))

    deliver(paid_event)

    assert state() == ("refunded", [], 0)
    assert Purchase.objects.get().fulfilled_at


@pytest.mark.parametrize(
    "names",
    [
        *permutations(
            ["charge.refunded.full", "charge.dispute.created", "charge.dispute.closed.lost"]
        )
    ],
    ids=lambda names: " ".join(name.split(".")[-1] for name in names),
)
def test_a_full_refund_and_a_lost_dispute_take_credits_once(names, deliver, checkout, state):
    deliver(PAID)

    [deliver(stripe_event(name)) for name in names]

    assert state() == ("lost", [], 0)
    assert list(amounts()) == [10, -10]
    assert [event.type for event in PurchaseEvent.objects.filter(type__contains="refunded")] == [
        "purchase.refunded"
    ]


def amounts():
    return CreditEntry.objects.order_by("id").values_list("amount", flat=True)


@pytest.mark.parametrize("is_charge_known", [False, True], ids=["refund", "refund and charge"])
@pytest.mark.parametrize("undone", ["failed", "canceled"])
def test_a_refund_that_fails_later_gives_everything_back(
    undone, is_charge_known, deliver, checkout, after, state
):
    deliver(PAID)
    deliver(refund(25000))
    if is_charge_known:
        deliver(refunded_so_far(25000))
    before = state()

    states = [after(refund(25000, status=undone)), after(again(refund(25000), 2))]

    assert before == ("refunded", [], 0)
    assert states == [("paid", BOTH, 10)] * 2


@pytest.mark.parametrize("ends", ["closed.won", "closed.lost"])
@pytest.mark.parametrize("is_last", [False, True], ids=["created last", "created first"])
def test_the_end_of_a_dispute_beats_its_beginning(ends, is_last, deliver, checkout, state):
    events = [stripe_event(f"charge.dispute.{name}") for name in (ends, "created")]
    deliver(PAID)

    [deliver(event) for event in (reversed(events) if is_last else events)]

    assert state() == STATES[f"charge.dispute.{ends}"]


def test_an_old_refund_leaves_a_new_purchase_alone(deliver, checkout, open_checkout, browser):
    open_checkout("cs_test_second")
    deliver(PAID)
    deliver(refund(25000))
    deliver(of(PAID, "cs_test_second", "pi_second"))

    deliver(again(refund(25000), "again"))
    deliver(refunded_so_far(25000))

    assert browser() == (BOTH, 10)
    assert sorted(Purchase.objects.values_list("status", flat=True)) == ["paid", "refunded"]


def test_of_two_purchases_a_refund_takes_only_what_it_paid_for(
    deliver, checkout, open_checkout, plan, tenant, browser
):
    plan.products.remove(Product.objects.get(slug="newsletter"))
    plan.products.add(Product.objects.create(tenant=tenant, slug="video", name="Video"))
    open_checkout("cs_test_second")
    deliver(PAID)
    deliver(of(PAID, "cs_test_second", "pi_second"))
    deliver(refund(25000))

    products, balance = browser()

    assert (products, balance) == (["archive", "video"], 10)


def test_a_partial_refund_keeps_access_to_its_end(deliver, checkout):
    deliver(PAID)
    before = list(windows())

    deliver(refund(24999))

    assert list(windows()) == before


def windows():
    return Entitlement.objects.order_by("product").values("starts_at", "ends_at", "revoked_at")


@pytest.mark.parametrize(
    ("currency", "total", "back", "status", "credits_left"),
    [
        ("jpy", 500, 250, "partially_refunded", 5),
        ("jpy", 500, 500, "refunded", 0),
        ("kwd", 5120, 1024, "partially_refunded", 8),
        ("kwd", 5120, 5120, "refunded", 0),
        ("eur", 2**31, 2**30, "partially_refunded", 5),
        ("eur", 2**31, 2**31, "refunded", 0),
        ("eur", 999_999_999_999, 999_999_999_998, "partially_refunded", 1),
        ("eur", 1, 1, "refunded", 0),
    ],
)
def test_amounts_are_whole_numbers_of_any_currency(
    currency, total, back, status, credits_left, plan, open_checkout, deliver, browser
):
    Plan.objects.update(amount=total, currency=currency)
    open_checkout(PAID["data"]["object"]["id"])
    deliver(changed(PAID, amount_subtotal=total, amount_total=total, currency=currency))

    deliver(refund(back, currency=currency))

    assert (Purchase.objects.get().status, browser()[1]) == (status, credits_left)
    assert Purchase.objects.get().refunded_amount == back


@pytest.mark.parametrize("amount", [2**63, 10**12, -1, "25000", True, 250.0, None])
def test_an_amount_that_stripe_never_sends_is_held(amount, deliver, checkout, state, recorded):
    deliver(PAID)
    event = refund(amount)

    deliver(event)

    assert recorded(event) == ("held", "malformed")
    assert state() == ("paid", BOTH, 10)


# --- other accounts


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("is_first", [False, True], ids=["after ours", "before the sale"])
def test_news_from_another_account_changes_nothing(
    name, is_first, deliver, checkout, other_account, state
):
    foreign = changed(stripe_event(name), account=other_account.stripe_account_id)

    [deliver(event) for event in ([foreign, PAID] if is_first else [PAID, foreign])]

    assert state() == ("paid", BOTH, 10)


@pytest.mark.parametrize(
    ("ours", "foreign"),
    [
        (refund(25000), refund(25000, status="failed")),
        (stripe_event("charge.dispute.created"), stripe_event("charge.dispute.closed.won")),
        (refunded_so_far(5000), refunded_so_far(25000)),
    ],
    ids=["refund", "dispute", "charge"],
)
def test_another_account_cannot_speak_of_our_refund_dispute_or_charge(
    ours, foreign, deliver, checkout, other_account, state, recorded
):
    deliver(PAID)
    deliver(ours)
    before = state()
    foreign = changed(foreign, account=other_account.stripe_account_id)

    deliver(foreign)
    deliver(changed(stripe_event("charge.succeeded"), event_id="evt_settles_again"))
    deliver(again(ours, "again"))

    assert recorded(foreign) == ("held", "account_mismatch")
    assert state() == before


def test_an_account_that_nobody_connected_is_ignored(deliver, checkout, recorded):
    event = changed(refund(25000), account="acct_nobody")

    deliver(event)

    assert recorded(event) == ("ignored", "not_ours")
    assert not Refund.objects.exists()


# --- at the same instant


def test_sale_and_refund_at_the_same_instant_end_refunded(delivery, drain, open_checkout):
    calls = []
    for number in range(25):
        session, payment = f"cs_test_{number}", f"pi_{number}"
        open_checkout(session)
        calls.append(delivery(of(PAID, session, payment)))
        calls.append(delivery(refund(25000, number, payment_intent=payment)))

    answers = at_once(calls)
    drain()

    assert {answer.status for answer in answers} == {200}
    assert list(StripeEvent.objects.values_list("status", flat=True)) == ["done"] * 50
    assert list(Purchase.objects.values_list("status", flat=True)) == ["refunded"] * 25
    assert not Entitlement.objects.active().exists()
    member = Member.objects.get()
    assert ledger.balance_of(member.tenant, member) == sum(amounts()) == 0


def test_two_sessions_of_one_member_at_once_give_the_union(delivery, open_checkout, plan, tenant):
    open_checkout("cs_test_1")
    plan.products.set([Product.objects.create(tenant=tenant, slug="video", name="Video")])
    open_checkout("cs_test_2")

    at_once([delivery(of(PAID, f"cs_test_{number}", f"pi_{number}")) for number in (1, 2)])

    products = Entitlement.objects.active().values_list("product__slug", flat=True)
    assert sorted(products) == [*BOTH, "video"]
    assert Member.objects.count() == 1
