"""The sandbox, held to Stripe's shapes and manners by Stripe's own library."""

import decimal
import json
import queue
import re
import threading
import types
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import stripe
import stripe.oauth_error
from stripe._object_classes import get_object_class

from sandbox.errors import ApiError
from sandbox.forms import nest
from sandbox.ids import now
from tests.loopback import serving
from tests.sandbox_server import CLIENT_ID, KEY, SECRET, SandboxRefused, running_sandbox

SELLER = "acct_1SellerAAAA"
OTHER = "acct_1SellerBBBB"
AS_SELLER = {"stripe_account": SELLER}
CALLBACK = "http://127.0.0.1:9/connect/callback"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def wanted(amount=1250, quantity=1, **fields):
    """Parameters of a session, as the product sends them."""
    price = {"currency": "eur", "unit_amount": amount, "product_data": {"name": "Gold & <b>more"}}
    metadata = {"tenant_id": "t1", "plan_id": "p1"}
    return {
        "mode": "payment",
        "line_items": [{"price_data": price, "quantity": quantity}],
        "success_url": "http://127.0.0.1:9/ok?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://127.0.0.1:9/canceled",
        "metadata": metadata,
        "payment_intent_data": {"metadata": metadata},
        **fields,
    }


@pytest.fixture
def sandbox():
    with running_sandbox(accounts=[SELLER, OTHER]) as sandbox:
        yield sandbox


@pytest.fixture
def sessions(sandbox):
    return sandbox.client.v1.checkout.sessions


@pytest.fixture
def paid(sandbox, sessions):
    """A paid session of the seller."""
    session = sessions.create(wanted(), AS_SELLER)
    sandbox.pay(session.id, email="buyer@example.com", name="Ada")
    return sessions.retrieve(session.id, {}, AS_SELLER)


def event_types(sandbox, options=AS_SELLER):
    """What happened, oldest first."""
    events = sandbox.client.v1.events.list({"limit": 100}, options).data
    return [event.type for event in reversed(events)]


class Receiver:
    """A webhook endpoint that keeps what arrives and answers as told, 200 in the end."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}/hook"
        self.arrived = queue.SimpleQueue()
        self.answers = queue.SimpleQueue()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def next(self):
        """The next delivery as `(event, header)`, its signature checked by Stripe's library."""
        body, header = self.arrived.get(timeout=10)
        return stripe.Webhook.construct_event(body, header, SECRET), header

    def take(self, count):
        return [self.next()[0] for _ in range(count)]


