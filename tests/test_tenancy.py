"""Whose payment it is: the account decides, and nobody reaches another tenant's things."""

import json

import pytest
from django.utils import timezone

from fulfillment import inbox
from fulfillment.models import Checkout, StripeEvent
from purchases.models import Offer, Plan, Purchase
from tenants.keys import create_key
from tenants.models import ApiKey, Member, PaymentAccount
from tests.conftest import ACCOUNT_ID, TENANT_ID, TOKEN, VERIFIER, changed, stripe_event

OTHER_ACCOUNT_ID = "acct_1QTenantBBB0002x"


@pytest.fixture
def other_plan(other_account):
    """What another tenant sells, at the price in the real events."""
    offer = Offer.objects.create(tenant=other_account.tenant, slug="daily", name="Daily")
    return Plan.objects.create(offer=offer, name="Daily", amount=25000, currency="eur")


def sale_of(plan, event, **fields):
    """The paid event as a sale of the plan by its own tenant, through a Payment Link."""
    account = plan.offer.tenant.payment_accounts.get()
    metadata = {"tenant_id": str(plan.offer.tenant_id), "plan_id": str(plan.id)}
    return changed(event, account=account.stripe_account_id, metadata=metadata, **fields)


def buyer(email):
    return {"email": email, "name": "Jenny Rosen"}


# --- the account decides


@pytest.mark.parametrize("intruder", ["acct_1QNobodyKnows0000", OTHER_ACCOUNT_ID])
def test_another_account_cannot_name_our_tenant(
    intruder, deliver, recorded, caplog, checkout, other_account, paid_event
):
    response = deliver(changed(paid_event, account=intruder))

    assert response.status_code == 200
    assert recorded(paid_event) == ("held", "tenant_mismatch")
    assert not Purchase.objects.exists()
    assert "security_tenant_mismatch" in caplog.text


@pytest.mark.parametrize("intruder", ["acct_1QNobodyKnows0000", OTHER_ACCOUNT_ID])
@pytest.mark.parametrize("named", ["plan_id", "checkout_id"])
def test_another_account_cannot_sell_our_plan(
    named, intruder, deliver, recorded, checkout, other_account, plan, paid_event
):
    ids = {"plan_id": str(plan.id), "checkout_id": str(checkout.id)}
    metadata = {"tenant_id": TENANT_ID, named: ids[named]}

    deliver(changed(paid_event, account=intruder, metadata=metadata))

    assert recorded(paid_event) == ("held", "tenant_mismatch")
    assert not Purchase.objects.exists()


@pytest.mark.parametrize("claimed", ["", "no-uuid", 7, [TENANT_ID], TENANT_ID.upper() + "0"])
def test_what_is_not_our_tenants_id_is_a_mismatch(claimed, deliver, recorded, checkout, paid_event):
    deliver(changed(paid_event, metadata={"tenant_id": claimed}))

    assert recorded(paid_event) == ("held", "tenant_mismatch")


def test_an_intruder_does_not_stand_in_the_way(
    deliver, recorded, checkout, other_account, paid_event
):
    deliver(changed(paid_event, event_id="evt_intruder", account=OTHER_ACCOUNT_ID))
    deliver(changed(paid_event, event_id="evt_silent", account=OTHER_ACCOUNT_ID, metadata={}))

    deliver(paid_event)

    assert recorded({"id": "evt_silent"}) == ("ignored", "not_ours")
    assert recorded(paid_event) == ("done", "fulfilled")


def test_another_account_cannot_expire_our_checkout(deliver, open_checkout, other_account):
    event = stripe_event("checkout.session.expired")
    checkout = open_checkout(event["data"]["object"]["id"])

    deliver(changed(event, account=OTHER_ACCOUNT_ID))
    deliver(changed(event, event_id="evt_2", account=OTHER_ACCOUNT_ID, metadata={}))

    checkout.refresh_from_db()
    assert checkout.status == "open"


def test_another_accounts_charge_is_not_our_purchases(deliver, checkout, other_account, paid_event):
    deliver(changed(stripe_event("charge.succeeded"), account=OTHER_ACCOUNT_ID))

    deliver(paid_event)

    assert Purchase.objects.get().charge_id == ""


def test_our_checkout_needs_no_tenant_in_the_metadata(deliver, recorded, checkout, paid_event):
    deliver(changed(paid_event, metadata={"checkout_id": str(checkout.id)}))

    assert recorded(paid_event) == ("done", "fulfilled")


@pytest.mark.parametrize("session_id", [None, "cs_test_of_the_other_tenant"])
def test_another_tenants_checkout_cannot_be_reached_by_its_id(
    session_id, deliver, recorded, open_checkout, other_account, other_plan, paid_event
):
    checkout = open_checkout(session_id)
    event = sale_of(other_plan, paid_event)
    event["data"]["object"]["metadata"]["checkout_id"] = str(checkout.id)

    deliver(event)

    checkout.refresh_from_db()
    assert recorded(event) == ("held", "session_mismatch")
    assert (checkout.status, checkout.stripe_session_id) == ("open", session_id)


def test_the_same_session_id_at_two_accounts_is_two_sessions(
    deliver, recorded, checkout, other_plan, paid_event
):
    event = sale_of(other_plan, paid_event)

    deliver(event)

    checkout.refresh_from_db()
    assert Purchase.objects.get().tenant == other_plan.offer.tenant
    assert checkout.status == "open"


