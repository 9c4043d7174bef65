"""What is old goes, but never an id, and never what somebody still has to look at."""

from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from fulfillment.models import RejectedDelivery, StripeEvent, Worker
from purchases.models import Purchase
from tenants.models import MemberSession, Tenant
from tests.conftest import changed, stripe_event


def prune(*, days):
    """Prune as it would be done so many days from now; what is printed."""
    printed = StringIO()
    with time_machine.travel(timezone.now() + timedelta(days=days)):
        call_command("prune", stdout=printed)
    return printed.getvalue()


def test_a_settled_body_goes_after_90_days_and_the_id_stays(checkout, deliver, paid_event):
    deliver(paid_event)

    prune(days=89)
    assert StripeEvent.objects.get().payload
    printed = prune(days=91)

    assert "1 event bodies" in printed
    assert bytes(StripeEvent.objects.get(pk=paid_event["id"]).payload) == b""


def test_an_event_whose_body_is_gone_is_not_taken_for_new(checkout, deliver, paid_event):
    deliver(paid_event)
    prune(days=91)

    deliver(paid_event)

    assert (StripeEvent.objects.count(), Purchase.objects.count()) == (1, 1)


@pytest.fixture
def held(checkout, deliver, paid_event):
    Tenant.objects.update(is_active=False)
    deliver(paid_event)


def test_what_is_not_settled_is_kept(held):
    prune(days=400)

    assert StripeEvent.objects.get().payload


def test_a_type_that_a_later_version_may_know_is_kept(deliver, account):
    event = stripe_event("checkout.session.completed.paid") | {"type": "invoice.paid"}
    deliver(event)

    prune(days=400)

    assert StripeEvent.objects.get(outcome="unhandled_type").payload


def test_the_page_of_a_pruned_event_says_so(client, admin_user, checkout, deliver, paid_event):
    deliver(paid_event)
    prune(days=91)
    client.force_login(admin_user)

    page = client.get(reverse("admin:fulfillment_stripeevent_change", args=[paid_event["id"]]))

    assert "Removed 90 days after it came." in page.text


def test_more_than_one_batch_is_pruned(deliver, account, paid_event, monkeypatch):
    monkeypatch.setattr("fulfillment.pruning.BATCH", 2)
    for number in range(5):
        deliver(changed(paid_event, event_id=f"evt_{number}", id=f"cs_{number}", metadata={}))

    assert "5 event bodies" in prune(days=91)


def test_old_sessions_rejects_and_workers_go(tenant):
    member = tenant.members.create(email="m@example.com")
    MemberSession.objects.create(
        member=member, authenticated=True, refresh_family=tenant.id, expires_at=timezone.now()
    )
    RejectedDelivery.objects.create(body=b"{}", signature="t=1", reason="no signature matches")
    Worker.objects.create(name="host:1")

    prune(days=29)
    assert MemberSession.objects.exists()
    prune(days=91)

    assert not MemberSession.objects.exists()
    assert not RejectedDelivery.objects.exists()
    assert not Worker.objects.exists()
