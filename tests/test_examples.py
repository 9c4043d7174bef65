"""The example of a publisher's server, run as it stands against the running product."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from purchases import endpoints, notifications
from purchases.models import NotificationDelivery
from tenants import tokens
from tenants.keys import create_key
from tenants.models import ApiKey, Member
from tests.conftest import stripe_event
from tests.server import free_port, post, request

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "server.py"


@contextmanager
def running_example(**environ):
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, EXAMPLE],
        env={**os.environ, **environ, "PORT": str(port)},
        stderr=subprocess.PIPE,
    )
    try:
        assert b"Listening" in process.stderr.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def plan(plan):
    """The plan, with two credits for the member."""
    plan.credits = 2
    plan.save()
    return plan


@pytest.fixture
def shop(allegro, tenant, settings):
    """The address of the example, registered for notifications."""
    settings.NOTIFICATIONS_ALLOW_PRIVATE = True
    settings.ALLEGRO_URL = allegro.url
    endpoint, secret = endpoints.create_endpoint(tenant, "http://127.0.0.1:1/")
    with running_example(
        ALLEGRO_URL=allegro.url,
        TENANT_ID=str(tenant.id),
        SECRET_KEY=create_key(tenant, ApiKey.Kind.SECRET),
        NOTIFICATION_SECRET=secret,
    ) as url:
        endpoint.url = f"{url}/notifications"
        endpoint.save()
        yield url


@pytest.fixture
def buy(shop, deliver, checkout, paid_event):
    """A member buys; returns the token that the browser then has."""

    def buy():
        deliver(paid_event)
        return token_of(Member.objects.get())

    return buy


def token_of(member, *, authenticated=True):
    session = tokens.open_session(
        member,
        authenticated=authenticated,
        purchase_id=member.purchases.get().id,
        refresh_token=tokens.new_refresh_token(),
    )
    return tokens.issue_jwt(session, products=[])[0]


def ask(url, token, method="GET"):
    answer = request(method, url, headers={"Authorization": f"Bearer {token}"})
    return answer.status, json.loads(answer.body)


def test_a_member_who_bought_reads_the_article(shop, buy):
    assert ask(f"{shop}/article", buy()) == (200, {"article": "Once upon a time …"})


def test_after_a_refund_the_article_is_closed_at_once(shop, buy, deliver):
    token = buy()
    deliver(stripe_event("charge.refunded.full"))

    assert ask(f"{shop}/article", token) == (403, {"error": "Subscribe to read on."})


def test_a_token_that_is_not_the_members_own_is_refused(shop, buy, settings):
    token = buy()
    unproven = token_of(Member.objects.get(), authenticated=False)
    head, claims, _ = token.split(".")
    settings.ALLEGRO_URL = "https://other.example"
    foreign = token_of(Member.objects.get())

    statuses = [
        ask(f"{shop}/article", bad)[0]
        for bad in ("", "x", f"{head}.{claims}.{'A' * 342}", foreign, unproven)
    ]

    assert statuses == [401, 401, 401, 401, 403]


def test_an_order_takes_one_credit_however_often_it_is_asked_for(shop, buy):
    token = buy()

    answers = [
        ask(f"{shop}/download/{order}", token, "POST") for order in ("one", "one", "two", "three")
    ]

    assert [status for status, _ in answers] == [200, 200, 200, 422]
    assert [body.get("credits_left") for _, body in answers] == [1, 1, 0, None]


def test_the_example_hears_of_the_purchase_once(shop, buy):
    buy()
    notifications.collect()

    sent = notifications.deliver_due()
    endpoints.redeliver(NotificationDelivery.objects.all())
    notifications.deliver_due()

    states = NotificationDelivery.objects.values_list("status", "response_status")
    assert sent == 4
    assert set(states) == {("delivered", 200)}


def test_a_notification_that_is_not_signed_is_refused(shop):
    assert post(f"{shop}/notifications", b"{}").status == 400
