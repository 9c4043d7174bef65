"""Deliveries that look real but match no secret: kept, few of them, and let in once it is right."""

import json
import threading
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from fulfillment import quarantine
from fulfillment.models import RejectedDelivery, StripeEvent
from purchases.models import Purchase
from tests.conftest import changed, sign
from tests.server import post as send
from tests.test_spool import REFUSE

MODES = ["always_200", "store_or_503", "strict"]
WRONG = "whsec_test_of_another_endpoint_000"
RIGHT = "whsec_test_of_the_right_endpoint_0"
URL = "/api/webhooks/stripe"
HEX = "0123456789abcdef" * 4


@pytest.fixture
def post(client, db):
    def post(body, header):
        return client.post(
            URL, body, content_type="application/json", headers={"Stripe-Signature": header}
        )

    return post


@pytest.fixture
def rejected(checkout, deliver, paid_event):
    """A paid event that came while the secret was wrong."""
    return deliver(paid_event, secret=RIGHT)


@pytest.fixture
def reverify():
    def reverify(*arguments):
        output = StringIO()
        call_command("reverify", *arguments, stdout=output)
        return output.getvalue().splitlines()

    return reverify


def now_header(signature=HEX):
    return f"t={int(timezone.now().timestamp())},v1={signature}"


# --- what is kept


@pytest.mark.parametrize("mode", MODES)
def test_a_delivery_that_no_secret_signed_is_kept(mode, deliver, paid_event, settings):
    settings.STRIPE_WEBHOOK_RESPONSES = mode

    response = deliver(paid_event, secret=WRONG)

    kept = RejectedDelivery.objects.get()
    assert response.status_code == (400 if mode == "strict" else 200)
    assert json.loads(bytes(kept.body)) == paid_event
    assert "STRIPE_WEBHOOK_SECRET" in kept.reason
    assert not StripeEvent.objects.exists()


def test_with_no_secret_set_yet_deliveries_are_kept(deliver, paid_event, settings):
    settings.STRIPE_WEBHOOK_SECRET = ""

    deliver(paid_event, secret=WRONG)

    assert RejectedDelivery.objects.count() == 1


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        f"v1={HEX}",
        "t=NOW",
        "t=NOW,v1=",
        "t=NOW,v1=abc",
        f"t=NOW,v1={HEX}0",
        f"t=NOW,v1={HEX[:-1]}g",
        f"t=NOW,v0={HEX}",
        f"t=1700000000,v1={HEX}",
    ],
    ids=lambda header: header[:30],
)
def test_what_cannot_be_a_signature_is_not_kept(header, post):
    post(b"{}", header.replace("NOW", str(int(timezone.now().timestamp()))))

    assert not RejectedDelivery.objects.exists()


@pytest.mark.parametrize(
    ("age", "is_kept"), [(300, True), (301, False), (-300, True), (-301, False)]
)
def test_only_what_comes_in_time_is_kept(age, is_kept, deliver, paid_event):
    with time_machine.travel(1_793_000_000, tick=False):
        deliver(paid_event, secret=WRONG, timestamp=1_793_000_000 - age)

    assert RejectedDelivery.objects.exists() is is_kept


@pytest.mark.parametrize(("size", "is_kept"), [(64 * 1024, True), (64 * 1024 + 1, False)])
def test_only_what_is_no_larger_than_an_event_is_kept(size, is_kept, post):
    post(b" " * size, now_header())

    assert RejectedDelivery.objects.exists() is is_kept


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"[" * 1000])
def test_any_bytes_are_kept(body, post):
    post(body, now_header())

    assert bytes(RejectedDelivery.objects.get().body) == body


def test_of_the_header_only_what_may_match_is_kept(post):
    post(b"{}", f"v0=x,{now_header()},v1=\x00,v1={'é' * 64},junk={'j' * 5000}")

    kept = RejectedDelivery.objects.get().signature
    assert kept.isascii()
    assert len(kept) < 100


@pytest.mark.parametrize("mode", MODES)
def test_without_a_database_the_answer_is_the_same(mode, lock, deliver, paid_event, settings):
    settings.STRIPE_WEBHOOK_RESPONSES = mode
    with lock.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("LOCK TABLE fulfillment_rejecteddelivery")

    response = deliver(paid_event, secret=WRONG)

    lock.close()
    assert response.status_code == (400 if mode == "strict" else 200)
    assert not RejectedDelivery.objects.exists()


def test_the_log_says_what_to_do_and_that_it_was_kept(deliver, caplog, paid_event):
    deliver(paid_event, secret=WRONG)

    assert "'kept': True" in caplog.text
    assert "copy it from the endpoint's page" in caplog.text


