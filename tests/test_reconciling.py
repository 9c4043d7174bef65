"""What Stripe has and the inbox lacks is taken in, whatever Stripe thinks was delivered."""

from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from fulfillment.models import Reconciliation, StripeEvent
from fulfillment.reconciling import reconcile_next
from purchases.models import CreditPackage, Entitlement, Purchase
from tenants.keys import create_key
from tenants.models import ApiKey, PaymentAccount, Tenant
from tests.conftest import ACCOUNT_ID, OTHER_ACCOUNT_ID, inbox_failing
from tests.sandbox_server import KEY
from tests.test_concurrency import at_once
from tests.waiting import wait_until
from tests.worker import in_own_connection, running_worker

pytest_plugins = ["tests.silent_stripe"]


def reconcile(*arguments):
    """What the command prints."""
    printed = StringIO()
    call_command("reconcile", *arguments, stdout=printed, stderr=printed)
    return printed.getvalue()


def reconcile_all():
    """Reconcile every account that is due; returns how many were."""
    done = 0
    while reconcile_next():
        done += 1
    return done


def later(**time):
    return time_machine.travel(timezone.now() + timedelta(**time), tick=True)


def row(account_id=ACCOUNT_ID):
    return Reconciliation.objects.get(account_id=account_id)


def statuses():
    return sorted(Purchase.objects.values_list("status", flat=True))


# --- on demand


def test_what_no_webhook_brought_is_fulfilled(buy):
    buy()

    printed = reconcile()

    purchase = Purchase.objects.get()
    assert (purchase.status, purchase.fulfilled_by) == ("paid", "reconcile")
    assert Entitlement.objects.active().count() == 2
    assert set(StripeEvent.objects.values_list("channel", flat=True)) == {"reconcile"}
    assert f"{ACCOUNT_ID}: 2 of 2 were missing" in printed


def test_of_many_events_only_the_missing_are_taken_in(buy, silent_stripe, deliver):
    """Over a hundred, so that there is more than one page."""
    for number in range(60):
        buy(email=f"reader{number}@example.com")
    events = silent_stripe.client.v1.events.list(
        {"type": "checkout.session.completed", "limit": 20}, {"stripe_account": ACCOUNT_ID}
    )
    for event in events.data:
        deliver({**event.to_dict(), "account": ACCOUNT_ID})

    printed = reconcile()

    assert "100 of 120 events were missing" in printed
    assert statuses() == ["paid"] * 60
    assert Purchase.objects.filter(fulfilled_by="webhook").count() == 20
    assert "0 of 120 events were missing" in reconcile()


def test_refunds_and_disputes_are_found_too(buy, silent_stripe):
    for number in range(2):
        buy(email=f"reader{number}@example.com")
    reconcile()
    refunded, disputed = Purchase.objects.order_by("created_at")
    silent_stripe.refund(refunded.payment_intent_id)
    silent_stripe.dispute(disputed.payment_intent_id)

    reconcile()

    assert statuses() == ["disputed", "refunded"]
    assert not Entitlement.objects.active().exists()


def test_a_dry_run_only_counts(buy):
    buy()

    printed = reconcile("--dry-run")

    assert "2 of 2 events are missing" in printed
    assert not StripeEvent.objects.exists()


def test_since_limits_how_far_back_it_looks(buy):
    buy()

    with later(hours=3):
        assert "0 of 0 events" in reconcile("--since", "2h")
        assert "2 of 2 events" in reconcile("--since", "4h")


@pytest.mark.parametrize(
    "since", ["31d", "yesterday", "2026-13-01T00:00", "-1h", "2020-01-01T00:00Z"]
)
def test_a_time_that_stripe_does_not_reach_is_refused(silent_stripe, db, since):
    with pytest.raises(CommandError, match="--since"):
        reconcile(f"--since={since}")


def test_one_tenant_alone(buy, other_account):
    buy()

    printed = reconcile("--tenant", "rival")

    assert "0 of 0 events" in printed
    assert not Purchase.objects.exists()


def test_an_unknown_tenant_is_named(db):
    with pytest.raises(CommandError, match="There is no tenant 'nobody'"):
        reconcile("--tenant", "nobody")


def test_a_tenant_without_account_is_told_so(tenant):
    with pytest.raises(CommandError, match="acme has no connected account in test mode"):
        reconcile("--tenant", "acme")


@pytest.mark.parametrize("fault", ["429", "500", "garbage"])
def test_an_account_that_cannot_be_asked_is_named_and_fails_the_command(buy, silent_stripe, fault):
    buy()
    silent_stripe.fault(fault)

    with pytest.raises(CommandError, match="2 accounts could not be asked"):
        reconcile()

    silent_stripe.fault("none")
    reconcile()
    assert statuses() == ["paid"]


def test_a_bought_credit_package_is_found_on_the_platforms_account(
    client, silent_stripe, tenant, account
):
    key = create_key(tenant, ApiKey.Kind.SECRET)
    CreditPackage.objects.update_or_create(
        key="10_credits", defaults={"credits": 10, "amount": 25000, "currency": "eur"}
    )
    answer = client.post(
        "/api/v1/credits/checkout",
        {
            "package": "10_credits",
            "success_url": "https://acme.example/done?session={CHECKOUT_SESSION_ID}",
            "cancel_url": "https://acme.example/",
        },
        content_type="application/json",
        headers={"Authorization": f"Bearer {key}"},
    )
    silent_stripe.pay(answer.json()["checkout_url"].rpartition("/")[2])

    printed = reconcile()

    assert "platform: 2 of 2 were missing" in printed
    assert tenant.credit_entries.get().amount == 10


