"""Faults that only a database server can have; SQLite's own tests leave this file out."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction
from django.utils import timezone

from bench.world import refund_of, store_as_failed
from fulfillment.models import StripeEvent
from fulfillment.payments import lock_payment
from tenants.models import Member
from tests import faults
from tests.conftest import ACCOUNT_ID
from tests.fault_shop import RECOVERY_TIMEOUT
from tests.waiting import wait_until
from tests.worker import running_worker

pytestmark = pytest.mark.usefixtures("transactional_db")


@pytest.fixture
def transactional_db(shop):
    """In place of pytest-django's, which would empty the database under the running worker."""


@pytest.fixture
def sold(shop):
    """A purchase, of which the refund is still to come."""
    (body,) = shop.sell(1)
    shop.deliver([body])
    return body


def test_the_loser_of_a_deadlock_is_tried_again(shop, sold):
    payment = json.loads(sold)["data"]["object"]["payment_intent"]
    # Whose timeout is shorter finds the deadlock, and loses.
    shop.clerk.alter("SET deadlock_timeout = '100ms'")
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL deadlock_timeout = '1min'")
            list(Member.objects.select_for_update())
            delivery = thread.submit(shop.deliver, [refund_of(sold)])
            wait_until(shop.clerk.is_waiting)
            lock_payment(ACCOUNT_ID, payment)
        (answer,) = delivery.result()
    shop.clerk.alter("RESET deadlock_timeout")

    assert answer.status == 200
    record = StripeEvent.objects.get(pk=f"evt_refund_{payment}")
    assert (record.status, record.channel) == ("done", "webhook")
    assert "deadlock detected" not in shop.server.log()
    shop.verify()


def test_a_worker_outlives_its_sessions_and_ends_when_told(shop, sold):
    with faults.sessions_ended_again_and_again(shop):
        wait_until(lambda: "scheduler_restarts" in shop.worker.log(), timeout=RECOVERY_TIMEOUT)

    fail_once(shop, refund_of(sold))
    shop.verify()
    assert shop.worker.stop() == 0
    shop.worker.start()
    shop.worker.wait_until_running()


def test_a_forgotten_lock_holds_up_only_what_needs_it(shop, sold):
    with faults.member_rows_locked(shop):
        fail_once(shop, refund_of(sold))
        wait_until(shop.clerk.is_waiting)
        (other,) = shop.sell(1)
        record = fail_once(shop, other)
        wait_until(lambda: status_of(record) == "done", timeout=RECOVERY_TIMEOUT)
        shop.worker.stop()
        assert "stripe_event_postponed" in shop.worker.log()
    shop.worker.start()
    StripeEvent.objects.filter(status="failed").update(next_attempt_at=timezone.now())
    shop.verify()


def test_a_paused_worker_is_overtaken_within_a_minute(shop, sold):
    with faults.member_rows_locked(shop):
        record = fail_once(shop, refund_of(sold))
        wait_until(shop.clerk.is_waiting)
        os.kill(shop.worker.pid, signal.SIGSTOP)
        paused = time.monotonic()

    with running_worker(shop.env):
        wait_until(lambda: status_of(record) == "done", timeout=RECOVERY_TIMEOUT)
    overtaken = time.monotonic()
    os.kill(shop.worker.pid, signal.SIGCONT)

    assert overtaken - paused < 60
    shop.verify()
    assert shop.worker.stop() == 0
    shop.worker.start()
    shop.worker.wait_until_running()


def fail_once(shop, body):
    """Have the event as a record that failed and is due; returns the record."""
    store_as_failed([body])
    shop.acknowledged.append(body)
    return StripeEvent.objects.get(pk=json.loads(body)["id"])


def status_of(record):
    return StripeEvent.objects.values_list("status", flat=True).get(pk=record.pk)