# --- how much is kept


def test_five_in_a_second_are_kept(deliver, paid_event):
    with time_machine.travel(1_793_000_000, tick=False) as clock:
        for _ in range(7):
            deliver(paid_event, secret=WRONG)
        in_the_first = RejectedDelivery.objects.count()
        clock.shift(1)
        deliver(paid_event, secret=WRONG)

    assert (in_the_first, RejectedDelivery.objects.count()) == (5, 6)


def test_the_newest_thousand_are_kept(deliver, paid_event):
    start = datetime(2026, 10, 1, tzinfo=UTC)
    RejectedDelivery.objects.bulk_create(
        RejectedDelivery(
            body=b"{}", signature="t=1", reason="", received_at=start + timedelta(seconds=number)
        )
        for number in range(1000)
    )

    for _ in range(3):
        deliver(paid_event, secret=WRONG)

    assert RejectedDelivery.objects.count() == 1000
    assert RejectedDelivery.objects.earliest("received_at").received_at == start + timedelta(
        seconds=3
    )


def test_a_flood_of_several_processes_fills_little(allegro, paid_event):
    body = json.dumps(paid_event).encode()
    statuses = []

    def flood():
        for _ in range(25):
            headers = {"Stripe-Signature": sign(body, secret=WRONG)}
            statuses.append(send(f"{allegro.url}{URL}", body, headers).status)

    threads = [threading.Thread(target=flood) for _ in range(4)]
    started = timezone.now()
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    seconds = (timezone.now() - started).total_seconds()

    assert statuses == [200] * 100
    # Each of the senders may be counting when another one's is stored.
    assert RejectedDelivery.objects.count() <= 5 * (seconds + 1) + 4


# --- let in


def test_once_the_secret_is_right_what_was_kept_is_fulfilled(
    rejected, reverify, recorded, paid_event, settings
):
    received_at = RejectedDelivery.objects.get().received_at
    settings.STRIPE_WEBHOOK_SECRET = RIGHT

    with time_machine.travel(timezone.now() + timedelta(days=1)):
        lines = reverify()

    record = StripeEvent.objects.get()
    assert rejected.status_code == 200
    assert recorded(paid_event) == ("done", "fulfilled")
    assert (record.channel, record.received_at) == ("webhook", received_at)
    assert Purchase.objects.get().status == "paid"
    assert not RejectedDelivery.objects.exists()
    assert lines == [
        f"{received_at:%Y-%m-%d %H:%M:%S} admitted {paid_event['id']} done fulfilled",
        "1 admitted.",
    ]


def test_with_the_secret_still_wrong_all_stay(rejected, reverify):
    lines = reverify()

    assert lines[-1] == "1 still rejected."
    assert RejectedDelivery.objects.count() == 1
    assert not StripeEvent.objects.exists()


def test_one_that_was_tampered_with_stays(post, reverify, checkout, paid_event, settings):
    body = json.dumps(paid_event).encode()
    post(body.replace(b"25000", b"25001"), sign(body, secret=RIGHT))
    post(body, sign(body, secret=RIGHT))
    settings.STRIPE_WEBHOOK_SECRET = RIGHT

    lines = reverify()

    assert lines[-1] == "1 still rejected, 1 admitted."
    assert b"25001" in bytes(RejectedDelivery.objects.get().body)
    assert Purchase.objects.get().amount_total == 25000


def test_its_age_is_that_at_receipt(rejected, reverify, settings):
    """A signature replayed long after it was made is no better for having been kept."""
    RejectedDelivery.objects.update(received_at=timezone.now() + timedelta(seconds=310))
    settings.STRIPE_WEBHOOK_SECRET = RIGHT

    assert reverify()[-1] == "1 still rejected."


def test_a_dry_run_changes_nothing(rejected, reverify, settings):
    settings.STRIPE_WEBHOOK_SECRET = RIGHT

    lines = reverify("--dry-run")

    assert lines[-1] == "1 genuine, and left for now."
    assert RejectedDelivery.objects.count() == 1
    assert not StripeEvent.objects.exists()


def test_a_second_run_finds_nothing(rejected, reverify, settings):
    settings.STRIPE_WEBHOOK_SECRET = RIGHT
    reverify()

    assert reverify() == ["No rejected deliveries are kept."]
    assert Purchase.objects.count() == 1