# --- the platform's own account


def test_the_context_is_not_the_account(deliver, recorded, checkout, paid_event):
    del paid_event["account"]
    assert paid_event["context"] == ACCOUNT_ID

    deliver(changed(paid_event, metadata={}))

    assert recorded(paid_event) == ("ignored", "not_ours")
    assert Checkout.objects.get().status == "open"


def test_the_context_does_not_overrule_the_account(deliver, recorded, checkout, paid_event):
    deliver({**paid_event, "context": OTHER_ACCOUNT_ID})

    assert recorded(paid_event) == ("done", "fulfilled")


def test_the_platform_sells_no_plans(deliver, recorded, checkout, plan, paid_event):
    del paid_event["account"]
    metadata = {"tenant_id": TENANT_ID, "plan_id": str(plan.id)}

    deliver(changed(paid_event, metadata=metadata))

    assert recorded(paid_event) == ("ignored", "not_ours")
    assert not Purchase.objects.exists()


# --- test mode and live mode


@pytest.mark.parametrize("is_live", [True, False])
def test_an_event_of_the_other_mode_is_ignored(
    is_live, deliver, recorded, settings, checkout, paid_event
):
    settings.STRIPE_LIVEMODE = not is_live

    deliver({**paid_event, "livemode": is_live})

    assert recorded(paid_event) == ("ignored", "other_mode")
    assert not Purchase.objects.exists()


def test_an_account_is_connected_in_one_mode(deliver, recorded, settings, checkout, paid_event):
    settings.STRIPE_LIVEMODE = True

    deliver({**paid_event, "livemode": True})

    assert recorded(paid_event) == ("held", "tenant_mismatch")
    assert not Purchase.objects.exists()


# --- tenants and accounts that were switched off


@pytest.fixture
def disabled(tenant):
    tenant.is_active = False
    tenant.save()
    return tenant


def enable(tenant):
    tenant.is_active = True
    tenant.save()


def test_a_disabled_tenants_payment_is_held(deliver, recorded, checkout, disabled, paid_event):
    deliver(paid_event)

    assert recorded(paid_event) == ("held", "tenant_inactive")
    assert StripeEvent.objects.get().tenant.slug == disabled.slug
    assert not Purchase.objects.exists()


def test_a_held_payment_resumes_when_the_tenant_is_enabled(
    deliver, recorded, checkout, disabled, paid_event
):
    deliver(paid_event)
    enable(disabled)

    inbox.resume_held(disabled)

    assert recorded(paid_event) == ("done", "fulfilled")
    assert Purchase.objects.get().fulfilled_by == "replay"


def test_a_held_payment_waits_while_the_tenant_is_disabled(
    deliver, recorded, checkout, disabled, paid_event
):
    deliver(paid_event)

    inbox.process_again(paid_event["id"])

    assert recorded(paid_event) == ("held", "tenant_inactive")


def test_a_held_payment_that_is_sent_again_goes_through(
    deliver, recorded, checkout, disabled, paid_event
):
    deliver(paid_event)
    enable(disabled)

    deliver(paid_event)

    assert recorded(paid_event) == ("done", "fulfilled")


def test_a_disconnected_account_is_still_its_tenants(deliver, recorded, checkout, paid_event):
    PaymentAccount.objects.update(disconnected_at=timezone.now())

    deliver(paid_event)

    assert recorded(paid_event) == ("done", "fulfilled")


# --- members


@pytest.mark.parametrize(
    "email", ["Member@Example.com", "member@example.com", "MEMBER@EXAMPLE.COM"]
)
def test_an_email_in_any_case_is_one_member(email, deliver, plan, account, paid_event):
    deliver(sale_of(plan, paid_event))

    sale = sale_of(plan, paid_event, id="cs_test_2", customer_details=buyer(email))
    deliver(changed(sale, event_id="evt_2"))

    assert Member.objects.get().email == "member@example.com"
    assert Member.objects.get().purchases.count() == 2


def test_the_same_email_at_two_tenants_is_two_members(
    deliver, plan, account, other_plan, paid_event
):
    deliver(sale_of(plan, paid_event))

    deliver(changed(sale_of(other_plan, paid_event), event_id="evt_2", id="cs_test_2"))

    members = Member.objects.filter(email="member@example.com", purchases__isnull=False)
    assert sorted(members.values_list("tenant__slug", flat=True)) == ["acme", "rival"]


def test_another_tenants_member_cannot_be_named(deliver, plan, account, other_account, paid_event):
    stranger = Member.objects.create(tenant=other_account.tenant, email="stranger@example.com")
    event = sale_of(plan, paid_event)
    event["data"]["object"]["metadata"]["member_id"] = str(stranger.id)

    deliver(event)

    assert Purchase.objects.get().member.email == "member@example.com"


# --- the API


def test_another_tenants_token_is_as_good_as_none(
    client, deliver, checkout, other_account, paid_event
):
    key = create_key(other_account.tenant, ApiKey.Kind.PUBLISHABLE)
    deliver(paid_event)

    answers = [
        client.post(
            "/api/purchases/exchange",
            json.dumps({"token": token, "verifier": VERIFIER}),
            content_type="application/json",
            headers={"Authorization": f"Bearer {key}"},
        )
        for token in (TOKEN, "token-that-nobody-made")
    ]

    assert {answer.status_code for answer in answers} == {400}
    assert answers[0].json()["error"] == answers[1].json()["error"]
