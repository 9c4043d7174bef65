"""What the production server writes to its log: one JSON object per line, and nothing personal."""

import json
from contextlib import contextmanager
from functools import partial
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection

from tests.conftest import ACCOUNT_ID, TENANT_ID, TOKEN, VERIFIER, changed, sign, stripe_event
from tests.server import post, request, running_server
from tests.stripe_stand_in import stripe_stand_in

pytestmark = pytest.mark.django_db(transaction=True)

PAID = stripe_event("checkout.session.completed.paid")
NOT_OURS = stripe_event("checkout.session.completed.stripe_trigger")
HOSTILE = 'x\r\n{"event": "webhook_delivery"}\x1b[31m\u2028\x9b'


@pytest.fixture(scope="module")
def running(django_db_setup):
    with (
        stripe_stand_in() as stripe,
        running_server(workers=1, env={"STRIPE_API_BASE": stripe.url}) as server,
    ):
        yield server, stripe


@pytest.fixture
def server(running, transactional_db):
    return running[0]


@pytest.fixture
def log(server):
    """What the server has written to its log since the test began."""
    start = len(server.log())
    return lambda: server.log()[start:]


def send(server, event, **headers):
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    headers = {"Stripe-Signature": sign(body), "Content-Type": "application/json", **headers}
    return post(f"{server.url}/api/webhooks/stripe", body, headers)


def send_json(server, path, body, **headers):
    headers = {"Content-Type": "application/json", **headers}
    return post(f"{server.url}{path}", json.dumps(body).encode(), headers)


def lines_of(log, event):
    """The log's lines of that name; one that is not JSON, whatever its name, fails here."""
    return [line for line in map(json.loads, log.splitlines()) if line["event"] == event]


def test_each_delivery_is_one_line_that_says_what_became_of_it(server, log, checkout):
    answer = send(server, PAID)
    send(server, PAID)
    send(server, NOT_OURS)

    first, repeat, not_ours = lines_of(log(), "webhook_delivery")
    assert first["verdict"] == "accepted"
    assert (first["event_id"], first["type"]) == (PAID["id"], "checkout.session.completed")
    assert (first["account"], first["tenant"]) == (ACCOUNT_ID, TENANT_ID)
    assert (first["status"], first["outcome"]) == ("done", "fulfilled")
    assert (first["repeated"], repeat["repeated"]) == (False, True)
    assert 0 < first["milliseconds"] < 10_000
    assert first["request_id"] == answer.headers["X-Request-Id"] != repeat["request_id"]
    assert (not_ours["status"], not_ours["outcome"]) == ("ignored", "not_ours")
    assert not_ours["tenant"] is None


def test_a_delivery_that_is_not_genuine_is_a_line_that_names_the_setting(server, log):
    send(server, PAID, **{"Stripe-Signature": sign(b"another body")})

    (line,) = lines_of(log(), "webhook_delivery")
    assert line["verdict"] == "not_genuine"
    assert "STRIPE_WEBHOOK_SECRET" in line["reason"]
    assert "milliseconds" in line


HOSTILE_EVENTS = [
    changed(PAID, event_id="evt_1", metadata={"tenant_id": HOSTILE}),
    changed(PAID, event_id="evt_2", payment_status=HOSTILE),
    changed(PAID, event_id="evt_3", mode=HOSTILE),
    changed(PAID, event_id="evt_4", id=HOSTILE),
    changed(PAID, event_id=HOSTILE),
    {**PAID, "id": "evt_5", "type": HOSTILE},
    {**PAID, "id": "evt_6", "account": HOSTILE},
    {**PAID, "id": "evt_7", HOSTILE: HOSTILE},
    HOSTILE.encode(),
]


def test_hostile_text_stays_on_its_line(server, log, checkout):
    for event in HOSTILE_EVENTS:
        send(server, event)
    request("GET", f"{server.url}/{quote(HOSTILE)}")

    text = log()
    assert len(lines_of(text, "webhook_delivery")) == len(HOSTILE_EVENTS)
    assert text.isascii()
    assert "\x1b" not in text


# --- nothing personal


QUOTE_THE_MEMBER = {
    "sqlite": [
        """CREATE TRIGGER quoting BEFORE INSERT ON tenants_member BEGIN
        SELECT RAISE(ABORT, 'member@example.com Jenny Rosen'); END""",
        "DROP TRIGGER quoting",
    ],
    "postgresql": [
        "ALTER TABLE tenants_member ADD CONSTRAINT quoting CHECK (name <> 'Jenny Rosen')",
        "ALTER TABLE tenants_member DROP CONSTRAINT quoting",
    ],
}


@contextmanager
def database_that_quotes_the_member():
    """Refuse each new member with an error that quotes the row, as databases do."""
    start, end = QUOTE_THE_MEMBER[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(start)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(end)


def test_nothing_personal_and_nothing_secret_is_in_any_line(server, log, checkout, publishable_key):
    secrets = live_through_much(server, publishable_key)

    text = log()
    unwanted = [
        *secrets,
        *("member@example.com", "Jenny", "Rosen", "customer_details", "payment_method"),
        *(TOKEN, VERIFIER, "wrong verifier", "wrong token", "v1=", "Bearer", "whsec_", "sk_test_"),
        settings.SECRET_KEY,
    ]
    assert [word for word in unwanted if word in text] == []
    (failure,) = lines_of(text, "stripe_event_failed")
    assert (failure["event_id"], failure["level"]) == (PAID["id"], "error")
    assert "recording.py" in failure["exception"]
    assert failure["exception"].endswith("IntegrityError")


def live_through_much(server, key):
    """A failure, a purchase, the way back and much that is refused; returns the secrets told."""
    exchange = partial(send_json, server, "/api/purchases/exchange", Authorization=f"Bearer {key}")
    token = {"token": TOKEN, "verifier": VERIFIER}
    with database_that_quotes_the_member():
        send(server, PAID)
    send(server, PAID)
    send(server, changed(PAID, event_id="evt_other", amount_total=5, amount_subtotal=5))
    send(server, PAID, **{"Stripe-Signature": sign(b"another body")})
    send(server, json.dumps(PAID).encode()[:-9])
    signed_in = json.loads(exchange(token).body)
    exchange({**token, "verifier": "wrong verifier"})
    exchange({"token": "wrong token of somebody"})
    refresh = {"refresh_token": signed_in["refresh_token"]}
    send_json(server, "/api/members/token/refresh", refresh)
    send_json(server, "/api/members/token/refresh", refresh)
    member = {"Authorization": f"Bearer {signed_in['jwt']}"}
    request("GET", f"{server.url}/api/entitlements", headers=member)
    return [key, signed_in["jwt"], signed_in["refresh_token"]]


def test_an_exchange_that_fails_says_nothing_personal(
    running, server, log, checkout, publishable_key
):
    _, stripe = running
    stripe.add(PAID)
    with database_that_quotes_the_member():
        answer = send_json(
            server,
            "/api/purchases/exchange",
            {"token": TOKEN, "verifier": VERIFIER},
            Authorization=f"Bearer {publishable_key}",
        )

    said = log() + answer.body.decode()
    unwanted = ["member@example.com", "Jenny", TOKEN, VERIFIER, publishable_key]
    assert answer.status == 500
    assert "IntegrityError" in said
    assert [word for word in unwanted if word in said] == []
