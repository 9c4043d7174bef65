"""When dated plans run, and what the facts of a payment call for: the pure parts, by table."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import time_machine

from purchases.models import Entitlement, Purchase
from purchases.schedule import schedule
from purchases.targets import Access, Reversals, Target, target_of
from tenants.models import Tenant
from tests.conftest import changed, stripe_event
from tests.test_concurrency import at_once

PAID = stripe_event("checkout.session.completed.paid")
JANUARY = datetime(2026, 1, 10, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def day(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- one after the other


def period(paid, *, duration="P1M", product=1, **fields):
    """An entitlement that was paid on that day, not yet in its place."""
    purchase = Purchase(fulfilled_at=day(paid), snapshot={"duration": duration})
    return Entitlement(purchase=purchase, product_id=product, **fields)


def places(*periods, zone="UTC"):
    schedule(periods, ZoneInfo(zone))
    return [
        (row.starts_at and f"{row.starts_at:%m-%d}", row.ends_at and f"{row.ends_at:%m-%d}")
        for row in periods
    ]


REVOKED = {"revoked_at": JANUARY}
SUSPENDED = {"suspended_at": JANUARY}


@pytest.mark.parametrize(
    ("periods", "expected"),
    [
        ([period("2026-01-10")], [("01-10", "02-10")]),
        ([period("2026-01-10"), period("2026-01-20")], [("01-10", "02-10"), ("02-10", "03-10")]),
        ([period("2026-01-20"), period("2026-01-10")], [("02-10", "03-10"), ("01-10", "02-10")]),
        ([period("2026-01-10"), period("2026-02-10")], [("01-10", "02-10"), ("02-10", "03-10")]),
        ([period("2026-01-10"), period("2026-03-01")], [("01-10", "02-10"), ("03-01", "04-01")]),
        (
            [period("2026-01-10"), period("2026-01-11"), period("2026-01-12")],
            [("01-10", "02-10"), ("02-10", "03-10"), ("03-10", "04-10")],
        ),
        (
            [period("2026-01-10", **REVOKED), period("2026-01-20")],
            [("01-10", "02-10"), ("01-20", "02-20")],
        ),
        (
            [period("2026-01-10"), period("2026-01-11", **REVOKED), period("2026-01-12")],
            [("01-10", "02-10"), ("01-11", "02-11"), ("02-10", "03-10")],
        ),
        (
            [period("2026-01-10", **SUSPENDED), period("2026-01-20")],
            [("01-10", "02-10"), ("02-10", "03-10")],
        ),
        (
            [period("2026-01-10"), period("2026-01-20", product=2)],
            [("01-10", "02-10"), ("01-20", "02-20")],
        ),
        (
            [period("2026-01-10", duration=""), period("2026-01-20")],
            [(None, None), ("01-20", "02-20")],
        ),
        (
            [period("2026-01-10", duration="P1Y"), period("2026-01-20", duration="P30D")],
            [("01-10", "01-10"), ("01-10", "02-09")],
        ),
        ([period("2026-01-31"), period("2026-01-31")], None),
    ],
    ids=[
        "one", "bought while one runs", "whatever the order of the rows", "bought as one ends",
        "bought after a gap", "three", "revoked gives its place away", "revoked in the middle",
        "suspended keeps its place", "another product", "for good takes no part", "mixed",
        "at the same instant",
    ],
)  # fmt: skip
def test_periods_follow_one_another(periods, expected):
    found = places(*periods)

    assert (
        found == expected
        if expected
        else sorted(found)
        == [
            ("01-31", "02-28"),
            ("02-28", "03-28"),
        ]
    )


def test_months_are_the_tenants_own():
    late = Entitlement(
        product_id=1,
        purchase=Purchase(
            fulfilled_at=datetime(2026, 1, 30, 23, 30, tzinfo=UTC), snapshot={"duration": "P1M"}
        ),
    )

    schedule([late], BERLIN)

    # In Berlin it was 31 January, 00:30; a month later is the end of February, in winter time.
    assert late.ends_at == datetime(2026, 2, 27, 23, 30, tzinfo=UTC)


def test_only_what_changes_is_returned():
    first, second = period("2026-01-10"), period("2026-01-20")
    schedule([first, second], ZoneInfo("UTC"))
    first.revoked_at = JANUARY

    assert schedule([first, second], ZoneInfo("UTC")) == [second]
    assert schedule([first, second], ZoneInfo("UTC")) == []


def test_a_period_that_stays_keeps_its_end_when_the_zone_changes():
    row = period("2026-01-31")
    schedule([row], ZoneInfo("UTC"))
    end = row.ends_at

    assert schedule([row], ZoneInfo("Asia/Tokyo")) == []
    assert row.ends_at == end


# --- what the facts call for


def back(*refunds, seen=0, disputes=()):
    """What went back: refunds, the most that the charge ever showed as refunded, disputes."""
    return Reversals(refunds=refunds, amount_refunded=seen, disputes=disputes)


@pytest.mark.parametrize(
    ("payment_status", "reversals", "status", "access", "refunded", "credits_kept"),
    [
        ("unpaid", back(), "pending", Access.NONE, 0, 0),
        ("unpaid", back(seen=1000), "pending", Access.NONE, 0, 0),
        ("failed", back(), "failed", Access.NONE, 0, 0),
        ("free", back(), "paid", Access.GRANTED, 0, 10),
        ("paid", back(), "paid", Access.GRANTED, 0, 10),
        ("paid", back((1, "succeeded")), "partially_refunded", Access.GRANTED, 1, 10),
        ("paid", back((99, "succeeded")), "partially_refunded", Access.GRANTED, 99, 10),
        ("paid", back((100, "pending")), "partially_refunded", Access.GRANTED, 100, 9),
        ("paid", back((999, "succeeded")), "partially_refunded", Access.GRANTED, 999, 1),
        ("paid", back((1000, "succeeded")), "refunded", Access.REVOKED, 1000, 0),
        ("paid", back(*[(600, "succeeded")] * 2), "refunded", Access.REVOKED, 1000, 0),
        ("paid", back((1000, "failed")), "paid", Access.GRANTED, 0, 10),
        ("paid", back((1000, "canceled")), "paid", Access.GRANTED, 0, 10),
        ("paid", back((500, "failed"), seen=300), "paid", Access.GRANTED, 0, 10),
        ("paid", back((300, "succeeded"), seen=500), "partially_refunded", Access.GRANTED, 500, 5),
        (
            "paid", back((300, "succeeded"), (200, "failed"), seen=500),
            "partially_refunded", Access.GRANTED, 300, 7,
        ),
        ("paid", back(disputes=("needs_response",)), "disputed", Access.SUSPENDED, 0, 10),
        ("paid", back(disputes=("a_status_to_come",)), "disputed", Access.SUSPENDED, 0, 10),
        ("paid", back(disputes=("warning_needs_response",)), "paid", Access.GRANTED, 0, 10),
        ("paid", back(disputes=("warning_closed",)), "paid", Access.GRANTED, 0, 10),
        ("paid", back(disputes=("won",)), "paid", Access.GRANTED, 0, 10),
        ("paid", back(disputes=("lost",)), "lost", Access.REVOKED, 0, 0),
        ("paid", back(disputes=("won", "under_review")), "disputed", Access.SUSPENDED, 0, 10),
        ("paid", back(disputes=("lost", "under_review")), "lost", Access.REVOKED, 0, 0),
        ("paid", back(seen=200, disputes=("under_review",)), "disputed", Access.SUSPENDED, 200, 8),
        ("paid", back(seen=1000, disputes=("lost",)), "lost", Access.REVOKED, 1000, 0),
    ],
)  # fmt: skip
def test_facts_call_for_one_state(
    payment_status, reversals, status, access, refunded, credits_kept
):
    total = 0 if payment_status == "free" else 1000

    target = target_of(payment_status, total=total, bought=10, reversals=reversals)

    assert target == Target(status=status, access=access, refunded=refunded, credits=credits_kept)


@pytest.mark.parametrize(
    ("bought", "refunded", "kept"),
    [(1, 999, 1), (1, 1000, 0), (3, 333, 3), (3, 334, 2), (3, 667, 1), (0, 500, 0)],
)
def test_credits_are_rounded_in_the_members_favor(bought, refunded, kept):
    reversals = Reversals(amount_refunded=refunded)

    assert target_of("paid", total=1000, bought=bought, reversals=reversals).credits == kept


# --- through the front door


@pytest.fixture
def buy(deliver, open_checkout):
    """Buy the plan on that day."""

    def buy(number, when, plan_=None):
        with time_machine.travel(day(when), tick=False):
            open_checkout(f"cs_test_{number}")
            deliver(sale(number))

    return buy


def sale(number):
    fields = {"id": f"cs_test_{number}", "payment_intent": f"pi_{number}"}
    return changed(PAID, event_id=f"evt_{number}", **fields)


def money_back(name, number, **fields):
    event = stripe_event(name)
    event_id = f"{event['id']}_{number}"
    return changed(event, event_id=event_id, payment_intent=f"pi_{number}", **fields)


def windows(product="archive"):
    rows = Entitlement.objects.filter(product__slug=product).order_by("purchase__fulfilled_at")
    return [(f"{row.starts_at:%m-%d}", f"{row.ends_at:%m-%d}") for row in rows]


IN_TURN = [("01-10", "02-10"), ("02-10", "03-10"), ("03-10", "04-10")]


@pytest.fixture
def three_months(buy):
    for number, when in enumerate(("2026-01-10", "2026-01-15", "2026-01-20")):
        buy(number, when)


def test_a_plan_bought_again_starts_when_the_running_one_ends(three_months):
    assert windows("archive") == windows("newsletter") == IN_TURN


def test_a_refunded_period_gives_its_place_to_the_next(three_months, deliver):
    deliver(money_back("refund.created", 1, id="re_1", amount=25000))

    assert windows() == [("01-10", "02-10"), ("01-15", "02-15"), ("02-10", "03-10")]


def test_a_refund_that_fails_takes_its_place_back(three_months, deliver):
    deliver(money_back("refund.created", 1, id="re_1", amount=25000))

    deliver(money_back("refund.failed", 1, id="re_1", amount=25000))

    assert windows() == IN_TURN


def test_a_disputed_period_keeps_its_place(three_months, deliver):
    deliver(money_back("charge.dispute.created", 0))

    assert windows() == IN_TURN


def test_months_are_counted_in_the_tenants_zone(buy, tenant):
    Tenant.objects.update(timezone="Pacific/Auckland")

    buy(1, "2026-01-31T12:00")
    buy(2, "2026-01-31T13:00")

    # In Auckland, 1 February, 01:00 and 02:00.
    assert windows() == [("01-31", "02-28"), ("02-28", "03-31")]


# --- at the same instant


def test_purchases_at_the_same_instant_do_not_overlap(delivery, open_checkout):
    numbers = [f"{member}{letter}" for member in range(10) for letter in "ab"]
    events = [sale(number) for number in numbers]
    for number, event in zip(numbers, events, strict=True):
        open_checkout(f"cs_test_{number}")
        event["data"]["object"]["customer_details"]["email"] = f"m{number[0]}@example.com"

    at_once([delivery(event) for event in events])

    archive = Entitlement.objects.filter(product__slug="archive").order_by("member", "starts_at")
    pairs = list(zip(archive[::2], archive[1::2], strict=True))
    assert len(pairs) == 10
    assert all(first.member_id == second.member_id for first, second in pairs)
    assert all(first.ends_at == second.starts_at for first, second in pairs)