# --- by the clock


def test_each_account_has_its_turn_and_then_rests(buy, other_account):
    buy()

    assert reconcile_all() == 3

    assert reconcile_all() == 0
    assert row().finished_at is not None
    assert row().due_at == row().started_at + timedelta(minutes=15)


def test_an_account_that_fails_each_time_lets_the_others_go_first(buy):
    buy()
    reconcile_all()
    Reconciliation.objects.filter(account_id=ACCOUNT_ID).update(due_at=timezone.now())

    for minutes in (16, 18):
        with (
            later(minutes=minutes),
            inbox_failing(ACCOUNT_ID, OperationalError("lock timeout")),
            pytest.raises(OperationalError),
        ):
            reconcile_all()

    assert row().finished_at < row().started_at
    assert row("").finished_at > timezone.now() + timedelta(minutes=17)


def test_what_may_still_be_on_its_way_is_not_called_missing(buy):
    buy()
    reconcile_all()
    assert (row().events_seen, row().events_missing) == (0, 0)

    with later(minutes=16):
        reconcile_all()

        assert (row().events_seen, row().events_missing) == (2, 2)
        assert row().missing_total == 2
    assert statuses() == ["paid"]


def test_it_looks_a_day_back_often_and_three_days_once_a_day(buy):
    with later(days=-2):
        buy()
    account = PaymentAccount.objects.get()
    Reconciliation.objects.create(
        account_id=account.stripe_account_id,
        livemode=False,
        started_at=timezone.now(),
        finished_at=timezone.now(),
        deep_due_at=timezone.now() + timedelta(hours=1),
    )
    reconcile_all()
    assert not Purchase.objects.exists()

    with later(hours=2):
        reconcile_all()

    assert statuses() == ["paid"]
    assert row().deep_due_at == row().started_at + timedelta(hours=24)


def test_after_a_long_silence_it_looks_as_far_back_as_that(buy):
    reconcile_all()
    buy()

    with later(days=20):
        reconcile_all()

    assert statuses() == ["paid"]


def test_what_stripe_would_not_say_is_asked_again_soon(buy, silent_stripe):
    buy()
    silent_stripe.fault("500")
    reconcile_all()
    assert row().finished_at is None
    assert row().error.startswith("Stripe did not answer")

    silent_stripe.fault("none")
    with later(minutes=3):
        assert reconcile_all() == 2

    assert (row().error, statuses()) == ("", ["paid"])


def test_a_disconnected_account_is_left_alone(buy, account):
    buy()
    account.disconnected_at = timezone.now()
    account.save()

    assert reconcile_all() == 1

    assert not Purchase.objects.exists()


def test_a_reconnected_account_has_its_turn_at_once(buy, account):
    reconcile_all()
    account.disconnected_at = timezone.now()
    account.save()
    buy_at = later(minutes=-5)
    with buy_at:
        PaymentAccount.objects.update(disconnected_at=None)
        buy()
        PaymentAccount.objects.update(disconnected_at=timezone.now())
    PaymentAccount.objects.update(disconnected_at=None, connected_at=timezone.now())

    assert reconcile_all() == 1

    assert statuses() == ["paid"]


def test_the_other_modes_accounts_are_left_alone(silent_stripe, tenant):
    PaymentAccount.objects.create(tenant=tenant, stripe_account_id="acct_live", livemode=True)

    assert reconcile_all() == 1

    assert row("").error == ""


@pytest.mark.django_db(transaction=True)
def test_several_workers_take_each_account_once(buy, other_account):
    buy()

    done = at_once([in_own_connection(reconcile_all)] * 3)

    assert sum(done) == 3


@pytest.mark.django_db(transaction=True)
def test_a_killed_workers_account_is_due_again_within_a_minute(buy, silent_stripe, spool_folder):
    with later(minutes=-10):
        buy()
    silent_stripe.fault("slow", seconds=30, path="/v1/events")
    environ = {
        "STRIPE_API_BASE": silent_stripe.url,
        "STRIPE_SECRET_KEY": KEY,
        "WEBHOOK_SPOOL_DIR": str(spool_folder),
    }
    with running_worker(environ) as worker:
        wait_until(Reconciliation.objects.exclude(started_at=None).exists, timeout=60)
        worker.kill()
    silent_stripe.fault("none")

    with later(seconds=61):
        reconcile_all()

    assert statuses() == ["paid"]


def test_two_tenants_events_stay_apart(buy, silent_stripe, other_account):
    buy()
    rival = Tenant.objects.get(slug="rival")
    session = silent_stripe.client.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": "eur",
                        "unit_amount": 100,
                        "product_data": {"name": "Elsewhere"},
                    },
                }
            ],
            "success_url": "https://rival.example/",
            "metadata": {"tenant_id": str(PaymentAccount.objects.first().tenant_id)},
        },
        {"stripe_account": OTHER_ACCOUNT_ID},
    )
    silent_stripe.pay(session.id)

    reconcile()

    held = StripeEvent.objects.get(account_id=OTHER_ACCOUNT_ID, type__startswith="checkout")
    assert (held.status, held.outcome, held.tenant) == ("held", "tenant_mismatch", rival)
    assert statuses() == ["paid"]
