"""Notifications: each event reaches each endpoint, signed, however the other side behaves."""

import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError

from fulfillment import worker
from purchases import endpoints, notifications
from purchases.models import NotificationDelivery, NotificationEndpoint, PurchaseEvent
from tenants.keys import create_key
from tenants.models import ApiKey, Member, Tenant
from tests.receiver import running_receiver
from tests.test_admin import page_of, press
from tests.test_concurrency import at_once

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
RETRIES = [5, 60, 300, 1800, 7200, 21600, 43200, 86400]


@pytest.fixture
def receiver(settings):
    settings.NOTIFICATIONS_ALLOW_PRIVATE = True
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture
def api(client, secret_key):
    """Call the API as the tenant's server."""

    def api(method, path, body=None, *, key=secret_key):
        return client.generic(
            method,
            f"/api/v1/{path}",
            "" if body is None else json.dumps(body),
            content_type="application/json",
            headers={"Authorization": f"Bearer {key}"},
        )

    return api


@pytest.fixture
def registered(api, receiver):
    """The answer to registering the receiver."""
    answer = api("POST", "notification-endpoints", {"url": receiver.url})
    assert answer.status_code == 201
    return answer.json()


@pytest.fixture
def endpoint(registered):
    return NotificationEndpoint.objects.get(pk=registered["id"])


@pytest.fixture
def event(tenant, endpoint):
    """One event that the endpoint is to hear of."""
    return happen(tenant)


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as clock:
        yield clock


def happen(tenant, kind="credits.added", **fields):
    return PurchaseEvent.objects.create(tenant=tenant, type=kind, data={"credits": 10}, **fields)


def work():
    """A turn of the worker."""
    notifications.collect()
    return notifications.deliver_due()


def the_delivery():
    return NotificationDelivery.objects.get()


# --- what is sent


def test_a_purchase_is_told_signed_and_in_order(
    deliver, checkout, paid_event, receiver, registered
):
    deliver(paid_event)

    work()

    messages = [
        Webhook(registered["secret"]).verify(request.body, request.headers)
        for request in receiver.received
    ]
    assert [message["type"] for message in messages] == [
        "purchase.completed",
        "entitlement.granted",
        "entitlement.granted",
    ]
    assert receiver.ids == [f"msg_{event.id}" for event in PurchaseEvent.objects.order_by("id")]
    assert not NotificationDelivery.objects.exclude(status="delivered").exists()


def test_the_body_is_the_event_of_the_feed_with_whom_it_is_about(tenant, endpoint, receiver):
    member = Member.objects.create(tenant=tenant, email="a@example.com", external_id="crm-1")
    event = happen(tenant, member=member)

    work()

    (request,) = receiver.received
    body = json.loads(request.body)
    assert body["type"] == "credits.added"
    assert datetime.fromisoformat(body["timestamp"]) == event.created_at
    assert body["data"] == {
        "id": event.id,
        "type": "credits.added",
        "created_at": body["timestamp"],
        "member": str(member.id),
        "purchase": None,
        "data": {"credits": 10},
        "email": "a@example.com",
        "external_id": "crm-1",
    }
    assert request.path == "/hook?from=allegro"
    assert request.headers["User-Agent"] == "Allegro/1"
    assert request.headers["Content-Type"] == "application/json"


def test_an_event_of_nobody_names_nobody(event, receiver):
    work()

    data = json.loads(receiver.received[0].body)["data"]
    assert (data["member"], data["email"], data["external_id"]) == (None, None, None)


def test_another_secret_does_not_verify(event, receiver, registered):
    work()

    (request,) = receiver.received
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_AAAA").verify(request.body, request.headers)


def test_a_new_endpoint_hears_only_of_what_comes_after_it(tenant, receiver, api):
    happen(tenant)
    api("POST", "notification-endpoints", {"url": receiver.url})
    later = happen(tenant)

    work()

    assert receiver.ids == [f"msg_{later.id}"]


def test_each_endpoint_of_the_tenant_hears_and_no_others(tenant, event, api, receiver):
    rival = Tenant.objects.create(slug="rival", name="Rival")
    endpoints.create_endpoint(rival, receiver.url)
    endpoints.create_endpoint(tenant, receiver.url)
    happen(tenant)

    work()

    assert len(receiver.received) == 3
    assert not NotificationDelivery.objects.filter(endpoint__tenant=rival).exists()


