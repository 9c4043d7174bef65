"""What monitoring is told: alive, ready, and whether events get through."""

import os
import socket
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from fulfillment import spool
from fulfillment.models import Reconciliation, RejectedDelivery, StripeEvent, Worker
from tests.conftest import changed
from tests.server import request, running_server

TOKEN = "test-metrics-token-0123456789"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
PRIVATE = ["/health/webhooks", "/metrics"]
PUBLIC = ["/health/live", "/health/ready"]


@pytest.fixture
def webhooks(client, db):
    """Ask how the webhook does: the status and the answer."""

    def webhooks():
        response = client.get("/health/webhooks", headers=AUTHORIZED)
        return response.status_code, response.json()

    return webhooks


def event(number, **fields):
    return StripeEvent.objects.create(
        id=f"evt_{number}", payload=b"{}", channel="webhook", **fields
    )


def reject(count):
    for _ in range(count):
        RejectedDelivery.objects.create(body=b"{}", signature="t=1", reason="no secret")


# --- every address


@pytest.mark.parametrize("url", [*PUBLIC, *PRIVATE])
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("method", ["get", "head"])
def test_each_address_answers_in_both_spellings_and_is_never_cached(client, db, url, slash, method):
    response = getattr(client, method)(f"{url}{slash}", headers=AUTHORIZED)

    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("url", [*PUBLIC, *PRIVATE])
def test_nothing_is_changed_here(client, db, url):
    assert client.post(url, headers=AUTHORIZED).status_code == 405


@pytest.mark.parametrize("url", [*PUBLIC, *PRIVATE])
def test_behind_a_proxy_the_server_itself_may_be_asked(client, db, url, settings):
    settings.SECURE_SSL_REDIRECT = True

    assert client.get(url, headers=AUTHORIZED).status_code == 200


@pytest.mark.parametrize("url", PRIVATE)
@pytest.mark.parametrize(
    "header", ["", TOKEN, "Bearer", "Bearer ", f"Bearer {TOKEN}x", "Bearer \xe9", f"Basic {TOKEN}"]
)
def test_figures_are_for_who_has_the_token(client, db, url, header):
    response = client.get(url, headers={"Authorization": header})

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("url", PRIVATE)
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer "])
def test_without_a_token_in_the_settings_nobody_has_it(client, db, url, header, settings):
    settings.METRICS_TOKEN = ""

    assert client.get(url, headers={"Authorization": header}).status_code == 404


# --- live and ready


def test_a_process_is_alive_whatever_its_database_does(client, django_db_blocker):
    with django_db_blocker.block():
        response = client.get("/health/live")

    assert response.json() == {"status": "ok"}


def test_a_server_in_order_is_ready(client, db):
    assert client.get("/health/ready").json() == {"status": "ok", "reasons": []}


def test_a_server_with_migrations_to_run_is_not_ready(client, db):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'fulfillment'")

    response = client.get("/health/ready")

    assert response.status_code == 503
    (reason,) = response.json()["reasons"]
    assert "manage.py migrate" in reason
    assert "fulfillment.0001_initial" in reason


def test_a_server_that_can_spool_nothing_is_not_ready(client, db, spool_folder):
    spool_folder.write_text("a file where the folder should be")

    response = client.get("/health/ready")

    assert response.status_code == 503
    (reason,) = response.json()["reasons"]
    assert "WEBHOOK_SPOOL_DIR" in reason
    assert str(spool_folder) not in reason


