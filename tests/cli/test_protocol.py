"""What the sandbox tells the CLI, held to Stripe's shapes; the CLI itself is not needed here."""

import asyncio
import json
from contextlib import ExitStack
from urllib.parse import urlencode

import aiohttp
import pytest
import stripe

from tests.conftest import ACCOUNT_ID
from tests.sandbox_server import KEY, SECRET, running_sandbox
from tests.test_sandbox import problems_of

CARD = {"type": "card", "card[token]": "tok_visa"}
DEBIT = {"type": "sepa_debit", "sepa_debit[iban]": "AT611904300234573201"}
AS_SELLER = {"stripe_account": ACCOUNT_ID}


@pytest.fixture
def call(sandbox):
    """A call as the CLI makes it, for the connected account: `(status, answer)`."""

    def call(path, key=KEY, method="POST", **fields):
        headers = {
            "Authorization": f"Bearer {key}",
            "Stripe-Account": ACCOUNT_ID,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        status, _, text = sandbox.request(method, path, urlencode(fields), **headers)
        return status, json.loads(text)

    return call


@pytest.fixture
def price(call):
    _, product = call("/v1/products", name="Membership")
    return call("/v1/prices", product=product["id"], unit_amount=600, currency="EUR")[1]


@pytest.fixture
def session(sandbox, price):
    wanted = {
        "mode": "payment",
        "success_url": "https://shop.example/thanks",
        "line_items": [{"price": price["id"], "quantity": 2}],
    }
    return sandbox.client.v1.checkout.sessions.create(wanted, AS_SELLER)


@pytest.fixture
def confirm(call, session):
    """Pay the session's page with a new payment method."""

    def confirm(amount, method):
        _, made = call("/v1/payment_methods", **method)
        fields = {"payment_method": made["id"], "expected_amount": amount}
        return call(f"/v1/payment_pages/{session.id}/confirm", **fields)

    return confirm


def as_listener(sandbox, work, *, socket_id=None):
    """Do `work(socket)` connected as `stripe listen` is; gives the session and the result."""

    async def listen():
        async with aiohttp.ClientSession(sandbox.url) as client:
            headers = {"Authorization": f"Bearer {KEY}"}
            async with client.post("/v1/stripecli/sessions", headers=headers) as response:
                opened = await response.json()
            headers = {"Websocket-Id": socket_id or opened["websocket_id"]}
            async with client.ws_connect(opened["websocket_url"], headers=headers) as socket:
                return opened, await work(socket)

    return asyncio.run(listen())


def test_what_trigger_makes_has_stripes_shape(sandbox, call, price):
    methods = [call("/v1/payment_methods", **fields)[1] for fields in (CARD, DEBIT)]
    product = call(f"/v1/products/{price['product']}", method="GET")[1]
    events = sandbox.client.v1.events.list({}, AS_SELLER).data

    assert [problems_of(obj) for obj in (product, price, *methods)] == [[], [], [], []]
    assert [event.type for event in events] == ["price.created", "product.created"]


def test_a_session_sells_a_price_of_before(sandbox, session):
    items = sandbox.client.v1.checkout.sessions.line_items.list(session.id, {}, AS_SELLER).data

    assert (items[0].description, items[0].amount_total, items[0].currency) == (
        ("Membership", 1200, "eur")
    )


@pytest.mark.parametrize(
    ("method", "paid"), [(CARD, "paid"), (DEBIT, "unpaid")], ids=["card", "debit"]
)
def test_a_payment_page_is_paid_without_a_browser(call, session, confirm, method, paid):
    before = call(f"/v1/payment_pages/{session.id}", method="GET")[1]

    status, after = confirm(1200, method)

    assert (before["status"], before["amount_total"]) == ("open", 1200)
    assert (status, after["status"], after["payment_status"]) == (200, "complete", paid)


@pytest.mark.parametrize(
    ("amount", "token", "expected"),
    [
        (1201, "tok_visa", (400, "checkout_amount_mismatch")),
        (1200, "tok_chargeDeclined", (402, "card_declined")),
    ],
)
def test_a_page_that_is_not_paid_stays_open(sandbox, session, confirm, amount, token, expected):
    status, answer = confirm(amount, {**CARD, "card[token]": token})

    sessions = sandbox.client.v1.checkout.sessions
    assert (status, answer["error"]["code"]) == expected
    assert sessions.retrieve(session.id, {}, AS_SELLER).status == "open"


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("prices", {"currency": "eur", "product": "prod_none"}, "unit_amount"),
        ("prices", {"currency": "eur", "unit_amount": 1}, "product"),
        ("prices", {"currency": "eur", "unit_amount": 1, "product": "prod_none"}, "product"),
        ("prices", {"currency": "eur", "recurring[interval]": "month"}, "recurring"),
        ("payment_methods", {}, "type"),
        ("payment_methods", {"type": "ideal"}, "type"),
        ("payment_methods", {"type": "card", "card[token]": "tok_amex"}, "card[token]"),
    ],
)
def test_what_the_sandbox_cannot_do_is_refused(call, path, fields, param):
    status, answer = call(f"/v1/{path}", **fields)

    assert (status // 100, answer["error"]["param"]) == (4, param)


def test_a_listener_gets_signed_events_and_reports_the_answers(sandbox, session):
    async def forward(socket):
        paying = asyncio.to_thread(sandbox.pay, session.id)
        message, _ = await asyncio.gather(socket.receive_json(), paying)
        answer = {"type": "webhook_response", "forward_url": "http://app.test/", "status": 418}
        names = ("webhook_id", "webhook_conversation_id")
        await socket.send_json({**answer, **{name: message[name] for name in names}})
        await socket.close()
        return message

    opened, message = as_listener(sandbox, forward)

    signature = message["http_headers"]["Stripe-Signature"]
    event = stripe.Webhook.construct_event(message["event_payload"], signature, opened["secret"])
    assert (event.type, event.account) == ("charge.succeeded", ACCOUNT_ID)
    attempt = sandbox.attempts(event.id)[0]
    assert (attempt["url"], attempt["status"]) == ("http://app.test/", 418)


def test_a_listener_with_a_foreign_id_is_told_to_start_anew(sandbox):
    async def nothing(socket):
        raise AssertionError("connected")

    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        as_listener(sandbox, nothing, socket_id="cliws_foreign")

    assert refusal.value.status == 404


def test_only_the_platforms_key_may_listen(call):
    status, answer = call("/v1/stripecli/sessions", key="sk_test_another")

    assert (status, answer["error"]["message"][:15]) == (401, "Invalid API Key")


def test_listeners_are_told_that_the_sandbox_ends():
    async def wait_for_the_end(socket):
        message, _ = await asyncio.gather(socket.receive(), asyncio.to_thread(running.close))
        return message.type

    with ExitStack() as running:
        sandbox = running.enter_context(running_sandbox("http://127.0.0.1:1/hook"))

        opened, last = as_listener(sandbox, wait_for_the_end)

    assert last is aiohttp.WSMsgType.CLOSE
    assert opened["secret"] == SECRET