def test_one_that_came_again_meanwhile_is_fulfilled_once(
    rejected, reverify, deliver, paid_event, settings
):
    settings.STRIPE_WEBHOOK_SECRET = RIGHT
    deliver(paid_event, secret=RIGHT)

    reverify()

    assert StripeEvent.objects.count() == Purchase.objects.count() == 1
    assert not RejectedDelivery.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_runs_side_by_side_fulfill_once(checkout, deliver, paid_event, reverify, settings):
    for _ in range(3):
        deliver(paid_event, secret=RIGHT)
    settings.STRIPE_WEBHOOK_SECRET = RIGHT
    barrier = threading.Barrier(2)
    errors = []

    def run():
        barrier.wait()
        try:
            reverify()
        except CommandError as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert errors == []
    assert not RejectedDelivery.objects.exists()
    assert StripeEvent.objects.count() == Purchase.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_one_that_the_database_refuses_stays(deliver, reverify, paid_event, settings):
    refuse, accept = REFUSE[connection.vendor]
    deliver(changed(paid_event, event_id="evt_poison"), secret=RIGHT)
    settings.STRIPE_WEBHOOK_SECRET = RIGHT
    with connection.cursor() as cursor:
        cursor.execute(refuse)

    with pytest.raises(CommandError, match="1 could not be stored"):
        reverify()

    with connection.cursor() as cursor:
        cursor.execute(accept)
    assert RejectedDelivery.objects.count() == 1
    assert reverify()[-1] == "1 admitted."


# --- which secret it was


def test_the_record_tells_the_secrets_apart_and_gives_none_away(deliver, paid_event, settings):
    settings.STRIPE_WEBHOOK_SECRET = f"{WRONG},{RIGHT}"

    for number, secret in enumerate([WRONG, RIGHT, RIGHT]):
        deliver(changed(paid_event, event_id=f"evt_{number}"), secret=secret)

    first, second, third = StripeEvent.objects.order_by("pk").values_list("signed_by", flat=True)
    assert first != second == third
    assert len(first) == 16
    assert first not in WRONG


# --- the admin


LIST = "/admin/fulfillment/rejecteddelivery/"


def press(client):
    ticked = list(RejectedDelivery.objects.values_list("pk", flat=True))
    return client.post(LIST, {"action": "verify_again", "_selected_action": ticked}, follow=True)


def test_an_operator_lets_in_what_is_genuine(admin_client, rejected, settings):
    settings.STRIPE_WEBHOOK_SECRET = RIGHT

    page = press(admin_client)

    assert "1 settled" in page.text
    assert Purchase.objects.get().status == "paid"
    assert not RejectedDelivery.objects.exists()


def test_an_operator_is_told_what_is_still_rejected(admin_client, rejected):
    page = press(admin_client)

    assert "1 still rejected" in page.text
    assert "STRIPE_WEBHOOK_SECRET" in page.text
    assert RejectedDelivery.objects.count() == 1


def test_letting_in_takes_a_permission(client, rejected, django_user_model, settings):
    settings.STRIPE_WEBHOOK_SECRET = RIGHT
    viewer = django_user_model.objects.create(username="viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_rejecteddelivery"))
    client.force_login(viewer)

    press(client)

    assert RejectedDelivery.objects.count() == 1
    assert not Purchase.objects.exists()


ALARM_PAGES = ["/admin/", "/admin/fulfillment/stripeevent/"]


@pytest.mark.parametrize("url", ALARM_PAGES)
def test_the_admin_is_red_while_deliveries_are_refused(admin_client, deliver, paid_event, url):
    for _ in range(5):
        deliver(paid_event, secret=WRONG)

    assert "run `manage.py reverify`" in admin_client.get(url).text


@pytest.mark.parametrize("url", ALARM_PAGES)
def test_the_admin_is_not_red_else(admin_client, deliver, paid_event, url):
    for _ in range(5):
        deliver(paid_event, secret=WRONG)
    deliver(paid_event)

    assert "reverify" not in admin_client.get(url).text


def test_who_may_not_see_events_is_not_alarmed(client, deliver, paid_event, django_user_model):
    client.force_login(django_user_model.objects.create(username="clerk", is_staff=True))
    for _ in range(5):
        deliver(paid_event, secret=WRONG)

    assert "reverify" not in client.get(reverse("admin:index")).text


def test_the_alarm_is_over_once_they_are_let_in(deliver, reverify, paid_event, settings):
    for _ in range(5):
        deliver(paid_event, secret=RIGHT)
    was_alarming = quarantine.is_alarming()
    settings.STRIPE_WEBHOOK_SECRET = RIGHT

    reverify()

    assert (was_alarming, quarantine.is_alarming()) == (True, False)
