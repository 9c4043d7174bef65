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
from tests.deployment import RECOVERY_TIMEOUT
from tests.waiting import wait_until
from tests.worker import running_worker

pytestmark = pytest.mark.usefixtures("transactional_db")


@pytest.fixture
def transactional_db(deployment):
    """In place of pytest-django's, which would empty the database under the running worker."""


@pytest.fixture
def sold(deployment):
    """A purchase, of which the refund is still to come."""
    (body,) = deployment.sell(1)
    deployment.deliver([body])
    return body


def test_the_loser_of_a_deadlock_is_tried_again(deployment, sold):
    payment = json.loads(sold)["data"]["object"]["payment_intent"]
    # Whose timeout is shorter finds the deadlock, and loses.
    deployment.clerk.alter("SET deadlock_timeout = '100ms'")
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL deadlock_timeout = '1min'")
            list(Member.objects.select_for_update())
            delivery = thread.submit(deployment.deliver, [refund_of(sold)])
            wait_until(deployment.clerk.is_waiting)
            lock_payment(ACCOUNT_ID, payment)
        (answer,) = delivery.result()
    deployment.clerk.alter("RESET deadlock_timeout")

    assert answer.status == 200
    record = StripeEvent.objects.get(pk=f"evt_refund_{payment}")
    assert (record.status, record.channel) == ("done", "webhook")
    assert "deadlock detected" not in deployment.server.log()
    deployment.verify()


def test_a_worker_outlives_its_sessions_and_ends_when_told(deployment, sold):
    with faults.sessions_ended_again_and_again(deployment):
        wait_until(
            lambda: "scheduler_restarts" in deployment.worker.log(), timeout=RECOVERY_TIMEOUT
        )

    fail_once(deployment, refund_of(sold))
    deployment.verify()
    assert deployment.worker.stop() == 0
    deployment.worker.start()
    deployment.worker.wait_until_running()


def test_a_forgotten_lock_holds_up_only_what_needs_it(deployment, sold):
    with faults.member_rows_locked(deployment):
        fail_once(deployment, refund_of(sold))
        wait_until(deployment.clerk.is_waiting)
        (other,) = deployment.sell(1)
        record = fail_once(deployment, other)
        wait_until(lambda: status_of(record) == "done", timeout=RECOVERY_TIMEOUT)
        deployment.worker.stop()
        assert "stripe_event_postponed" in deployment.worker.log()
    deployment.worker.start()
    StripeEvent.objects.filter(status="failed").update(next_attempt_at=timezone.now())
    deployment.verify()


def test_a_paused_host_is_overtaken_within_a_minute(deployment, sold):
    """Its sessions stay open, as those of a host that lost its network do."""
    (other,) = deployment.sell(1)
    deployment.deliver([other])
    with ThreadPoolExecutor(1) as thread:
        with faults.member_rows_locked(deployment):
            record = fail_once(deployment, refund_of(sold))
            wait_until(deployment.clerk.is_waiting)
            thread.submit(deployment.post, refund_of(other))
            wait_until(lambda: deployment.clerk.is_waiting(sessions=2))
            for process in (deployment.server, deployment.worker):
                os.killpg(process.pid, signal.SIGSTOP)
            paused = time.monotonic()

        with running_worker(deployment.env):
            wait_until(lambda: status_of(record) == "done", timeout=RECOVERY_TIMEOUT)
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '60s'")
                # Waits for whoever is at the same event.
                redelivered = fail_once(deployment, refund_of(other))
            overtaken = time.monotonic()
            wait_until(lambda: status_of(redelivered) == "done", timeout=RECOVERY_TIMEOUT)
        deployment.server.kill()
    deployment.server.start()
    os.killpg(deployment.worker.pid, signal.SIGCONT)

    assert overtaken - paused < 60
    deployment.verify()
    assert deployment.worker.stop() == 0
    deployment.worker.start()
    deployment.worker.wait_until_running()


def fail_once(deployment, body):
    """Have the event as a record that failed and is due; returns the record."""
    store_as_failed([body])
    deployment.acknowledged.append(body)
    return StripeEvent.objects.get(pk=json.loads(body)["id"])


def status_of(record):
    return StripeEvent.objects.values_list("status", flat=True).get(pk=record.pk)
