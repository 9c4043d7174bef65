"""What a delivery costs the database: at most ten statements, and two for a repeat."""

from functools import partial

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants.models import Member
from tests.conftest import TENANT_ID, changed, stripe_event

pytestmark = pytest.mark.django_db(transaction=True)

TRANSACTION_CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


@pytest.fixture
def statements_of(deliver):
    """The statements, but for transaction control, that the delivery of an event takes."""

    def statements_of(event, deliver=deliver):
        with CaptureQueriesContext(connection) as captured:
            deliver(event)
        return [
            query["sql"]
            for query in captured.captured_queries
            if not query["sql"].startswith(TRANSACTION_CONTROL)
        ]

    return statements_of


@pytest.fixture
def new_email(checkout, paid_event):
    return paid_event


@pytest.fixture
def known_email(checkout, paid_event, tenant):
    Member.objects.create(tenant=tenant, email="member@example.com")
    return paid_event


@pytest.fixture
def known_member(open_checkout, paid_event, tenant):
    member = Member.objects.create(tenant=tenant, email="member@example.com")
    open_checkout(paid_event["data"]["object"]["id"], member=member)
    return paid_event


@pytest.fixture
def payment_link(account, plan, paid_event):
    return changed(paid_event, metadata={"tenant_id": TENANT_ID, "plan_id": str(plan.id)})


@pytest.fixture
def credit_package(tenant, package, paid_event):
    del paid_event["account"], paid_event["context"]
    return paid_event


@pytest.fixture
def charge(account):
    return stripe_event("charge.succeeded")


@pytest.fixture
def charge_of_a_purchase(checkout, paid_event, deliver):
    deliver(paid_event)
    return stripe_event("charge.succeeded")


@pytest.fixture
def purchase_with_a_charge(checkout, paid_event, deliver):
    deliver(stripe_event("charge.succeeded"))
    return paid_event


@pytest.fixture
def expired_session(open_checkout):
    event = stripe_event("checkout.session.expired")
    open_checkout(event["data"]["object"]["id"])
    return event


@pytest.fixture
def delayed_payment(open_checkout, deliver):
    unpaid = stripe_event("checkout.session.completed.unpaid")
    open_checkout(unpaid["data"]["object"]["id"])
    deliver(unpaid)
    return stripe_event("checkout.session.async_payment_succeeded")


EVENTS = pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("new_email", "fulfilled"),
        ("known_email", "fulfilled"),
        ("known_member", "fulfilled"),
        ("payment_link", "fulfilled"),
        ("credit_package", "fulfilled"),
        ("charge", "charge_recorded"),
        ("charge_of_a_purchase", "charge_recorded"),
        ("purchase_with_a_charge", "fulfilled"),
        ("expired_session", "expired"),
        ("delayed_payment", "fulfilled"),
    ],
)


@EVENTS
def test_a_new_event_takes_at_most_ten_statements(name, outcome, request, statements_of, recorded):
    event = request.getfixturevalue(name)

    statements = statements_of(event)

    assert recorded(event) == ("done", outcome)
    assert len(statements) <= 10, "\n".join(statements)


@EVENTS
def test_a_repeat_takes_two_statements(name, outcome, request, statements_of, deliver):
    event = request.getfixturevalue(name)
    deliver(event)

    statements = statements_of(event)

    assert len(statements) == 2, "\n".join(statements)


def test_an_event_that_is_not_ours_takes_at_most_ten_statements(statements_of, recorded, account):
    event = stripe_event("checkout.session.completed.stripe_trigger")

    statements = statements_of(event)

    assert recorded(event) == ("ignored", "not_ours")
    assert len(statements) <= 10, "\n".join(statements)


OTHER_SECRET = "whsec_test_of_somebody_else_0000"


def test_a_delivery_that_cannot_be_genuine_takes_none(deliver, db, paid_event):
    with CaptureQueriesContext(connection) as captured:
        deliver(paid_event, secret=OTHER_SECRET, timestamp=1_700_000_000)

    assert len(captured) == 0


def test_keeping_a_delivery_that_no_secret_signed_takes_three(statements_of, deliver, paid_event):
    deliver_wrong = partial(deliver, secret=OTHER_SECRET)

    assert len(statements_of(paid_event, deliver_wrong)) == 3


def test_in_a_flood_of_those_each_takes_one(statements_of, deliver, paid_event):
    deliver_wrong = partial(deliver, secret=OTHER_SECRET)
    with time_machine.travel(1_793_000_000, tick=False):
        for _ in range(5):
            deliver_wrong(paid_event)

        statements = statements_of(paid_event, deliver_wrong)

    assert len(statements) == 1
