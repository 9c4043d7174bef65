"""Stripe's events about the tenants' accounts themselves, in any order and of any shape."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from purchases.models import Entitlement
from tenants.models import PaymentAccount
from tests.conftest import changed, stripe_event

UPDATED = stripe_event("account.updated")
ENABLED = stripe_event("account.updated.enabled")
LEFT = stripe_event("account.application.deauthorized")
JOINED = stripe_event("account.application.authorized")


def rows():
    """Everything there is about accounts, to see that nothing changed."""
    return list(PaymentAccount.objects.order_by("pk").values())


def at(event):
    return datetime.fromtimestamp(event["created"], UTC)


def test_an_updated_account_shows_what_stripe_says(deliver, recorded, account):
    deliver(UPDATED)

    account.refresh_from_db()
    assert recorded(UPDATED) == ("done", "account_updated")
    assert (account.charges_enabled, account.payouts_enabled) == (False, False)
    assert account.requirements == ["individual.verification.document"]
    assert account.disabled_reason == "requirements.past_due"
    assert (account.display_name, account.facts_at) == ("Tenant A", at(UPDATED))


@pytest.mark.parametrize("order", [[UPDATED, ENABLED], [ENABLED, UPDATED]])
def test_the_latest_word_on_an_account_counts_in_any_order(deliver, account, order):
    [deliver(event) for event in order]

    account.refresh_from_db()
    assert account.charges_enabled
    assert (account.requirements, account.disabled_reason) == ([], "")


def test_an_operators_name_for_an_account_stays(deliver, account):
    PaymentAccount.objects.update(display_name="Our name for it")

    deliver(UPDATED)

    account.refresh_from_db()
    assert account.display_name == "Our name for it"
    assert not account.charges_enabled


@pytest.mark.parametrize("event", [UPDATED, LEFT, JOINED], ids=lambda event: event["type"])
def test_an_account_that_nobody_connected_is_not_ours(deliver, recorded, other_account, event):
    before = rows()

    deliver(event)

    assert recorded(event) == ("ignored", "not_ours")
    assert rows() == before


@pytest.mark.parametrize(
    "fields",
    [
        {"charges_enabled": "true"},
        {"payouts_enabled": None},
        {"details_submitted": 1},
        {"requirements": ["currently_due"]},
        {"requirements": {"currently_due": "company.tax_id"}},
        {"requirements": {"past_due": [7]}},
        {"requirements": {"disabled_reason": "\x00"}},
        {"settings": {"dashboard": {"display_name": 7}}},
    ],
)
def test_an_account_of_another_shape_is_held(deliver, recorded, account, fields):
    before = rows()

    deliver(changed(UPDATED, **fields))

    assert recorded(UPDATED) == ("held", "malformed")
    assert rows() == before


@pytest.mark.parametrize("fields", [{"requirements": None}, {"settings": None}])
def test_an_account_may_lack_what_older_versions_lack(deliver, recorded, account, fields):
    deliver(changed(UPDATED, **fields))

    assert recorded(UPDATED) == ("done", "account_updated")


def test_a_name_that_no_database_takes_is_made_storable(deliver, account):
    deliver(changed(UPDATED, settings={"dashboard": {"display_name": "A\x00B\ud800" + "c" * 300}}))

    account.refresh_from_db()
    assert account.display_name == "AB" + "c" * 198


def test_an_account_whose_owner_left_sells_nothing_more(deliver, recorded, account):
    PaymentAccount.objects.update(connected_at=at(LEFT) - timedelta(days=1))

    deliver(LEFT)

    account.refresh_from_db()
    assert recorded(LEFT) == ("done", "account_disconnected")
    assert account.disconnected_at == at(LEFT)


@pytest.mark.parametrize(("later", "ends"), [(0.9, True), (1.1, False)])
def test_an_old_departure_does_not_end_a_newer_connection(deliver, recorded, account, later, ends):
    PaymentAccount.objects.update(connected_at=at(LEFT) + timedelta(seconds=later))

    deliver(LEFT)

    account.refresh_from_db()
    assert recorded(LEFT) == ("done", "account_disconnected" if ends else "superseded")
    assert bool(account.disconnected_at) is ends


def test_the_first_departure_counts(deliver, recorded, account):
    earlier = at(LEFT) - timedelta(minutes=5)
    PaymentAccount.objects.update(connected_at=earlier - timedelta(days=1), disconnected_at=earlier)

    deliver(LEFT)

    account.refresh_from_db()
    assert recorded(LEFT) == ("done", "superseded")
    assert account.disconnected_at == earlier


def test_an_authorization_changes_nothing(deliver, recorded, account):
    PaymentAccount.objects.update(disconnected_at=timezone.now())
    before = rows()

    deliver(JOINED)

    assert recorded(JOINED) == ("done", "account_authorized")
    assert rows() == before


def test_a_refund_on_an_account_that_left_still_takes_access_back(
    deliver, account, checkout, paid_event
):
    deliver(paid_event)
    deliver(LEFT)
    PaymentAccount.objects.update(disconnected_at=timezone.now())

    deliver(stripe_event("charge.refunded.full"))

    assert not Entitlement.objects.active().exists()