def test_what_was_delivered_is_not_sent_again(event, receiver):
    work()
    work()

    assert len(receiver.received) == 1


def test_more_events_than_a_batch_all_arrive_queued(tenant, endpoint, monkeypatch):
    monkeypatch.setattr(notifications, "BATCH", 2)
    events = [happen(tenant) for _ in range(5)]

    counts = [notifications.collect() for _ in range(4)]

    assert counts == [2, 2, 1, 0]
    assert set(NotificationDelivery.objects.values_list("event", flat=True)) == {
        event.id for event in events
    }


def test_a_round_sends_no_more_than_it_may(tenant, endpoint, receiver):
    [happen(tenant) for _ in range(3)]
    notifications.collect()

    assert notifications.deliver_due(limit=2) == 2

    assert len(receiver.received) == 2


# --- when it is not taken


@pytest.mark.parametrize("status", [300, 302, 400, 404, 500])
def test_all_but_success_is_tried_again_later(status, event, receiver, clock):
    receiver.answers = [(status, {"Location": receiver.url})]

    work()

    delivery = the_delivery()
    assert len(receiver.received) == 1
    assert (delivery.status, delivery.attempts, delivery.response_status) == ("pending", 1, status)
    assert 5 <= (delivery.next_attempt_at - NOON).total_seconds() <= 6


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_success_will_do(status, event, receiver, clock):
    receiver.answers = [(status, {})]

    work()

    delivery = the_delivery()
    assert (delivery.status, delivery.response_status) == ("delivered", status)
    assert (delivery.delivered_at, delivery.next_attempt_at) == (NOON, None)


def test_retries_come_further_and_further_apart_until_the_last(event, receiver, clock):
    receiver.answers = [(500, {})] * 9
    waits = []

    for _ in RETRIES:
        work()
        waits.append((the_delivery().next_attempt_at - timezone.now()).total_seconds())
        clock.move_to(the_delivery().next_attempt_at)
    work()

    assert [wait // seconds for wait, seconds in zip(waits, RETRIES, strict=True)] == [1] * 8
    assert set(receiver.ids) == {f"msg_{event.id}"}
    assert (len(receiver.ids), the_delivery().status) == (9, "failed")


def test_a_retry_is_signed_with_its_own_time(event, receiver, registered, clock):
    receiver.answers = [(500, {})]
    work()
    clock.shift(timedelta(hours=1))

    work()

    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert Webhook(registered["secret"]).verify(second.body, second.headers)
    assert int(second.headers["webhook-timestamp"]) == int(NOON.timestamp()) + 3600


def test_nothing_is_sent_before_its_time(event, receiver, clock):
    receiver.answers = [(500, {})]
    work()
    clock.shift(timedelta(seconds=4))

    assert work() == 0


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [
        (429, "3600", 3600),
        (503, "3600", 3600),
        (503, "999999999999", 86400),
        (503, "1", 5),
        (503, "-1", 5),
        (503, "Wed, 21 Oct 2026 07:28:00 GMT", 5),
        (500, "3600", 5),
    ],
)
def test_an_endpoint_may_say_when_to_come_back(
    status, retry_after, seconds, event, receiver, clock
):
    receiver.answers = [(status, {"Retry-After": retry_after})]

    work()

    wait = (the_delivery().next_attempt_at - NOON).total_seconds()
    assert seconds <= wait <= max(seconds, 6)


def test_a_server_that_is_down_is_told_later(event, endpoint, receiver, clock):
    NotificationEndpoint.objects.update(url="http://127.0.0.1:1/")

    work()

    delivery = the_delivery()
    assert (delivery.attempts, delivery.response_status) == (1, None)
    assert delivery.error == "The connection failed: Connection refused."


def test_after_a_failure_the_rest_waits_for_the_next_round(tenant, event, receiver):
    happen(tenant)
    receiver.answers = [(500, {})] * 2

    work()

    assert len(receiver.received) == 1
    assert work() == 1


# --- disabling


def endpoint_now():
    return NotificationEndpoint.objects.get()


def test_gone_disables_the_endpoint(event, receiver):
    receiver.answers = [(410, {})]

    work()

    endpoint = endpoint_now()
    assert endpoint.disabled_at is not None
    assert endpoint.disabled_reason == "The endpoint answered 410 Gone."
    assert the_delivery().status == "pending"


