"""What failed is tried again when its time has come, and what was held when the cause has gone."""

import json
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from fulfillment import inbox
from fulfillment.models import StripeEvent
from purchases.models import Purchase
from tenants.models import PaymentAccount, Tenant
from tests.conftest import ACCOUNT_ID, changed


def work_off():
    while inbox.work_on_due():
        pass


def later(**time):
    return time_machine.travel(timezone.now() + timedelta(**time), tick=True)


@pytest.fixture
def failing(db):
    """While it lasts, the database refuses every purchase."""
    refuse, accept = {
        "sqlite": (
            (
                "CREATE TRIGGER refuse BEFORE INSERT ON purchases_purchase "
                "BEGIN SELECT RAISE(ABORT, 'refused'); END"
            ),
            "DROP TRIGGER refuse",
        ),
        "postgresql": (
            "ALTER TABLE purchases_purchase ADD CONSTRAINT refuse CHECK (false) NOT VALID",
            "ALTER TABLE purchases_purchase DROP CONSTRAINT refuse",
        ),
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(refuse)

    def mend():
        with connection.cursor() as cursor:
            cursor.execute(accept)

    return mend


def test_what_failed_waits_for_its_time_and_is_tried_again(failing, checkout, deliver, paid_event):
    deliver(paid_event)
    failing()
    work_off()
    assert StripeEvent.objects.get().status == "failed"

    with later(seconds=7):
        work_off()

    assert Purchase.objects.get().status == "paid"


def test_every_attempt_waits_longer_until_it_is_given_up(failing, checkout, deliver, paid_event):
    deliver(paid_event)
    waits = []
    with time_machine.travel(timezone.now(), tick=False) as clock:
        while (record := StripeEvent.objects.get()).status == "failed":
            waits.append((record.next_attempt_at - timezone.now()).total_seconds())
            clock.move_to(record.next_attempt_at)
            work_off()

    # The first was planned a moment before the clock was stopped.
    planned = [delay.total_seconds() for delay in inbox.RETRY_DELAYS]
    assert all(0.7 <= wait / delay <= 1.2 for wait, delay in zip(waits, planned, strict=True))
    assert (record.status, record.outcome) == ("held", "gave_up")


def test_one_that_fails_for_ever_does_not_hold_up_the_others(
    failing, checkout, deliver, paid_event
):
    poison = changed(paid_event, event_id="evt_poison", account=ACCOUNT_ID)
    deliver(poison)
    expired = changed(paid_event, event_id="evt_expired", id="cs_nobody", metadata={})
    StripeEvent.objects.create(
        id="evt_expired",
        payload=json.dumps(expired).encode(),
        status="failed",
        next_attempt_at=timezone.now(),
        channel="webhook",
    )

    with later(seconds=7):
        work_off()

    assert StripeEvent.objects.get(pk="evt_expired").outcome == "not_ours"
    assert StripeEvent.objects.get(pk="evt_poison").attempts == 2


@pytest.fixture
def failed_record(transactional_db, checkout, paid_event):
    return StripeEvent.objects.create(
        id=paid_event["id"],
        payload=json.dumps(paid_event).encode(),
        status="failed",
        attempts=1,
        next_attempt_at=timezone.now(),
        channel="webhook",
    )


def test_a_database_that_is_busy_costs_no_attempt(failed_record, lock):
    with pytest.raises(Exception, match="lock"):
        inbox.work_on_due()

    lock.close()
    failed_record.refresh_from_db()
    assert (failed_record.status, failed_record.attempts) == ("failed", 1)


def test_a_tenant_that_is_enabled_gets_what_was_held(checkout, tenant, deliver, paid_event):
    Tenant.objects.update(is_active=False)
    deliver(paid_event)
    work_off()
    assert StripeEvent.objects.get().outcome == "tenant_inactive"

    Tenant.objects.update(is_active=True)
    work_off()

    assert Purchase.objects.get().status == "paid"


def test_an_account_that_is_connected_late_gets_what_was_held(
    checkout, account, deliver, paid_event
):
    PaymentAccount.objects.update(stripe_account_id="acct_elsewhere")
    deliver(paid_event)
    work_off()
    assert StripeEvent.objects.get().outcome == "tenant_mismatch"

    PaymentAccount.objects.update(stripe_account_id=ACCOUNT_ID)
    work_off()

    assert Purchase.objects.get().status == "paid"


def test_what_is_held_for_good_is_not_worked_on_again(checkout, other_account, deliver, paid_event):
    deliver(changed(paid_event, account=other_account.stripe_account_id))

    assert inbox.work_on_due() == 0

    assert StripeEvent.objects.get().outcome == "tenant_mismatch"


def test_a_record_that_was_left_behind_is_found(checkout, paid_event):
    StripeEvent.objects.create(
        id=paid_event["id"], payload=json.dumps(paid_event).encode(), channel="webhook"
    )
    work_off()
    assert StripeEvent.objects.get().status == "received"

    with later(minutes=2):
        work_off()

    assert Purchase.objects.get().status == "paid"


def test_what_can_no_longer_be_read_is_held(db):
    StripeEvent.objects.create(
        id="evt_torn",
        payload=b'{"id": "evt_torn"',
        status="failed",
        next_attempt_at=timezone.now(),
        channel="webhook",
    )

    assert [inbox.work_on_due(), inbox.work_on_due()] == [1, 0]

    record = StripeEvent.objects.get()
    assert (record.status, record.outcome) == ("held", "unparsable")
    assert "not JSON" in record.error
