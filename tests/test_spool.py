"""What the database can't take waits on disk, and gets through once it can."""

import json
import os
import stat
import time
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection

from fulfillment import spool
from fulfillment.models import StripeEvent
from purchases.models import Purchase
from tests.conftest import LOCK, changed, inbox_failing, sign
from tests.server import request, running_server

MODES = ["always_200", "store_or_503", "strict"]


@pytest.fixture
def spooled(checkout, lock, deliver, paid_event):
    """A paid event that came while the database was locked, which it is no more."""
    response = deliver(paid_event)
    lock.close()
    return response


@pytest.mark.parametrize("mode", MODES)
def test_an_event_that_the_database_cannot_take_is_acknowledged(
    mode, checkout, lock, deliver, paid_event, settings
):
    settings.STRIPE_WEBHOOK_RESPONSES = mode

    response = deliver(paid_event)

    lock.close()
    assert (response.status_code, response.json()) == (200, {"received": True})
    assert spool.measure().files == 1
    assert not StripeEvent.objects.exists()


def test_an_event_is_kept_whatever_stands_between_it_and_the_database(
    checkout, deliver, paid_event
):
    with inbox_failing(paid_event["id"], RuntimeError("a fault of the driver")):
        deliver(paid_event)

    assert spool.measure().files == 1


def test_a_spooled_event_is_fulfilled_once_the_database_is_back(spooled, paid_event):
    drained = spool.drain()

    record = StripeEvent.objects.get(pk=paid_event["id"])
    assert drained == 1
    assert (record.status, record.outcome, record.channel) == ("done", "fulfilled", "spool")
    assert Purchase.objects.get().status == "paid"
    assert spool.measure() == spool.Depth(files=0, bytes=0, oldest=None)


def test_a_spooled_event_keeps_the_time_it_came(spooled):
    came = spool.measure().oldest

    spool.drain()

    assert StripeEvent.objects.get().received_at == came


def test_process_events_drains_the_spool(spooled):
    call_command("process_events", stdout=StringIO())

    assert Purchase.objects.get().status == "paid"


def test_an_event_spooled_and_delivered_again_is_fulfilled_once(spooled, deliver, paid_event):
    deliver(paid_event)

    spool.drain()

    assert StripeEvent.objects.count() == Purchase.objects.count() == 1
    assert spool.measure().files == 0


def test_the_same_event_twice_is_one_file(checkout, lock, deliver, paid_event):
    deliver(paid_event)
    deliver(paid_event)

    lock.close()
    assert spool.measure().files == 1


def test_what_cannot_be_drained_now_stays(checkout, lock, deliver, paid_event):
    deliver(paid_event)

    drained = spool.drain()

    lock.close()
    assert (drained, spool.measure().files) == (0, 1)


REFUSE = {
    "sqlite": (
        (
            "CREATE TRIGGER refuse BEFORE INSERT ON fulfillment_stripeevent "
            "WHEN NEW.id = 'evt_poison' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ),
        "DROP TRIGGER refuse",
    ),
    "postgresql": (
        "ALTER TABLE fulfillment_stripeevent ADD CONSTRAINT refuse CHECK (id <> 'evt_poison')",
        "ALTER TABLE fulfillment_stripeevent DROP CONSTRAINT refuse",
    ),
}


@pytest.fixture
def poison(transactional_db, paid_event):
    """An event whose content the database refuses."""
    refuse, accept = REFUSE[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(refuse)
    yield changed(paid_event, event_id="evt_poison")
    with connection.cursor() as cursor:
        cursor.execute(accept)


def test_a_poison_event_is_set_aside_and_the_others_pass(
    poison, checkout, deliver, paid_event, spool_folder
):
    answer = deliver(poison)
    spool.store(json.dumps(paid_event).encode())

    spool.drain()

    assert answer.status_code == 200
    assert StripeEvent.objects.get().outcome == "fulfilled"
    assert json.loads(next(spool_folder.glob("bad/*.evt")).read_text())["id"] == "evt_poison"
    assert spool.measure().files == 0


@pytest.mark.parametrize(
    "error", [OperationalError("lock timeout"), RuntimeError("a bug")], ids=str
)
def test_events_that_have_to_wait_hold_up_no_others(error, checkout, paid_event, spool_folder):
    for number in range(spool.PATIENCE):
        spool.store(json.dumps(changed(paid_event, event_id="evt_waits", id=number)).encode())
    for file in spool_folder.glob("*.evt"):
        os.utime(file, (0, 0))
    spool.store(json.dumps(paid_event).encode())

    with inbox_failing("evt_waits", error):
        drained = [spool.drain() for _ in range(2)]

    assert drained == [0, 1]
    assert Purchase.objects.get().status == "paid"
    assert spool.measure().oldest.timestamp() == 0


def test_what_cannot_be_read_holds_up_no_others(checkout, paid_event, spool_folder):
    spool.store(json.dumps(paid_event).encode())
    for number in range(2):
        unreadable = spool_folder / f"{number}.evt"
        unreadable.mkdir()
        os.utime(unreadable, (0, 0))

    assert spool.drain(limit=1) == 1


def test_what_a_killed_process_was_writing_goes_after_an_hour(db, spool_folder):
    spool.measure()
    for name, age in {"old.tmp": 3700, "young.tmp": 3500}.items():
        (spool_folder / name).touch()
        os.utime(spool_folder / name, (time.time() - age,) * 2)

    spool.drain()

    assert [file.name for file in spool_folder.glob("*.tmp")] == ["young.tmp"]


def test_nobody_else_can_read_the_spool(spooled, spool_folder):
    (file,) = spool_folder.glob("*.evt")

    assert stat.S_IMODE(spool_folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_full_spool_takes_no_more(checkout, lock, deliver, paid_event, settings, monkeypatch):
    settings.STRIPE_WEBHOOK_RESPONSES = "store_or_503"
    monkeypatch.setattr(spool, "MAX_FILES", 1)
    deliver(changed(paid_event, event_id="evt_first"))

    response = deliver(paid_event)

    lock.close()
    assert (response.status_code, response.headers["Retry-After"]) == (503, "60")
    assert spool.measure().files == 1


def test_an_unverified_body_is_never_spooled(lock, deliver, paid_event):
    deliver(paid_event, secret="whsec_test_of_somebody_else_00000")

    lock.close()
    assert spool.measure().files == 0


@pytest.mark.django_db(transaction=True)
def test_a_starting_server_takes_in_what_the_last_one_left(
    checkout, paid_event, spool_folder, settings
):
    spool.store(json.dumps(paid_event).encode())

    with running_server(workers=1, env={"WEBHOOK_SPOOL_DIR": os.fspath(spool_folder)}):
        status = Purchase.objects.get().status

    assert status == "paid"
    assert spool.measure().files == 0


@pytest.mark.django_db(transaction=True)
def test_a_locked_database_does_not_keep_stripe_waiting(checkout, paid_event, spool_folder):
    body = json.dumps(paid_event).encode()
    rival = connection.copy()
    with running_server(workers=1, env={"WEBHOOK_SPOOL_DIR": os.fspath(spool_folder)}) as server:
        with rival.cursor() as cursor:
            for statement in LOCK[connection.vendor]:
                cursor.execute(statement)

        # Longer than 8 s, the client gives up: PostgreSQL waits 1.2 s for a lock, SQLite 5 s.
        answer = request(
            "POST",
            f"{server.url}/api/webhooks/stripe",
            body,
            {"Stripe-Signature": sign(body)},
            timeout=8,
        )

    rival.close()
    assert answer.status == 200
    assert spool.measure().files == 1
