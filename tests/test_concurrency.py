"""Everything at once, from threads against the running server: one of everything remains."""

import copy
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fulfillment.models import Checkout, StripeEvent
from purchases.models import Entitlement, Purchase, PurchaseEvent
from tenants.models import Member, MemberSession
from tests.conftest import TOKEN, VERIFIER, changed, stripe_event
from tests.server import post, running_server
from tests.stripe_stand_in import stripe_stand_in

pytestmark = pytest.mark.django_db(transaction=True)

PRODUCTS = ["archive", "newsletter"]


# One server for all: it takes longer to start than all of the tests take.
@pytest.fixture(scope="module")
def world(django_db_setup):
    with (
        stripe_stand_in() as stripe,
        running_server(threads=8, env={"STRIPE_API_BASE": stripe.url}) as server,
    ):
        yield server, stripe


@pytest.fixture
def allegro(world, transactional_db):
    return world[0]


@pytest.fixture
def stripe(world):
    stripe = world[1]
    stripe.sessions.clear()
    stripe.calls.clear()
    return stripe


@pytest.fixture
def exchange(allegro, publishable_key):
    """A call that trades the token of a return page for the purchase."""

    def exchange(token=TOKEN):
        body = json.dumps({"token": token, "verifier": VERIFIER}).encode()
        headers = {"Authorization": f"Bearer {publishable_key}", "Content-Type": "application/json"}
        return lambda: post(f"{allegro.url}/api/purchases/exchange", body, headers)

    return exchange


def at_once(calls):
    """Make the calls from as many threads, starting together; their answers in order."""
    start = threading.Barrier(len(calls))

    def make(call):
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(make, calls))


def rows(*models):
    return [model.objects.count() for model in models]


def granted():
    return sorted(Entitlement.objects.active().values_list("product__slug", flat=True))


def test_a_hundred_identical_deliveries_fulfill_once(delivery, checkout, paid_event):
    answers = at_once([delivery(paid_event)] * 100)

    assert {answer.status for answer in answers} == {200}
    assert rows(StripeEvent, Purchase, Member) == [1, 1, 1]
    assert StripeEvent.objects.get().status == "done"
    assert granted() == PRODUCTS
    assert sorted(PurchaseEvent.objects.values_list("type", flat=True)) == [
        "entitlement.granted",
        "entitlement.granted",
        "purchase.completed",
    ]


def test_deliveries_race_exchanges_and_each_checkout_is_fulfilled_once(
    delivery, exchange, stripe, open_checkout, paid_event
):
    events = [numbered(paid_event, number) for number in range(8)]
    sessions = [event["data"]["object"]["id"] for event in events]
    for event, session in zip(events, sessions, strict=True):
        open_checkout(session, token=f"token of {session}")
        stripe.add(event)

    answers = at_once(
        [delivery(event) for event in events for _ in range(5)]
        + [exchange(f"token of {session}") for session in sessions]
    )

    assert {answer.status for answer in answers} == {200}
    assert rows(StripeEvent, Purchase, Member, MemberSession) == [8, 8, 8, 8]
    assert rows(Entitlement, PurchaseEvent) == [16, 24]
    assert set(StripeEvent.objects.values_list("status", flat=True)) == {"done"}
    assert set(Checkout.objects.values_list("status", flat=True)) == {"complete"}
    assert all(json.loads(answer.body)["status"] == "completed" for answer in answers[40:])


def numbered(event, number):
    """Another buyer's session, with an event of its own."""
    about = event["data"]["object"]
    event = changed(
        event,
        event_id=f"{event['id']}{number}",
        id=f"{about['id']}{number}",
        payment_intent=f"{about['payment_intent']}{number}",
    )
    event["data"]["object"]["customer_details"]["email"] = f"member{number}@example.com"
    return event


