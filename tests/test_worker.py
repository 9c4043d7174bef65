"""The worker as a process: what it does by itself, how it ends, and who goes on when it can't."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from fulfillment import spool
from fulfillment.models import StripeEvent, Worker
from purchases.models import Purchase
from tests.conftest import changed
from tests.waiting import wait_until
from tests.worker import running_worker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def environ(spool_folder):
    return {"WEBHOOK_SPOOL_DIR": str(spool_folder)}


@pytest.fixture
def failed(checkout, paid_event):
    """Events that failed once and are due again; returns as many as asked for."""

    def failed(count):
        return StripeEvent.objects.bulk_create(
            StripeEvent(
                id=f"evt_failed_{number}",
                payload=json.dumps(changed(paid_event, event_id=f"evt_failed_{number}")).encode(),
                status="failed",
                attempts=1,
                next_attempt_at=timezone.now() - timedelta(seconds=1),
                channel="webhook",
            )
            for number in range(count)
        )

    return failed


def all_done():
    return not StripeEvent.objects.exclude(status="done").exists()


def is_seen():
    return Worker.objects.exists()


def test_it_retries_what_failed(environ, failed):
    failed(3)

    with running_worker(environ):
        wait_until(all_done)

    assert Purchase.objects.get().status == "paid"


def test_it_drains_the_spool(environ, checkout, paid_event):
    with running_worker(environ):
        spool.store(json.dumps(paid_event).encode())
        wait_until(lambda: not spool.measure().files)

    assert StripeEvent.objects.get().channel == "spool"
    assert Purchase.objects.get().status == "paid"


def test_it_is_seen_while_it_lives_and_says_goodbye(environ, db):
    with running_worker(environ) as worker:
        wait_until(is_seen)
        status = worker.stop()

    assert status == 0
    assert not is_seen()


def test_what_a_killed_worker_was_at_is_taken_over(environ, failed):
    with running_worker(environ) as first:
        wait_until(is_seen)
        failed(100)
        wait_until(lambda: StripeEvent.objects.filter(status="done").exists())
        first.kill()
        with running_worker(environ):
            wait_until(all_done, timeout=60)

    assert Purchase.objects.count() == 1


def test_two_workers_share_the_work(environ, failed):
    failed(120)

    with running_worker(environ), running_worker(environ):
        wait_until(all_done, timeout=60)

    assert Purchase.objects.count() == 1
    assert set(StripeEvent.objects.values_list("attempts", flat=True)) == {1}