@pytest.fixture(scope="module")
def cut_off():
    """A server whose database takes connections and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgres://user:password@127.0.0.1:{silent.getsockname()[1]}/allegro"
        with running_server(workers=1, env={"DATABASE_URL": url}) as server:
            yield server


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/health/live", 200),
        ("/health/ready", 503),
        ("/health/webhooks", 503),
        ("/metrics", 200),
    ],
)
def test_without_a_database_each_answers_in_time(cut_off, url, status):
    started = time.monotonic()

    answer = request("GET", cut_off.url + url, headers=AUTHORIZED)

    assert answer.status == status
    assert time.monotonic() - started < 4
    assert b"password" not in answer.body


def test_without_a_database_the_reason_is_told(cut_off):
    answer = request("GET", f"{cut_off.url}/health/ready")

    assert b"DATABASE_URL" in answer.body


# --- the way from Stripe


def test_all_is_well_with_nothing_to_do(webhooks):
    status, answer = webhooks()

    assert (status, answer["status"], answer["reasons"]) == (200, "ok", [])
    assert (answer["failed"], answer["held"], answer["oldest_due_seconds"]) == (0, {}, 0)


def test_five_rejected_and_none_accepted_is_red(webhooks):
    reject(5)

    status, answer = webhooks()

    assert (status, answer["status"], answer["rejected_in_last_10_minutes"]) == (503, "red", 5)
    assert "STRIPE_WEBHOOK_SECRET" in answer["reasons"][0]
    assert "manage.py reverify" in answer["reasons"][0]


def test_four_rejected_are_not(webhooks):
    reject(4)

    assert webhooks()[0] == 200


def test_rejected_ones_do_not_count_for_longer_than_ten_minutes(webhooks):
    reject(5)
    RejectedDelivery.objects.update(received_at=timezone.now() - timedelta(minutes=11))

    assert webhooks()[0] == 200


def test_one_accepted_shows_that_the_secret_is_right(webhooks, deliver, paid_event):
    reject(5)

    deliver(paid_event)

    assert webhooks()[0] == 200


@pytest.mark.parametrize(
    ("channel", "type_"), [("reconcile", "charge.succeeded"), ("webhook", "allegro.self_test")]
)
def test_an_event_that_stripe_did_not_bring_shows_nothing(webhooks, channel, type_):
    reject(5)
    StripeEvent.objects.create(id="evt_1", payload=b"{}", channel=channel, type=type_)

    status, answer = webhooks()

    assert status == 503
    assert answer["last_accepted"] is None


def test_an_event_due_for_more_than_five_minutes_is_red(webhooks):
    ago = timezone.now() - timedelta(minutes=6)
    event(1, status="failed", outcome="KeyError", received_at=ago, next_attempt_at=ago)

    status, answer = webhooks()

    assert (status, answer["failed"]) == (503, 1)
    assert 360 <= answer["oldest_due_seconds"] < 400
    assert "process_events" in answer["reasons"][0]


def test_an_event_whose_time_has_not_come_is_not_due(webhooks):
    now = timezone.now()
    event(
        1, status="failed", received_at=now - timedelta(hours=3), next_attempt_at=now + timedelta(1)
    )

    status, answer = webhooks()

    assert (status, answer["failed"], answer["oldest_due_seconds"]) == (200, 1, 0)


def test_what_is_held_is_counted_by_its_reason(webhooks, deliver, account, paid_event):
    deliver(changed(paid_event, metadata={"tenant_id": "not this one", "plan_id": "x"}))
    day_ago = timezone.now() - timedelta(days=1)
    event(1, status="held", outcome="gave_up", received_at=day_ago)

    status, answer = webhooks()

    assert (status, answer["held"]) == (200, {"tenant_mismatch": 1, "gave_up": 1})


def test_an_event_on_disk_is_shown_and_red_after_two_minutes(webhooks, spool_folder):
    spool.store(b"{}")
    fresh = webhooks()
    ago = time.time() - 150
    (file,) = spool_folder.glob("*.evt")
    os.utime(file, (ago, ago))

    status, answer = webhooks()

    assert (fresh[0], fresh[1]["spool_files"], fresh[1]["spool_bytes"]) == (200, 1, 2)
    assert status == 503
    assert 150 <= answer["spool_oldest_seconds"] < 200


def test_a_file_that_the_database_refused_is_red(webhooks, spool_folder):
    (spool_folder / "bad").mkdir(parents=True)
    (spool_folder / "bad" / "x.evt").write_bytes(b"{}")

    status, answer = webhooks()

    assert (status, answer["spool_refused_files"]) == (503, 1)


def test_when_the_rest_last_ran_is_told(webhooks, deliver, paid_event):
    now = timezone.now()
    Worker.objects.create(name="host:1", seen_at=now)
    Reconciliation.objects.create(livemode=False, finished_at=now, events_missing=2)
    deliver(paid_event)

    _, answer = webhooks()

    assert answer["worker_last_seen"] == answer["last_reconciliation"]
    assert answer["reconciliation_missing"] == 2
    assert answer["last_accepted"] > answer["worker_last_seen"]
