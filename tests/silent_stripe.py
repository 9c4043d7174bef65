"""A Stripe that sends no webhooks: what it knows has to be asked for.

Test files say `pytest_plugins = ["tests.silent_stripe"]`.
"""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from fulfillment.models import Checkout
from tests.conftest import ACCOUNT_ID, OTHER_ACCOUNT_ID
from tests.sandbox_server import KEY, running_sandbox

EMAIL = "reader@example.com"


@pytest.fixture
def silent_stripe(settings):
    """Bank debits take an hour, unless a test settles them."""
    with running_sandbox(accounts=[ACCOUNT_ID, OTHER_ACCOUNT_ID], bank_debit_delay=3600) as stripe:
        settings.STRIPE_API_BASE = stripe.url
        settings.STRIPE_SECRET_KEY = KEY
        yield stripe


@pytest.fixture
def begin(client, silent_stripe, account, plan, publishable_key):
    """Start a checkout as a shop does; returns our row for it, so many minutes old."""

    def begin(*, minutes=0, email=EMAIL):
        # The limits count what one address asks, and here all buyers share one.
        cache.clear()
        answer = client.post(
            "/api/checkout/sessions",
            {"plan": str(plan.id), "email": email},
            content_type="application/json",
            headers={"Authorization": f"Bearer {publishable_key}"},
        )
        assert answer.status_code == 201, answer.text
        checkout = Checkout.objects.get(pk=answer.json()["id"])
        checkout.created_at = timezone.now() - timedelta(minutes=minutes)
        checkout.save()
        return checkout

    return begin


@pytest.fixture
def buy(silent_stripe, begin):
    """Start a checkout and pay it; our row does not know of the payment."""

    def buy(method="card", *, minutes=0, email=EMAIL):
        checkout = begin(minutes=minutes, email=email)
        silent_stripe.pay(checkout.stripe_session_id, method=method, email=email)
        return checkout

    return buy
