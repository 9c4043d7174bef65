"""No webhook came and nobody came back: Stripe is asked, and the buyer gets what they paid for."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from fulfillment.models import Checkout, StripeEvent
from fulfillment.sweeping import sweep_next
from purchases.models import Entitlement, Purchase
from tests.sandbox_server import KEY
from tests.test_concurrency import at_once
from tests.waiting import wait_until
from tests.worker import in_own_connection, running_worker

pytest_plugins = ["tests.silent_stripe"]


def sweep_all():
    """Sweep until nothing is due; returns how many checkouts were."""
    swept = 0
    while sweep_next():
        swept += 1
    return swept


def later(**time):
    return time_machine.travel(timezone.now() + timedelta(**time), tick=True)


def test_a_payment_that_nobody_reported_is_found(buy):
    checkout = buy(minutes=10)

    assert sweep_all() == 1

    checkout.refresh_from_db()
    assert checkout.status == "complete"
    assert (checkout.purchase.status, checkout.purchase.fulfilled_by) == ("paid", "sweep")
    assert Entitlement.objects.active().count() == 2


def test_a_young_checkout_is_left_to_the_webhook(buy):
    buy(minutes=9)

    assert sweep_all() == 0


def test_a_swept_purchase_is_asked_about_no_more(buy):
    buy(minutes=10)
    sweep_all()

    with later(days=2):
        assert sweep_all() == 0


def test_what_the_webhook_reports_too_is_fulfilled_once(buy, deliver, silent_stripe):
    buy(minutes=10)
    sweep_all()
    events = silent_stripe.client.v1.events.list(
        {"type": "checkout.session.completed"},
        {"stripe_account": Purchase.objects.get().account_id},
    )

    deliver({**events.data[0].to_dict(), "account": Purchase.objects.get().account_id})

    assert StripeEvent.objects.get().outcome == "already_fulfilled"
    assert Purchase.objects.get().fulfilled_by == "sweep"


def test_an_open_checkout_is_asked_about_again_and_ever_later(begin):
    checkout = begin(minutes=10)
    pauses = []
    for _ in range(4):
        sweep_all()
        checkout.refresh_from_db()
        pauses.append(round((checkout.sweep_at - timezone.now()).total_seconds() / 60))
        Checkout.objects.update(sweep_at=timezone.now())

    assert pauses == [30, 90, 270, 360]


def test_an_expired_checkout_is_closed_once_its_time_is_up(begin, silent_stripe):
    checkout = begin(minutes=10)
    silent_stripe.control(f"sessions/{checkout.stripe_session_id}/expire")

    sweep_all()

    checkout.refresh_from_db()
    assert (checkout.status, checkout.sweep_at) == ("expired", None)


def test_stripe_is_asked_soon_after_the_session_ends(begin):
    checkout = begin(minutes=10)
    now = timezone.now()
    Checkout.objects.update(sweeps=9, sweep_at=now, expires_at=now + timedelta(minutes=5))

    sweep_all()

    checkout.refresh_from_db()
    assert checkout.sweep_at == checkout.expires_at + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("method", "ok", "status"), [("bank_ok", True, "paid"), ("bank_fail", False, "failed")]
)
def test_a_bank_debit_is_followed_to_its_end(buy, silent_stripe, method, ok, status):
    buy(method, minutes=10)
    sweep_all()
    assert Purchase.objects.get().status == "pending"

    silent_stripe.settle(Purchase.objects.get().payment_intent_id, ok=ok)
    with later(hours=7):
        sweep_all()

    assert Purchase.objects.get().status == status


def test_while_stripe_is_down_nothing_is_given_up(buy, silent_stripe):
    checkout = buy(minutes=10)
    silent_stripe.fault("500")
    sweep_all()
    assert not Purchase.objects.exists()

    silent_stripe.fault("none")
    with later(minutes=31):
        sweep_all()

    checkout.refresh_from_db()
    assert checkout.status == "complete"


def test_one_that_cannot_be_recorded_holds_up_no_others(buy):
    doomed = buy(minutes=20)
    Checkout.objects.update(snapshot={**doomed.snapshot, "duration": "for ever"})
    buy(minutes=10)

    assert sweep_all() == 2

    assert Purchase.objects.get().status == "paid"
    doomed.refresh_from_db()
    assert doomed.sweep_at > timezone.now() + timedelta(minutes=20)


def test_a_checkout_without_a_session_is_closed_when_its_day_is_over(begin):
    checkout = begin(minutes=10)
    Checkout.objects.update(stripe_session_id=None)
    sweep_all()
    assert Checkout.objects.get().status == "open"

    with later(hours=25):
        sweep_all()

    checkout.refresh_from_db()
    assert (checkout.status, checkout.sweep_at) == ("expired", None)


def test_a_disabled_tenants_payment_waits_until_it_is_enabled(buy, tenant):
    buy(minutes=10)
    tenant.is_active = False
    tenant.save()
    sweep_all()
    assert not Purchase.objects.exists()

    tenant.is_active = True
    tenant.save()
    with later(minutes=31):
        sweep_all()

    assert Purchase.objects.get().status == "paid"


@pytest.mark.django_db(transaction=True)
def test_several_workers_ask_about_each_checkout_once(buy):
    for number in range(6):
        buy(minutes=10, email=f"reader{number}@example.com")

    swept = at_once([in_own_connection(sweep_all)] * 3)

    assert sum(swept) == 6
    assert Purchase.objects.filter(status="paid").count() == 6


@pytest.fixture
def environ(silent_stripe, spool_folder):
    return {
        "STRIPE_API_BASE": silent_stripe.url,
        "STRIPE_SECRET_KEY": KEY,
        "WEBHOOK_SPOOL_DIR": str(spool_folder),
    }


@pytest.mark.django_db(transaction=True)
def test_what_a_killed_worker_asked_about_is_due_again_within_a_minute(buy, silent_stripe, environ):
    buy(minutes=10)
    silent_stripe.fault("slow", seconds=30)
    with running_worker(environ) as worker:
        wait_until(Checkout.objects.filter(sweeps=1).exists, timeout=60)
        worker.kill()
    silent_stripe.fault("none")
    assert sweep_all() == 0

    with later(seconds=61):
        assert sweep_all() == 1

    assert Purchase.objects.get().status == "paid"


@pytest.mark.django_db(transaction=True)
def test_the_worker_sweeps(buy, environ):
    buy(minutes=10)

    with running_worker(environ):
        wait_until(Purchase.objects.exists, timeout=60)

    assert Purchase.objects.get().fulfilled_by == "sweep"