def test_five_days_of_failure_disable_the_endpoint(tenant, event, receiver, clock):
    receiver.answers = [(500, {})] * 3
    work()
    clock.shift(timedelta(days=4, hours=23))
    work()
    assert endpoint_now().disabled_at is None
    clock.shift(timedelta(hours=2))

    work()

    assert endpoint_now().disabled_reason == "Nothing was taken for five days."


def test_one_success_begins_the_count_anew(tenant, event, receiver, clock):
    receiver.answers = [(500, {}), (200, {}), (500, {})]
    work()
    clock.shift(timedelta(days=3))
    work()
    clock.shift(timedelta(days=3))
    happen(tenant)

    work()

    assert (endpoint_now().disabled_at, endpoint_now().failing_since) == (None, timezone.now())


def test_a_disabled_endpoint_gets_what_it_missed_once_it_is_enabled(tenant, event, api, receiver):
    receiver.answers = [(410, {})]
    work()
    missed = happen(tenant)
    assert work() == 0

    answer = api("POST", f"notification-endpoints/{endpoint_now().id}/enable")
    work()

    assert answer.json()["disabled_at"] is None
    assert sorted(receiver.ids[1:]) == sorted([f"msg_{event.id}", f"msg_{missed.id}"])


def test_a_disabled_tenant_is_told_nothing_until_it_is_enabled(tenant, event, receiver):
    Tenant.objects.update(is_active=False)
    assert work() == 0
    Tenant.objects.update(is_active=True)

    work()

    assert len(receiver.received) == 1


# --- the secret


def test_the_secret_is_shown_once_and_encrypted(registered, api, endpoint):
    listed = api("GET", "notification-endpoints").content
    shown = api("GET", f"notification-endpoints/{endpoint.id}").content

    secret = registered["secret"].encode()
    assert secret not in listed + shown + bytes(endpoint.secret_encrypted)