@pytest.mark.parametrize(
    "channels",
    [
        pytest.param(["webhook", "exchange"], id="webhook first"),
        pytest.param(["exchange", "webhook"], id="return first"),
        pytest.param(["exchange"], id="return only"),
        pytest.param(["webhook", "webhook", "exchange", "webhook", "exchange"], id="repeated"),
    ],
)
def test_whoever_tells_first_the_end_is_the_same(
    channels, delivery, exchange, stripe, checkout, paid_event
):
    stripe.add(paid_event)
    calls = {"webhook": delivery(paid_event), "exchange": exchange()}

    answers = [calls[channel]() for channel in channels]

    assert {answer.status for answer in answers} == {200}
    assert end_state() == {
        "purchases": [("paid", "paid", 25000, "eur", "pi_3QPaidPI000000000A1", channels[0])],
        "members": [("member@example.com", "Jenny Rosen")],
        "access": PRODUCTS,
        "log": ["entitlement.granted", "entitlement.granted", "purchase.completed"],
        "checkouts": ["complete"],
        "sessions": [True],
    }


def end_state():
    """Everything that a purchase leaves behind, but for ids and times."""
    return {
        "purchases": list(
            Purchase.objects.values_list(
                "status",
                "payment_status",
                "amount_total",
                "currency",
                "payment_intent_id",
                "fulfilled_by",
            )
        ),
        "members": list(Member.objects.values_list("email", "name")),
        "access": granted(),
        "log": sorted(PurchaseEvent.objects.values_list("type", flat=True)),
        "checkouts": list(Checkout.objects.values_list("status", flat=True)),
        "sessions": list(MemberSession.objects.values_list("authenticated", flat=True)),
    }


def test_the_return_after_the_webhook_asks_stripe_nothing(
    delivery, exchange, stripe, checkout, paid_event
):
    delivery(paid_event)()

    answer = exchange()()

    assert answer.status == 200
    assert stripe.calls == []


def test_two_first_purchases_of_one_email_make_one_member(delivery, open_checkout, paid_event):
    events = [numbered(paid_event, number) for number in range(8)]
    for event, spelling in zip(events, itertools.cycle(["New@Example.com", "new@example.com"])):
        open_checkout(event["data"]["object"]["id"])
        event["data"]["object"]["customer_details"]["email"] = spelling

    answers = at_once([delivery(event) for event in events])

    assert {answer.status for answer in answers} == {200}
    assert rows(Member, Purchase, Entitlement) == [1, 8, 16]
    assert Purchase.objects.filter(member_is_new=True).count() == 1


def test_many_events_about_one_session_make_one_purchase(delivery, checkout, paid_event):
    events = [changed(paid_event, event_id=f"evt_completed_{number}") for number in range(5)]
    later = changed(paid_event, event_id="evt_later")
    later["type"] = "checkout.session.async_payment_succeeded"

    answers = at_once([delivery(event) for event in [*events, later]])

    assert {answer.status for answer in answers} == {200}
    assert rows(StripeEvent, Purchase, Member, Entitlement, PurchaseEvent) == [6, 1, 1, 2, 3]
    outcomes = sorted(StripeEvent.objects.values_list("outcome", flat=True))
    assert outcomes == ["already_fulfilled"] * 5 + ["fulfilled"]


def test_an_unpaid_session_and_its_payment_at_once_end_paid(delivery, checkout, paid_event):
    unpaid = changed(paid_event, event_id="evt_unpaid", payment_status="unpaid")
    paid = copy.deepcopy(paid_event)
    paid["type"] = "checkout.session.async_payment_succeeded"

    answers = at_once([delivery(unpaid), delivery(paid)] * 5)

    assert {answer.status for answer in answers} == {200}
    assert rows(StripeEvent, Purchase, Member, Entitlement) == [2, 1, 1, 2]
    assert Purchase.objects.get().status == "paid"


def test_a_charge_that_races_its_session_is_not_missed(delivery, checkout, paid_event):
    charge_event = stripe_event("charge.succeeded")

    answers = at_once([delivery(paid_event), delivery(charge_event)] * 5)

    assert {answer.status for answer in answers} == {200}
    assert Purchase.objects.get().charge_id == charge_event["data"]["object"]["id"]


def test_two_tabs_get_one_session_and_the_same_refresh_token(
    exchange, stripe, checkout, paid_event
):
    stripe.add(paid_event)

    answers = at_once([exchange()] * 2)

    first, second = (json.loads(answer.body) for answer in answers)
    assert [answer.status for answer in answers] == [200, 200]
    assert first["refresh_token"] == second["refresh_token"]
    assert rows(MemberSession, Purchase, Entitlement) == [1, 1, 2]