@contextmanager
def receiving():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.arrived.put((body, self.headers["Stripe-Signature"]))
            receiver.may_answer.wait(10)
            status = 200 if receiver.answers.empty() else receiver.answers.get()
            self.send_response(status)
            self.send_header("Location", receiver.url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            """Say nothing."""

    with serving(Handler) as server:
        receiver = Receiver(server.server_port)
        try:
            yield receiver
        finally:
            receiver.may_answer.set()


@pytest.fixture
def receiver():
    with receiving() as receiver:
        yield receiver


# Shapes


class LibraryNames(dict):
    """The names in the library's annotations, which it imports for type checkers only.

    One that is not found stands for an object without fields, so that any value fails.
    """

    def __missing__(self, name):
        return getattr(stripe, name.removesuffix("Resource"), stripe.StripeObject)


def shape_problems(value, kind, at=""):
    """Where a value differs from what stripe-python declares, at any depth."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or origin is ClassVar:
        return []
    if origin in (Union, types.UnionType):
        found = [shape_problems(value, choice, at) for choice in arguments]
        return [] if [] in found else min(found, key=len)
    if origin is Literal:
        return [] if value in arguments else [f"{at}: {value!r} is none of {arguments}"]
    if origin is list:
        items = enumerate(value) if isinstance(value, list) else [("", ...)]
        return [
            problem
            for index, item in items
            for problem in shape_problems(item, arguments[0], f"{at}[{index}]")
        ]
    return object_problems(value, origin or kind, at)


def object_problems(value, kind, at):
    if issubclass(kind, stripe.StripeObject) and isinstance(value, dict):
        if kind.__name__ == "UntypedStripeObject":
            return []
        return field_problems(value, kind, at)
    plain = {decimal.Decimal: str, type(None): type(None)}.get(kind, kind)
    is_right = isinstance(value, plain) and not (plain is int and isinstance(value, bool))
    return [] if is_right else [f"{at}: {value!r} is no {kind.__name__}"]


def field_problems(value, kind, at):
    declared = get_type_hints(kind, localns=LibraryNames())
    declared = {name: hint for name, hint in declared.items() if get_origin(hint) is not ClassVar}
    declared = {name: hint for name, hint in declared.items() if not name.startswith("_")}
    problems = [f"{at}.{name}: unknown" for name in value if name not in declared]
    for name, hint in declared.items():
        if name in value:
            problems += shape_problems(value[name], hint, f"{at}.{name}")
        elif type(None) not in get_args(hint):
            problems.append(f"{at}.{name}: missing")
    return problems


def problems_of(obj):
    """The differences of an object, given as plain data, from the class for its name."""
    problems = field_problems(obj, get_object_class("V1", obj["object"]), obj["object"])
    if obj["object"] == "event":
        problems += problems_of(obj["data"]["object"])
    return problems


def raw(sandbox, path, account_id=SELLER):
    """The JSON of a GET."""
    headers = {"Authorization": f"Bearer {KEY}"}
    status, _, text = sandbox.request("GET", path, **headers, **{"Stripe-Account": account_id})
    assert status == 200, text
    return json.loads(text)


def test_every_object_and_event_has_stripes_shape(sandbox, sessions):
    endings = ["card", "card", "bank_ok", "bank_fail", "declined", None]
    made = [sessions.create(wanted(), AS_SELLER) for _ in endings]
    free = sessions.create(wanted(0, customer_email="a@example.com"), AS_SELLER)
    for session, method in zip(made, endings, strict=True):
        if method:
            sandbox.pay(session.id, method)
    sandbox.pay(free.id)
    sessions.expire(made[-1].id, {}, AS_SELLER)
    intents = [sessions.retrieve(item.id, {}, AS_SELLER).payment_intent for item in made]
    first = sandbox.refund(intents[0], 100)
    sandbox.refund(intents[0])
    sandbox.fail_refund(first["id"])
    sandbox.close_dispute(sandbox.dispute(intents[1])["id"], won=True)
    sandbox.settle(intents[2])
    sandbox.refund(intents[2])
    sandbox.close_dispute(sandbox.dispute(intents[2], inquiry=True)["id"], won=True)
    sandbox.settle(intents[3], ok=False)
    sandbox.enable(SELLER, charges_enabled=False)

    kinds = ["checkout/sessions", "payment_intents", "charges", "refunds", "events"]
    objects = [obj for kind in kinds for obj in raw(sandbox, f"/v1/{kind}?limit=100")["data"]]
    objects += raw(sandbox, f"/v1/checkout/sessions/{free.id}/line_items")["data"]
    objects.append(raw(sandbox, f"/v1/accounts/{SELLER}"))

    assert {obj["object"]: problems_of(obj) for obj in objects if problems_of(obj)} == {}
    assert {obj["type"] for obj in objects if obj["object"] == "event"} == {
        *(f"checkout.session.{end}" for end in ("completed", "expired")),
        *(f"checkout.session.async_payment_{end}" for end in ("succeeded", "failed")),
        *("payment_intent.succeeded", "payment_intent.payment_failed"),
        *("charge.succeeded", "charge.failed", "charge.refunded", "charge.refund.updated"),
        *("refund.created", "refund.updated", "refund.failed"),
        *("charge.dispute.created", "charge.dispute.closed", "account.updated"),
        *(f"charge.dispute.funds_{end}" for end in ("withdrawn", "reinstated")),
    }


def test_the_check_of_shapes_sees_what_is_wrong():
    refund = {"object": "refund", "id": 7, "amount": True, "created": 1, "sum": 3}

    assert problems_of(refund) == [
        "refund.sum: unknown",
        "refund.amount: True is no int",
        "refund.currency: missing",
        "refund.id: 7 is no str",
    ]


def test_the_library_makes_the_right_classes(sandbox, sessions, paid):
    expand = {"expand": ["line_items", "payment_intent.latest_charge"]}
    session = sessions.retrieve(paid.id, expand, AS_SELLER)
    refund = sandbox.client.v1.refunds.create({"charge": paid_charge(session)}, AS_SELLER)

    assert isinstance(session, stripe.checkout.Session)
    assert isinstance(session.payment_intent, stripe.PaymentIntent)
    assert isinstance(session.payment_intent.latest_charge, stripe.Charge)
    assert isinstance(session.line_items.data[0], stripe.LineItem)
    assert isinstance(session.line_items.data[0].price, stripe.Price)
    assert isinstance(refund, stripe.Refund)
    assert isinstance(sandbox.client.v1.accounts.retrieve(SELLER), stripe.Account)


def paid_charge(session):
    return session.payment_intent.latest_charge.id


# Checkout Sessions


def test_a_new_session_waits_for_its_buyer(sandbox, sessions):
    session = sessions.create(wanted(1250, 2, client_reference_id="c1"), AS_SELLER)

    assert re.fullmatch(r"cs_test_[A-Za-z0-9]{58}", session.id)
    assert session.url == f"{sandbox.url}/c/pay/{session.id}"
    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert (session.amount_subtotal, session.amount_total, session.currency) == (2500, 2500, "eur")
    assert session.payment_intent is None
    assert session.expires_at - session.created == 24 * 60 * 60
    assert session.livemode is False


def test_sessions_are_listed_newest_first_page_by_page(sessions):
    made = [sessions.create(wanted(), AS_SELLER).id for _ in range(5)]

    listed = sessions.list({"limit": 2}, AS_SELLER)
    before = sessions.list({"limit": 2, "ending_before": made[0]}, AS_SELLER)

    assert [item.id for item in listed.auto_paging_iter()] == made[::-1]
    assert [item.id for item in before.data] == [made[2], made[1]]
    assert before.has_more


def test_sessions_are_found_by_payment_and_status(sessions, paid):
    sessions.create(wanted(), AS_SELLER)

    by_payment = sessions.list({"payment_intent": paid.payment_intent}, AS_SELLER)
    complete = sessions.list({"status": "complete", "created": {"gte": paid.created}}, AS_SELLER)

    assert [item.id for item in by_payment.data] == [paid.id]
    assert [item.id for item in complete.data] == [paid.id]


def test_line_items_say_what_is_sold(sessions):
    session = sessions.create(wanted(300, 3), AS_SELLER)

    items = sessions.line_items.list(session.id, {"limit": 100}, AS_SELLER).data

    assert [(item.description, item.quantity, item.amount_total) for item in items] == [
        ("Gold & <b>more", 3, 900)
    ]


def test_an_expired_session_cannot_be_paid_or_expired_again(sandbox, sessions):
    session = sessions.create(wanted(), AS_SELLER)

    expired = sessions.expire(session.id, {}, AS_SELLER)

    assert (expired.status, expired.url) == ("expired", None)
    assert event_types(sandbox) == ["checkout.session.expired"]
    with pytest.raises(stripe.InvalidRequestError):
        sessions.expire(session.id, {}, AS_SELLER)
    with pytest.raises(SandboxRefused):
        sandbox.pay(session.id)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"payment_method_types": ["card"]}, "parameter_unknown", "payment_method_types"),
        ({"metadata": {"k" * 41: "v"}}, None, "metadata"),
        ({"metadata": {"k": "v" * 501}}, None, "metadata[k]"),
        ({"metadata": {f"k{n}": "v" for n in range(51)}}, None, "metadata"),
        ({"expires_at": 1}, None, "expires_at"),
        ({"success_url": "javascript:alert(1)"}, "url_invalid", "success_url"),
        ({"mode": "gift"}, None, "mode"),
        ({"customer_email": "nobody"}, "email_invalid", "customer_email"),
        ({"customer": "cus_1"}, "resource_missing", "customer"),
        ({"line_items": [{"price": "price_1", "quantity": 1}]}, "resource_missing", None),
        ({"line_items": [{"quantity": 1}]}, "parameter_missing", "line_items[0][price_data]"),
        (
            {"line_items": [{"quantity": 1, "price_data": {"currency": "eur", "amount": 1}}]},
            "parameter_unknown",
            "line_items[0][price_data][amount]",
        ),
        (
            {"line_items": [{"quantity": 1, "price_data": {"unit_amount": 1}}]},
            "parameter_missing",
            "line_items[0][price_data][currency]",
        ),
    ],
)
def test_a_bad_session_is_refused_by_name(sessions, fields, code, param):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        sessions.create(wanted(**fields), AS_SELLER)

    assert refusal.value.code == code
    assert param is None or refusal.value.param == param


@pytest.mark.parametrize("minutes", [30, 24 * 60])
def test_a_session_may_expire_between_half_an_hour_and_a_day(sessions, minutes):
    expires_at = now() + minutes * 60

    assert sessions.create(wanted(expires_at=expires_at), AS_SELLER).expires_at == expires_at


@pytest.mark.parametrize(
    ("pairs", "nested"),
    [
        ([("a[b][0]", "x"), ("a[b][1]", "y")], {"a": {"b": {"0": "x", "1": "y"}}}),
        ([("a[]", "x"), ("a[]", "y")], {"a": {"0": "x", "1": "y"}}),
        (
            [("a[][b][c]", "1"), ("a[][b][d]", "2"), ("a[][e]", "3"), ("a[][b][c]", "4")],
            {"a": {"0": {"b": {"c": "1", "d": "2"}, "e": "3"}, "1": {"b": {"c": "4"}}}},
        ),
    ],
)
def test_brackets_nest(pairs, nested):
    assert nest(pairs) == nested


@pytest.mark.parametrize("pairs", [[("a", "1"), ("a[b]", "2")], [("a" + "[b]" * 20, "1")]])
def test_brackets_that_make_no_sense_are_refused(pairs):
    with pytest.raises(ApiError):
        nest(pairs)


# Keys, accounts, idempotency


def test_only_the_platforms_key_is_accepted(sandbox):
    with pytest.raises(stripe.AuthenticationError):
        sandbox.client_with("sk_test_other").v1.charges.list()


def test_a_key_may_come_as_basic_authentication(sandbox):
    headers = {"Authorization": "Basic c2tfdGVzdF9zYW5kYm94a2V5Og=="}

    assert sandbox.request("GET", "/v1/charges", **headers)[0] == 200


@pytest.mark.parametrize("account_id", ["acct_1Nobody", SELLER])
def test_an_account_that_is_not_connected_is_out_of_reach(sandbox, account_id):
    sandbox.deauthorize(SELLER)

    with pytest.raises(stripe.PermissionError) as refusal:
        sandbox.client.v1.charges.list({}, {"stripe_account": account_id})

    assert refusal.value.error.code == "account_invalid"


@pytest.mark.parametrize("options", [{}, {"stripe_account": OTHER}])
def test_another_accounts_objects_do_not_exist(sandbox, sessions, paid, options):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        sessions.retrieve(paid.id, {}, options)

    assert (refusal.value.http_status, refusal.value.code) == (404, "resource_missing")
    assert sessions.list({}, options).data == []
    assert event_types(sandbox, options) == []


def test_a_repeated_key_gets_the_first_answer(sessions):
    options = {**AS_SELLER, "idempotency_key": "key-1"}

    first, again = (sessions.create(wanted(), options) for _ in range(2))
    elsewhere = sessions.create(wanted(), {"stripe_account": OTHER, "idempotency_key": "key-1"})

    assert again.id == first.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert elsewhere.id != first.id
    assert len(sessions.list({}, AS_SELLER).data) == 1


def test_a_key_stands_for_one_request(sessions):
    options = {**AS_SELLER, "idempotency_key": "key-1"}
    with pytest.raises(stripe.InvalidRequestError):
        sessions.create(wanted(mode="gift"), options)

    sessions.create(wanted(), options)

    with pytest.raises(stripe.IdempotencyError):
        sessions.create(wanted(9), options)


def test_what_the_sandbox_does_not_have_is_a_404(sandbox):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        sandbox.client.v1.coupons.list()

    assert refusal.value.http_status == 404


# Paying


def test_paying_by_card(sandbox, sessions, paid):
    assert (paid.status, paid.payment_status, paid.url) == ("complete", "paid", None)
    assert (paid.customer_details.email, paid.customer_details.name) == ("buyer@example.com", "Ada")
    intent = sandbox.client.v1.payment_intents.retrieve(paid.payment_intent, {}, AS_SELLER)
    charge = sandbox.client.v1.charges.retrieve(intent.latest_charge, {}, AS_SELLER)
    assert (intent.status, intent.amount_received) == ("succeeded", 1250)
    assert charge.metadata.to_dict() == {"tenant_id": "t1", "plan_id": "p1"}
    assert event_types(sandbox) == [
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]


def test_events_name_the_connected_account_and_no_platform(sandbox, sessions, paid):
    sandbox.pay(sessions.create(wanted()).id)

    connected = sandbox.client.v1.events.list({}, AS_SELLER).data
    own = sandbox.client.v1.events.list().data

    assert {event.context for event in connected} == {SELLER}
    # Stripe is not known to name the account where the account itself asks for a list.
    assert not any("account" in event for event in connected)
    event = sandbox.client.v1.events.retrieve(connected[0].id, options=AS_SELLER)
    assert event.account == SELLER
    assert len(own) == 3
    assert not any("account" in event or "context" in event for event in own)
    assert sandbox.client.v1.events.retrieve(own[0].id).type == "checkout.session.completed"


def test_events_are_filtered_by_type(sandbox, paid):
    def listed(**params):
        return [event.type for event in sandbox.client.v1.events.list(params, AS_SELLER).data]

    assert listed(type="charge.*") == ["charge.succeeded"]
    assert listed(types=["payment_intent.succeeded"]) == ["payment_intent.succeeded"]


@pytest.mark.parametrize(
    ("method", "payment_status", "intent_status", "last"),
    [
        ("bank_ok", "paid", "succeeded", "checkout.session.async_payment_succeeded"),
        (
            "bank_fail",
            "unpaid",
            "requires_payment_method",
            "checkout.session.async_payment_failed",
        ),
    ],
)
def test_a_bank_debit_is_settled_later(method, payment_status, intent_status, last):
    with receiving() as receiver:
        settings = {"accounts": [SELLER], "bank_debit_delay": 0.1}
        with running_sandbox(receiver.url, **settings) as sandbox:
            session = sandbox.client.v1.checkout.sessions.create(wanted(), AS_SELLER)
            assert sandbox.pay(session.id, method)["payment_status"] == "unpaid"
            completed, *_ = events = receiver.take(4)

            session = sandbox.client.v1.checkout.sessions.retrieve(
                session.id, {"expand": ["payment_intent"]}, AS_SELLER
            )

    assert completed.type == "checkout.session.completed"
    assert completed.data.object.payment_status == "unpaid"
    assert last in {event.type for event in events}
    assert session.payment_status == payment_status
    assert session.payment_intent.status == intent_status


def test_a_settled_debit_stays_settled(sandbox, sessions):
    session = sessions.create(wanted(), AS_SELLER)
    intent = sandbox.pay(session.id, "bank_ok")["payment_intent"]
    sandbox.settle(intent, ok=False)
    happened = event_types(sandbox)

    sandbox.settle(intent)

    assert event_types(sandbox) == happened


def test_after_a_decline_the_session_is_open_and_keeps_its_intent(sandbox, sessions):
    session = sessions.create(wanted(), AS_SELLER)

    declined = sandbox.pay(session.id, "declined")
    complete = sandbox.pay(session.id)

    assert declined["status"] == "open"
    assert complete["payment_intent"] == declined["payment_intent"]
    assert event_types(sandbox)[:2] == ["charge.failed", "payment_intent.payment_failed"]


def test_nothing_to_pay_means_no_payment(sandbox, sessions):
    session = sessions.create(wanted(0), AS_SELLER)

    paid = sandbox.pay(session.id)

    assert (paid["payment_status"], paid["payment_intent"]) == ("no_payment_required", None)
    assert event_types(sandbox) == ["checkout.session.completed"]


# Money going back


def test_refunds_add_up_on_the_charge(sandbox, paid):
    refunds = sandbox.client.v1.refunds
    refunds.create({"payment_intent": paid.payment_intent, "amount": 200}, AS_SELLER)
    rest = refunds.create({"payment_intent": paid.payment_intent}, AS_SELLER)

    totals = [
        (event.data.object.amount_refunded, event.data.object.refunded)
        for event in sandbox.client.v1.events.list({"type": "charge.refunded"}, AS_SELLER).data
    ]

    assert rest.amount == 1050
    assert totals == [(1250, True), (200, False)]
    assert event_types(sandbox)[3:6] == ["refund.created", "charge.refunded", "refund.updated"]
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        refunds.create({"payment_intent": paid.payment_intent}, AS_SELLER)
    assert refusal.value.code == "charge_already_refunded"


def test_a_refund_that_fails_gives_the_money_back_to_the_seller(sandbox, paid):
    refund = sandbox.refund(paid.payment_intent, 500)

    sandbox.fail_refund(refund["id"])

    refund = sandbox.client.v1.refunds.retrieve(refund["id"], {}, AS_SELLER)
    charge = sandbox.client.v1.charges.retrieve(refund.charge, {}, AS_SELLER)
    assert (refund.status, charge.amount_refunded) == ("failed", 0)
    assert event_types(sandbox)[-2:] == ["refund.failed", "charge.refund.updated"]


def test_more_than_was_paid_cannot_be_refunded(sandbox, paid):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        sandbox.client.v1.refunds.create(
            {"payment_intent": paid.payment_intent, "amount": 1251}, AS_SELLER
        )

    assert refusal.value.param == "amount"


@pytest.mark.parametrize(
    ("inquiry", "won", "status", "events"),
    [
        (False, True, "won", ["created", "funds_withdrawn", "closed", "funds_reinstated"]),
        (False, False, "lost", ["created", "funds_withdrawn", "closed"]),
        (True, True, "warning_closed", ["created", "closed"]),
    ],
)
def test_a_dispute_runs_its_course(sandbox, paid, inquiry, won, status, events):
    dispute = sandbox.dispute(paid.payment_intent, inquiry=inquiry)

    closed = sandbox.close_dispute(dispute["id"], won=won)

    assert dispute["status"] == ("warning_needs_response" if inquiry else "needs_response")
    assert closed["status"] == status
    assert event_types(sandbox)[3:] == [f"charge.dispute.{name}" for name in events]


# Deliveries


def pay_one(sandbox, method="card"):
    """Pay a session of the seller; its id."""
    session = sandbox.client.v1.checkout.sessions.create(wanted(), AS_SELLER)
    sandbox.pay(session.id, method)
    return session.id


def test_deliveries_are_signed_and_carry_the_stored_event(receiver):
    with running_sandbox(receiver.url, accounts=[SELLER]) as sandbox:
        pay_one(sandbox)
        events = {event.id: event for event in receiver.take(3)}
        sandbox.wait_idle()
        stored = sandbox.client.v1.events.list({}, AS_SELLER).data

    assert set(events) == {event.id for event in stored}
    assert all(events[event.id].data == event.data for event in stored)
    assert {event.pending_webhooks for event in stored} == {0}


def test_each_attempt_is_signed_anew_until_one_succeeds(receiver):
    receiver.answers.put(500)
    receiver.answers.put(302)
    with running_sandbox(receiver.url, accounts=[SELLER], retry_gaps=(0.01, 1)) as sandbox:
        sandbox.enable(SELLER, charges_enabled=False)
        (first, _), (_, second), (last, third) = (receiver.next() for _ in range(3))
        sandbox.wait_idle()
        attempts = sandbox.attempts(first.id)

    assert first.id == last.id
    assert second != third
    assert [attempt["status"] for attempt in attempts] == [500, 302, 200]
    assert receiver.arrived.empty()


def test_an_endpoint_that_never_answers_well_is_given_up(receiver):
    for _ in range(2):
        receiver.answers.put(503)
    with running_sandbox(receiver.url, accounts=[SELLER], retry_gaps=(0.01,)) as sandbox:
        sandbox.enable(SELLER, charges_enabled=False)
        sandbox.wait_idle()
        (event,) = sandbox.client.v1.events.list({}, AS_SELLER).data

    assert event.pending_webhooks == 1
    assert event.id == receiver.next()[0].id


def test_held_events_wait_and_leave_in_any_order(receiver):
    with running_sandbox(receiver.url, accounts=[SELLER]) as sandbox:
        sandbox.disturb(hold=True, shuffle=True)
        pay_one(sandbox)
        assert receiver.arrived.empty()
        assert sandbox.state()["collected"] == 3

        sandbox.disturb(hold=False)

        assert {event.type for event in receiver.take(3)} == set(event_types(sandbox))


def test_shuffled_events_all_arrive(receiver):
    with running_sandbox(receiver.url, accounts=[SELLER], shuffle_window=0.05) as sandbox:
        sandbox.disturb(shuffle=True)
        pay_one(sandbox)

        assert {event.type for event in receiver.take(3)} == set(event_types(sandbox))


def test_duplicates_dropped_and_redelivered_events(receiver):
    with running_sandbox(receiver.url, accounts=[SELLER]) as sandbox:
        sandbox.disturb(duplicate=True)
        sandbox.enable(SELLER, charges_enabled=False)
        twice = receiver.take(2)
        sandbox.disturb(duplicate=False, drop=True)
        sandbox.enable(SELLER, charges_enabled=True)
        assert receiver.arrived.empty()
        dropped = sandbox.client.v1.events.list({}, AS_SELLER).data[0]

        sandbox.redeliver(dropped.id)

        assert twice[0].id == twice[1].id
        assert receiver.next()[0].id == dropped.id


def test_delayed_events_arrive_later(receiver):
    with running_sandbox(receiver.url, accounts=[SELLER]) as sandbox:
        sandbox.disturb(delay=0.2)
        sandbox.control(f"accounts/{SELLER}/enable", charges_enabled=False, wait=False)
        assert receiver.arrived.empty()

        assert receiver.next()[0].type == "account.updated"


@pytest.mark.parametrize(("connect", "count"), [("true", 3), ("false", 3), ("both", 6)])
def test_an_endpoint_gets_the_events_of_its_scope(receiver, connect, count):
    with running_sandbox(accounts=[SELLER]) as sandbox:
        sandbox.set_endpoints({"url": receiver.url, "secret": SECRET, "connect": connect})
        pay_one(sandbox)
        sandbox.pay(sandbox.client.v1.checkout.sessions.create(wanted()).id)

        events = receiver.take(count)

    accounts = {getattr(event, "account", None) for event in events}
    assert accounts == {"true": {SELLER}, "false": {None}, "both": {SELLER, None}}[connect]
    assert receiver.arrived.empty()


def test_account_changes_are_told(receiver):
    with running_sandbox(receiver.url, accounts=[SELLER]) as sandbox:
        sandbox.enable(SELLER, charges_enabled=False)
        updated = receiver.next()[0]
        sandbox.deauthorize(SELLER)
        deauthorized = receiver.next()[0]

    assert updated.data.object.charges_enabled is False
    assert updated.data.previous_attributes.charges_enabled is True
    assert (deauthorized.type, deauthorized.account) == (
        "account.application.deauthorized",
        SELLER,
    )
    assert deauthorized.data.object.id == CLIENT_ID


# Faults


@pytest.mark.parametrize(
    ("kind", "error"),
    [("429", stripe.RateLimitError), ("500", stripe.APIError), ("garbage", stripe.APIError)],
)
def test_faults_strike_as_often_as_told_and_change_nothing(sandbox, sessions, kind, error):
    sandbox.fault(kind, count=1, path="/v1/checkout")
    sandbox.client.v1.charges.list({}, AS_SELLER)

    with pytest.raises(error):
        sessions.create(wanted(), AS_SELLER)

    assert sessions.list({}, AS_SELLER).data == []


def test_a_slow_answer_outlasts_an_impatient_client(sandbox):
    http_client = stripe.RequestsClient(timeout=0.05)
    sandbox.fault("slow", count=1, seconds=0.5)
    impatient = sandbox.client_with(KEY, http_client=http_client)

    with pytest.raises(stripe.APIConnectionError):
        impatient.v1.charges.list()

    http_client.close()


# Pages


def post(sandbox, path, **fields):
    return sandbox.request("POST", path, urlencode(fields), **FORM)


def test_the_checkout_page_shows_what_is_bought_and_runs_nothing(sandbox, sessions):
    session = sessions.create(wanted(1250, 2, customer_email="ada@example.com"), AS_SELLER)

    status, headers, page = sandbox.request("GET", f"/c/pay/{session.id}")

    assert status == 200
    assert "25.00 EUR" in page
    assert "Gold &amp; &lt;b&gt;more" in page
    assert 'value="ada@example.com" readonly' in page
    assert "<script" not in page
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_the_buyer_goes_back_once_the_webhook_has_answered(receiver):
    with running_sandbox(receiver.url, accounts=[SELLER]) as sandbox:
        session = sandbox.client.v1.checkout.sessions.create(wanted(), AS_SELLER)

        status, headers, _ = post(
            sandbox, f"/c/pay/{session.id}", method="card", email="a@example.com", name="Ada"
        )
        event = sandbox.client.v1.events.list({"type": "checkout.session.*"}, AS_SELLER).data[0]

        assert (status, headers["Location"]) == (
            303,
            f"http://127.0.0.1:9/ok?session={session.id}",
        )
        assert [attempt["status"] for attempt in sandbox.attempts(event.id)] == [200]


def test_a_webhook_that_takes_too_long_does_not_keep_the_buyer(receiver):
    receiver.may_answer.clear()
    with running_sandbox(receiver.url, accounts=[SELLER], redirect_wait=0.1) as sandbox:
        session = sandbox.client.v1.checkout.sessions.create(wanted(), AS_SELLER)

        answer = post(sandbox, f"/c/pay/{session.id}", method="card", email="a@example.com")

        assert answer[0] == 303
        receiver.may_answer.set()
        sandbox.wait_idle()


def test_clicking_twice_pays_once(sandbox, sessions):
    session = sessions.create(wanted(), AS_SELLER)
    fields = {"method": "card", "email": "a@example.com"}

    answers = [post(sandbox, f"/c/pay/{session.id}", **fields)[0] for _ in range(2)]

    assert answers == [303, 303]
    assert event_types(sandbox).count("charge.succeeded") == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "declined", "email": "a@example.com"}, "declined"),
        ({"method": "card", "email": "nobody"}, "e-mail address"),
        ({"method": "gold", "email": "a@example.com"}, "way to pay"),
    ],
)
def test_what_goes_wrong_is_said_and_can_be_tried_again(sandbox, sessions, fields, message):
    session = sessions.create(wanted(), AS_SELLER)

    status, _, page = post(sandbox, f"/c/pay/{session.id}", **fields)

    assert status == 422
    assert message in page
    assert sessions.retrieve(session.id, {}, AS_SELLER).status == "open"


def test_pages_of_sessions_that_are_over(sandbox, sessions, paid):
    expired = sessions.expire(sessions.create(wanted(), AS_SELLER).id, {}, AS_SELLER)

    def page(session_id):
        return sandbox.request("GET", f"/c/pay/{session_id}")

    assert "You have paid" in page(paid.id)[2]
    assert "has expired" in page(expired.id)[2]
    assert page("cs_test_none")[0] == 404


def test_the_control_page_shows_everything_and_its_forms_work(receiver):
    with running_sandbox(receiver.url, accounts=[SELLER]) as sandbox:
        session = sandbox.client.v1.checkout.sessions.create(wanted(), AS_SELLER)
        intent = sandbox.pay(session.id)["payment_intent"]

        path, own = f"/_sandbox/payments/{intent}/refund", {"Origin": sandbox.url}
        refunded = sandbox.request("POST", path, "amount=", **FORM, **own)
        _, headers, page = sandbox.request("GET", "/")

    assert (refunded[0], refunded[1]["Location"]) == (303, "/")
    assert headers["Referrer-Policy"] == "same-origin"
    for shown in (session.id, intent, "refunded 12.50 EUR", "charge.refunded", receiver.url):
        assert shown in page


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://elsewhere.example"}, {"Host": "a.example"}]
)
def test_the_controls_are_closed_to_other_sites(sandbox, headers):
    answer = sandbox.request("POST", "/_sandbox/faults", "kind=500", **FORM, **headers)

    assert answer[0] == 403


# OAuth


def authorize(sandbox, **fields):
    """Decide on the page; the query of the address that the seller is sent back to."""
    request = {
        "client_id": CLIENT_ID,
        "response_type": "code",
        "scope": "read_write",
        "state": "s1",
        "redirect_uri": CALLBACK,
    }
    status, headers, _ = post(sandbox, "/oauth/authorize", **request, **fields)
    assert status == 302
    assert headers["Location"].startswith(f"{CALLBACK}?")
    return {
        name: values[0] for name, values in parse_qs(urlsplit(headers["Location"]).query).items()
    }


def redeem(sandbox, code):
    return sandbox.client.oauth.token({"grant_type": "authorization_code", "code": code})


def test_the_consent_page_offers_the_test_accounts(sandbox):
    url = sandbox.client.oauth.authorize_url(
        {"scope": "read_write", "state": "s1", "redirect_uri": CALLBACK}
    )

    status, _, page = sandbox.request("GET", url.removeprefix(sandbox.url))

    assert status == 200
    for shown in (SELLER, OTHER, "Allow", "Deny", CALLBACK):
        assert shown in page


def test_an_allowed_account_is_connected(sandbox):
    back = authorize(sandbox, decision="allow", account="new", name="Corner Bookshop")

    token = redeem(sandbox, back["code"])

    assert (back["scope"], back["state"]) == ("read_write", "s1")
    assert (token.scope, token.livemode, token.token_type) == ("read_write", False, "bearer")
    account = sandbox.client.v1.accounts.retrieve(token.stripe_user_id)
    assert account.business_profile.name == "Corner Bookshop"
    assert event_types(sandbox, {"stripe_account": account.id}) == [
        "account.application.authorized"
    ]


def test_a_denial_comes_back_as_an_error(sandbox):
    back = authorize(sandbox, decision="deny")

    assert (back["error"], back["state"]) == ("access_denied", "s1")
    assert "error_description" in back


def test_using_a_code_twice_disconnects_the_account(sandbox):
    code = authorize(sandbox, decision="allow", account=SELLER)["code"]
    redeem(sandbox, code)

    with pytest.raises(stripe.oauth_error.InvalidGrantError):
        redeem(sandbox, code)

    with pytest.raises(stripe.PermissionError):
        sandbox.client.v1.charges.list({}, AS_SELLER)


def test_an_unknown_code_is_refused(sandbox):
    with pytest.raises(stripe.oauth_error.InvalidGrantError):
        redeem(sandbox, "ac_none")


def test_the_platform_lets_go_of_an_account(sandbox):
    sandbox.client.oauth.deauthorize({"stripe_user_id": SELLER})

    with pytest.raises(stripe.oauth_error.InvalidClientError):
        sandbox.client.oauth.deauthorize({"stripe_user_id": SELLER})


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"client_id": "ca_other"}, "invalid_client"),
        ({"redirect_uri": "https://elsewhere.example"}, "invalid_redirect_uri"),
        ({"scope": "everything"}, "invalid_scope"),
        ({"response_type": "token"}, "unsupported_response_type"),
    ],
)
def test_a_bad_request_for_consent_is_shown_as_json(fields, error):
    asked = {"client_id": CLIENT_ID, "redirect_uri": CALLBACK, **fields}
    with running_sandbox(redirect_uris=(CALLBACK,)) as sandbox:
        status, _, text = sandbox.request("GET", f"/oauth/authorize?{urlencode(asked)}")

    assert (status, json.loads(text)["error"]) == (400, error)


# Restarts


def test_the_state_survives_a_restart(tmp_path):
    file = tmp_path / "state.json"
    settings = {"accounts": [SELLER], "state_file": file, "bank_debit_delay": 600}
    with running_sandbox(**settings) as sandbox:
        session_id = pay_one(sandbox, "bank_ok")

    with running_sandbox(**settings) as sandbox:
        session = sandbox.client.v1.checkout.sessions.retrieve(session_id, {}, AS_SELLER)
        assert session.payment_status == "unpaid"
        sandbox.settle(session.payment_intent)
        assert event_types(sandbox)[-1] == "checkout.session.async_payment_succeeded"
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_what_was_due_while_it_was_off_happens_at_the_start(tmp_path, receiver):
    file = tmp_path / "state.json"
    with running_sandbox(accounts=[SELLER], state_file=file) as sandbox:
        session = sandbox.client.v1.checkout.sessions.create(wanted(), AS_SELLER)
    state = json.loads(file.read_text())
    state["agenda"][0]["at"] = 0
    file.write_text(json.dumps(state))

    with running_sandbox(receiver.url, state_file=file):
        event, _ = receiver.next()

    assert event.type == "checkout.session.expired"
    assert event.data.object.id == session.id