def test_for_a_day_the_old_secret_signs_too(event, registered, endpoint, api, receiver, clock):
    answer = api("POST", f"notification-endpoints/{endpoint.id}/rotate-secret")
    work()
    clock.shift(timedelta(hours=25))
    happen(endpoint.tenant)
    work()

    during, after = receiver.received
    new = Webhook(answer.json()["secret"])
    clock.move_to(NOON)
    assert Webhook(registered["secret"]).verify(during.body, during.headers)
    assert new.verify(during.body, during.headers)
    clock.shift(timedelta(hours=25))
    assert new.verify(after.body, after.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(registered["secret"]).verify(after.body, after.headers)


def test_a_secret_outlives_the_key_it_is_encrypted_with(event, registered, receiver, settings):
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another-secret-key-that-protects-nothing-0123456789"

    work()

    (request,) = receiver.received
    assert Webhook(registered["secret"]).verify(request.body, request.headers)


def test_a_secret_that_can_not_be_read_says_what_to_do(event, receiver, settings):
    settings.SECRET_KEY = "another-secret-key-that-protects-nothing-0123456789"

    work()

    assert receiver.received == []
    assert the_delivery().error == "SECRET_KEY was replaced; rotate the endpoint's secret."


# --- the API


def error(answer):
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    return answer.status_code, error["type"]


def test_an_endpoint_is_listed_shown_and_deleted(api, registered, event, receiver):
    work()
    path = f"notification-endpoints/{registered['id']}"
    expected = {name: registered[name] for name in registered if name != "secret"}

    assert api("GET", "notification-endpoints").json()["data"] == [expected]
    assert api("GET", path).json() == expected
    assert api("DELETE", path).status_code == 204
    assert error(api("GET", path)) == (404, "not_found")
    assert not NotificationDelivery.objects.exists()


@pytest.mark.parametrize("body", [{}, {"url": ""}, {"url": 1}, {"url": "https://" + "a" * 2000}])
def test_a_url_is_needed(body, api):
    assert error(api("POST", "notification-endpoints", body)) == (400, "invalid_request")


def test_a_refused_url_says_why(api):
    answer = api("POST", "notification-endpoints", {"url": "https://10.0.0.1/"})

    assert error(answer) == (400, "invalid_request")
    assert answer.json()["error"]["details"] == {
        "url": ["The host must have an address on the public Internet."]
    }


def test_there_are_ten_endpoints_at_most(api, tenant):
    answers = [
        api("POST", "notification-endpoints", {"url": f"https://example.com/{number}"})
        for number in range(11)
    ]

    assert [answer.status_code for answer in answers] == [201] * 10 + [409]
    assert error(answers[-1]) == (409, "too_many_endpoints")


def test_deliveries_are_listed_by_status(api, tenant, event, registered, receiver):
    receiver.answers = [(500, {})]
    work()
    happen(tenant)
    work()
    path = f"notification-endpoints/{registered['id']}/deliveries"

    rows = {
        query: [row["event"] for row in api("GET", f"{path}{query}").json()["data"]]
        for query in ("", "?status=pending", "?status=delivered", "?status=failed")
    }

    assert sorted(rows[""]) == [event.id, event.id + 1]
    assert rows["?status=pending"] == [event.id]
    assert rows["?status=delivered"] == [event.id + 1]
    assert rows["?status=failed"] == []
    assert error(api("GET", f"{path}?status=lost")) == (400, "invalid_request")


def test_a_delivery_is_sent_once_more_on_request(api, event, receiver):
    work()

    answer = api("POST", f"notification-deliveries/{the_delivery().id}/redeliver")
    work()

    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert receiver.ids == [f"msg_{event.id}"] * 2
    assert the_delivery().status == "delivered"


CALLS = [
    ("GET", "notification-endpoints/{}"),
    ("DELETE", "notification-endpoints/{}"),
    ("POST", "notification-endpoints/{}/rotate-secret"),
    ("POST", "notification-endpoints/{}/enable"),
    ("GET", "notification-endpoints/{}/deliveries"),
    ("POST", "notification-deliveries/{}/redeliver"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_anothers_is_like_what_does_not_exist(method, path, api, event, endpoint, receiver):
    work()
    before = (
        NotificationEndpoint.objects.values().get(),
        NotificationDelivery.objects.values().get(),
    )
    rival = create_key(Tenant.objects.create(slug="rival", name="Rival"), ApiKey.Kind.SECRET)
    foreign = the_delivery().id if "deliveries/" in path else endpoint.id

    answers = [
        api(method, path.format(name), key=rival) for name in (foreign, Tenant().id, "no-uuid")
    ]

    assert [error(answer) for answer in answers] == [(404, "not_found")] * 3
    assert len({answer.json()["error"]["message"] for answer in answers}) == 1
    after = NotificationEndpoint.objects.values().get(), NotificationDelivery.objects.values().get()
    assert before == after


def test_anothers_endpoints_are_not_listed(api, registered):
    rival = create_key(Tenant.objects.create(slug="rival", name="Rival"), ApiKey.Kind.SECRET)

    assert api("GET", "notification-endpoints", key=rival).json()["data"] == []


@pytest.mark.parametrize(("method", "path"), [*CALLS, ("GET", "notification-endpoints")])
def test_only_a_secret_key_is_let_in(method, path, api, endpoint, publishable_key):
    assert error(api(method, path.format(endpoint.id), key=publishable_key))[0] == 401


# --- the admin


def test_an_operator_sends_a_delivery_once_more(admin_client, event, receiver):
    work()

    page = press(admin_client, "redeliver", [the_delivery()])
    work()

    assert "1 queued to be sent once more." in page.text
    assert receiver.ids == [f"msg_{event.id}"] * 2


def test_an_operator_disables_and_enables_an_endpoint(admin_client, event, endpoint, receiver):
    press(admin_client, "disable", [endpoint])
    assert (work(), endpoint_now().disabled_reason) == (0, "An operator disabled it.")

    press(admin_client, "enable", [endpoint])

    assert (work(), endpoint_now().disabled_at) == (1, None)


@pytest.mark.parametrize("action", ["disable", "enable", "redeliver"])
def test_who_may_only_look_has_no_such_buttons(
    action, client, django_user_model, event, endpoint, receiver
):
    work()
    viewer = django_user_model.objects.create(username="viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(viewer)
    row = the_delivery() if action == "redeliver" else endpoint

    press(client, action, [row])

    assert (work(), endpoint_now().disabled_at) == (0, None)


def test_no_page_shows_a_secret(admin_client, registered, endpoint):
    page = admin_client.get(page_of(endpoint))

    assert registered["secret"] not in page.text
    assert bytes(endpoint.secret_encrypted).decode() not in page.text


# --- several workers, and ones that die


def test_a_worker_that_dies_before_noting_makes_another_send_again(event, receiver, clock):
    notifications.collect()
    # What the database holds when a worker was killed after sending: its claim, and no result.
    (claimed,) = notifications._claim(1, besides=(), held=Counter())
    notifications._send(claimed)
    assert work() == 0
    clock.shift(timedelta(seconds=61))

    work()

    assert receiver.ids == [f"msg_{event.id}"] * 2
    assert the_delivery().status == "delivered"


def test_a_late_failure_does_not_undo_a_success(event, receiver, clock):
    notifications.collect()
    (claimed,) = notifications._claim(1, besides=(), held=Counter())
    clock.shift(timedelta(seconds=61))
    work()

    notifications._note(claimed, notifications.Answer(error="There was no answer in time."))

    assert (the_delivery().status, the_delivery().error) == ("delivered", "")


@pytest.mark.django_db(transaction=True)
def test_collectors_at_once_queue_each_event_once(tenant, endpoint):
    events = [happen(tenant) for _ in range(20)]

    at_once([closing(notifications.collect)] * 4)
    notifications.collect()

    queued = NotificationDelivery.objects.values_list("event", flat=True)
    assert sorted(queued) == [event.id for event in events]


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_send_each_event_once(tenant, endpoint, receiver):
    events = [happen(tenant) for _ in range(20)]
    notifications.collect()

    at_once([closing(notifications.deliver_due)] * 4)
    notifications.deliver_due()

    assert sorted(receiver.ids) == sorted(f"msg_{event.id}" for event in events)


def closing(call):
    """The call for a thread, which has a database connection of its own."""

    def made():
        try:
            return call()
        finally:
            connections.close_all()

    return made


@pytest.mark.django_db(transaction=True)
def test_an_event_that_commits_late_is_not_missed(tenant, endpoint):
    is_written, may_commit = threading.Event(), threading.Event()

    def write_slowly():
        with transaction.atomic():
            happen(tenant)
            is_written.set()
            may_commit.wait(30)

    slow = threading.Thread(target=closing(write_slowly))
    quick = threading.Thread(target=closing(lambda: happen(tenant)))
    slow.start()
    is_written.wait(30)
    quick.start()
    # PostgreSQL lets the second one, with the higher id, commit first; SQLite makes it wait.
    quick.join(0.5)
    early = notifications.collect()
    may_commit.set()
    slow.join()
    quick.join()

    assert early + notifications.collect() == 2


@pytest.mark.django_db(transaction=True)
def test_a_slow_endpoint_does_not_hold_up_the_others(tenant, endpoint, receiver, settings):
    with running_receiver() as other:
        endpoints.create_endpoint(tenant, other.url)
        events = [happen(tenant) for _ in range(3)]
        notifications.collect()
        receiver.may_answer.clear()
        worker = threading.Thread(target=closing(notifications.deliver_due))
        worker.start()

        await_condition(lambda: len(other.received) == 3)

        assert len(receiver.received) == 1
        receiver.may_answer.set()
        worker.join()
    assert receiver.ids == [f"msg_{event.id}" for event in events]


@pytest.mark.django_db(transaction=True)
def test_a_tenant_with_many_slow_endpoints_does_not_hold_up_another(tenant, receiver, settings):
    rival = Tenant.objects.create(slug="rival", name="Rival Daily")
    for _ in range(notifications.THREADS):
        endpoints.create_endpoint(rival, receiver.url)
    happen(rival)
    notifications.collect()
    receiver.may_answer.clear()
    with running_receiver() as other:
        endpoints.create_endpoint(tenant, other.url)
        happen(tenant)
        notifications.collect()
        worker = threading.Thread(target=closing(notifications.deliver_due))
        worker.start()
        try:
            await_condition(lambda: other.received)
        finally:
            receiver.may_answer.set()
            worker.join()
    assert len(receiver.received) == notifications.THREADS


def await_condition(holds):
    for _ in range(1000):
        if holds():
            return
        threading.Event().wait(0.02)
    raise AssertionError("It did not come about within 20 s.")


def test_no_query_is_made_for_endpoints_without_news(tenant, endpoint, receiver):
    with CaptureQueriesContext(connection) as queries:
        notifications.collect()
        notifications.deliver_due()

    assert len(queries) == 2


def test_a_secret_is_renewed_so_that_the_former_key_can_go(event, registered, receiver, settings):
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another-secret-key-that-protects-nothing-0123456789"
    worker.tidy()
    settings.SECRET_KEY_FALLBACKS = []

    work()

    (request,) = receiver.received
    assert Webhook(registered["secret"]).verify(request.body, request.headers)
