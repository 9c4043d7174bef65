"""How often one client may call, whichever process answers, and who is never turned away."""

from datetime import timedelta

import pytest
import time_machine
from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from fulfillment.models import StripeEvent
from tenants.keys import create_key
from tenants.models import ApiKey
from tenants.throttling import ClientThrottle
from tests.server import post, running_server

LIMITS = [
    ("/api/checkout/sessions", {"plan": "none"}, 30, 404),
    ("/api/purchases/exchange", {"token": "none"}, 90, 400),
    ("/api/members/token/refresh", {"refresh_token": "none"}, 30, 401),
]
CHECKOUT = LIMITS[0]
each_limit = pytest.mark.parametrize(
    ("path", "body", "limit", "status"), LIMITS, ids=lambda value: str(value).split("/")[-1]
)


@pytest.fixture
def fresh_counts(transactional_db):
    """The counts are no rows of a model, which would go with the test."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def call(client, publishable_key):
    def call(path, body, *, address="192.0.2.1", key=publishable_key, **headers):
        return client.post(
            path,
            body,
            content_type="application/json",
            headers={"Authorization": f"Bearer {key}", **headers},
            REMOTE_ADDR=address,
        )

    return call


def use_up(call, path, body, limit, **how):
    """Make as many calls as are allowed; their statuses."""
    return {call(path, body, **how).status_code for _ in range(limit)}


@each_limit
def test_a_client_that_calls_too_often_is_told_when_to_come_back(call, path, body, limit, status):
    assert use_up(call, path, body, limit) == {status}

    answer = call(path, body)

    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 61
    assert answer.json()["error"]["code"] == 429
    assert answer.json()["error"]["type"] == "throttled"
    assert answer.json()["meta"]["request_id"] == answer.headers["X-Request-Id"]


def test_after_that_time_it_may_call_again(call):
    path, body, limit, status = CHECKOUT
    use_up(call, path, body, limit)
    wait = int(call(path, body).headers["Retry-After"])

    with time_machine.travel(timezone.now() + timedelta(seconds=wait)):
        assert call(path, body).status_code == status


def test_one_clients_calls_are_not_anothers(call):
    path, body, limit, status = CHECKOUT
    use_up(call, path, body, limit)

    assert call(path, body, address="192.0.2.2").status_code == status


@pytest.mark.parametrize(
    ("one", "another", "is_one_client"),
    [
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_who_may_choose_an_address_of_a_network_is_one_client(call, one, another, is_one_client):
    path, body, limit, status = CHECKOUT
    use_up(call, path, body, limit, address=one)

    assert call(path, body, address=another).status_code == (429 if is_one_client else status)


def test_a_crowd_of_clients_frees_nobody(call):
    path, body, limit, _ = CHECKOUT
    use_up(call, path, body, limit)
    soon = connection.ops.adapt_datetimefield_value(timezone.now() + timedelta(minutes=1))
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO allegro_cache (cache_key, value, expires) VALUES (%s, '', %s)",
            [(f"some client {number}", soon) for number in range(1000)],
        )
    call(path, body, address="192.0.2.2")

    assert call(path, body).status_code == 429


def test_calls_to_one_tenant_are_not_calls_to_another(call, other_account):
    path, body, limit, status = CHECKOUT
    use_up(call, path, body, limit)
    key = create_key(other_account.tenant, ApiKey.Kind.PUBLISHABLE)

    assert call(path, body, key=key).status_code == status


def test_checkouts_do_not_use_up_exchanges(call):
    path, body, limit, _ = CHECKOUT
    use_up(call, path, body, limit)
    path, body, _, status = LIMITS[1]

    assert call(path, body).status_code == status


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Client-IP"])
def test_a_header_that_anyone_can_write_makes_no_new_client(call, header):
    path, body, limit, _ = CHECKOUT
    for number in range(limit):
        call(path, body, **{header: f"198.51.100.{number}"})

    assert call(path, body, **{header: "198.51.100.99"}).status_code == 429


def test_another_key_of_the_tenant_makes_no_new_client(call, tenant):
    path, body, limit, _ = CHECKOUT
    use_up(call, path, body, limit)

    another = create_key(tenant, ApiKey.Kind.PUBLISHABLE)

    assert call(path, body, key=another).status_code == 429


def test_the_webhook_is_never_throttled(deliver, checkout, paid_event):
    answers = {deliver(paid_event).status_code for _ in range(200)}

    assert answers == {200}
    assert StripeEvent.objects.count() == 1


def test_a_webhook_that_is_not_genuine_uses_nothing_up(deliver, call, checkout, paid_event):
    for _ in range(100):
        deliver(b"{}", secret="whsec_test_of_somebody_else")

    assert deliver(paid_event).status_code == 200
    assert StripeEvent.objects.get().status == "done"


def test_all_processes_count_together_and_per_address_behind_a_proxy(fresh_counts, publishable_key):
    environ = {"PROXY_HOPS": "1"}
    with (
        running_server(workers=1, env=environ) as one,
        running_server(workers=1, env=environ) as two,
    ):

        def statuses(seen_by_proxy, count):
            return [
                post(
                    f"{server.url}/api/checkout/sessions",
                    b'{"plan": "none"}',
                    {
                        "Authorization": f"Bearer {publishable_key}",
                        "Content-Type": "application/json",
                        # What stands left of the proxy's own entry is the client's to invent.
                        "X-Forwarded-For": f"203.0.113.{number}, {seen_by_proxy}",
                    },
                ).status
                for number in range(count)
                for server in (one, two)
            ]

        assert statuses("198.51.100.1", 15) == [404] * 30
        assert statuses("198.51.100.1", 1) == [429] * 2
        assert statuses("198.51.100.2", 1) == [404] * 2


@pytest.fixture
def server(client, tenant):
    """Call the API as the tenant's server."""
    key = create_key(tenant, ApiKey.Kind.SECRET)

    def server(path="/api/v1/products", key=key):
        return client.get(path, headers={"Authorization": f"Bearer {key}"})

    return server


def left(answer):
    names = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
    return [int(answer.headers[name]) for name in names]


def test_a_server_is_told_how_many_calls_it_has_left(server):
    with time_machine.travel(timezone.now(), tick=False) as clock:
        first = server()
        clock.shift(600)
        second = server("/api/v1/purchases/no-such-id")

    assert left(first) == [1000, 999, 3600]
    assert second.status_code == 404
    assert left(second) == [1000, 998, 3000]


def test_a_server_that_has_none_left_is_told_as_well(server, monkeypatch):
    monkeypatch.setitem(ClientThrottle.THROTTLE_RATES, "server", "2/hour")
    with time_machine.travel(timezone.now(), tick=False):
        server()
        server()
        answer = server()

    assert answer.status_code == 429
    assert left(answer) == [2, 0, 3600]


def test_a_stranger_has_no_calls_that_could_be_left(server):
    answer = server(key="sk_of_nobody")

    assert answer.status_code == 401
    assert "RateLimit-Limit" not in answer.headers
