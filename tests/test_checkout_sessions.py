"""A browser starts a checkout: what it gets, what Stripe is asked for, what stays agreed on."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import stripe
import time_machine
from django.db import connection
from django.test import Client
from django.utils import timezone

from fulfillment.models import Checkout, StripeEvent
from purchases import ledger
from purchases.models import Entitlement, Offer, Plan, Product, Purchase
from tenants import tokens
from tenants.keys import create_key, sha256
from tenants.models import ApiKey, Member, MemberSession
from tests.conftest import ACCOUNT_ID, TENANT_ID, VERIFIER, changed, stripe_event
from tests.sandbox_server import KEY, running_sandbox
from tests.server import free_port
from tests.stripe_stand_in import stripe_stand_in

SHOP = "https://shop.example"


@pytest.fixture
def at_stripe(settings):
    """The sandbox, where the tenant's account is connected."""
    with running_sandbox(accounts=[ACCOUNT_ID, "acct_1QTenantBBB0002x"]) as sandbox:
        settings.STRIPE_SECRET_KEY = KEY
        settings.STRIPE_API_BASE = sandbox.url
        yield sandbox


@pytest.fixture(autouse=True)
def tenant(tenant):
    tenant.allowed_origins = [SHOP]
    tenant.save()
    return tenant


@pytest.fixture
def start(client, publishable_key, account, plan):
    """Start a checkout of the plan, as the SDK does."""

    def start(*, key=publishable_key, member_token="", client=client, **body):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if member_token:
            headers["Allegro-Member"] = member_token
        return client.post(
            "/api/checkout/sessions",
            {"plan": str(plan.id), **body},
            content_type="application/json",
            headers=headers,
        )

    return start


@pytest.fixture
def exchange(client, publishable_key):
    def exchange(url, verifier=VERIFIER):
        return client.post(
            "/api/purchases/exchange",
            {"token": token_in(url), "verifier": verifier},
            content_type="application/json",
            headers={"Authorization": f"Bearer {publishable_key}"},
        )

    return exchange


@pytest.fixture
def member(tenant):
    return Member.objects.create(tenant=tenant, email="jenny@example.com", name="Jenny Rosen")


@pytest.fixture
def free_plan(plan):
    plan.amount = 0
    plan.save()
    return plan


def token_of(member, *, authenticated=True):
    """A member token, as a purchase that proved who the buyer is would have brought."""
    session = tokens.open_session(
        member,
        authenticated=authenticated,
        purchase_id=uuid.uuid4(),
        refresh_token=tokens.new_refresh_token(),
    )
    return tokens.issue_jwt(session, products=[])[0]


def ask(sandbox, path, account=ACCOUNT_ID):
    """What Stripe has under the path on an account, or "" for the platform's own."""
    account_header = {"Stripe-Account": account} if account else {}
    headers = {"Authorization": f"Bearer {KEY}", **account_header}
    return json.loads(sandbox.request("GET", path, **headers)[2])


def session_of(sandbox, answer):
    """The session at Stripe that an answer led to."""
    checkout = Checkout.objects.get(id=answer.json()["id"])
    return ask(sandbox, f"/v1/checkout/sessions/{checkout.stripe_session_id}?expand[]=line_items")


def completed(sandbox):
    """The event of the last session that was paid, as it is delivered: with its account."""
    event = ask(sandbox, "/v1/events?type=checkout.session.completed")["data"][0]
    return ask(sandbox, f"/v1/events/{event['id']}")


def token_in(url):
    return parse_qs(urlsplit(url).query)["allegro_purchase_token"][0]


def error(answer):
    body = answer.json()
    assert body["error"]["code"] == answer.status_code
    assert body["error"]["message"]
    assert body["meta"]["request_id"] == answer.headers["X-Request-Id"]
    return answer.status_code, body["error"]["type"]


def granted():
    return sorted(Entitlement.objects.active().values_list("product__slug", flat=True))


# --- the answer, and the session behind it


def test_the_answer_says_where_to_pay_and_until_when(start, at_stripe):
    answer = start()

    assert answer.status_code == 201
    assert answer.json().keys() == {"id", "url", "expires_at"}
    session = session_of(at_stripe, answer)
    assert answer.json()["url"] == session["url"]
    assert datetime.fromisoformat(answer.json()["expires_at"]).timestamp() == session["expires_at"]


def test_the_charge_is_direct_on_the_tenants_account(start, at_stripe):
    answer = start()

    session = session_of(at_stripe, answer)
    assert session["mode"] == "payment"
    assert ask(at_stripe, "/v1/checkout/sessions", account="")["data"] == []


def test_the_plan_is_sold_at_its_price(start, at_stripe, plan):
    session = session_of(at_stripe, start())

    (item,) = session["line_items"]["data"]
    assert (item["description"], item["quantity"]) == (plan.name, 1)
    assert (item["price"]["unit_amount"], item["price"]["currency"]) == (25000, "eur")
    assert session["amount_total"] == 25000


def test_session_and_payment_both_say_what_they_are_for(start, at_stripe, plan):
    answer = start()
    session = session_of(at_stripe, answer)

    paid = at_stripe.pay(session["id"])

    payment = ask(at_stripe, f"/v1/payment_intents/{paid['payment_intent']}")
    expected = {
        "tenant_id": TENANT_ID,
        "checkout_id": answer.json()["id"],
        "plan_id": str(plan.id),
    }
    assert session["metadata"] == expected
    assert payment["metadata"] == expected
    assert session["client_reference_id"] == answer.json()["id"]


def test_a_signed_in_member_is_named_at_stripe(start, at_stripe, member):
    answer = start(member_token=token_of(member), email="typed@example.com")

    session = session_of(at_stripe, answer)
    assert session["metadata"]["member_id"] == str(member.id)
    assert session["customer_email"] == "jenny@example.com"


@pytest.mark.parametrize("body", [{}, {"email": "jenny@example.com"}])
def test_the_email_is_filled_in_at_stripe_if_the_page_knows_it(start, at_stripe, body):
    session = session_of(at_stripe, start(**body))

    assert session["customer_email"] == body.get("email")


def test_the_checkouts_id_is_the_idempotency_key(start, at_stripe):
    answer = start()

    with pytest.raises(stripe.IdempotencyError):
        at_stripe.client.v1.checkout.sessions.create(
            {"mode": "payment", "success_url": SHOP},
            {"stripe_account": ACCOUNT_ID, "idempotency_key": answer.json()["id"]},
        )


def test_a_call_that_stripe_stumbles_over_is_repeated_and_opens_one_session(start, at_stripe):
    at_stripe.fault("500", count=1)

    answer = start()

    assert answer.status_code == 201
    assert len(ask(at_stripe, "/v1/checkout/sessions")["data"]) == 1


# --- the way back


@pytest.mark.parametrize(
    ("given", "default", "expected"),
    [
        ({"return_url": f"{SHOP}/a"}, f"{SHOP}/default", f"{SHOP}/a?"),
        ({}, f"{SHOP}/default", f"{SHOP}/default?"),
        ({}, "", "http://testserver/purchase/return?tenant=acme&"),
    ],
)
def test_back_to_the_page_given_else_the_tenants_else_ours(
    start, at_stripe, tenant, given, default, expected
):
    tenant.default_return_url = default
    tenant.save()

    session = session_of(at_stripe, start(**given))

    assert session["success_url"].startswith(f"{expected}allegro_purchase_token=")
    assert session["cancel_url"] == f"{expected}allegro_purchase_canceled=1"


def test_the_page_keeps_parameters_of_its_own(start, at_stripe):
    page = f"{SHOP}/a?utm=x%20y&b=&b=2&c"

    session = session_of(at_stripe, start(return_url=page))

    assert session["success_url"].startswith(f"{page}&allegro_purchase_token=")
    assert session["cancel_url"] == f"{page}&allegro_purchase_canceled=1"


def test_of_the_token_only_a_hash_is_stored(start, at_stripe):
    token = token_in(session_of(at_stripe, start())["success_url"])

    row = Checkout.objects.values().get()
    assert row["token_sha256"] == sha256(token)
    assert token not in str(row)


def test_each_token_has_256_bits_and_is_another(start, at_stripe):
    found = {token_in(session_of(at_stripe, start())["success_url"]) for _ in range(3)}

    assert len(found) == 3
    # Six bits in each character of base64url.
    assert {len(token) for token in found} == {43}


def test_the_verifiers_hash_is_kept(start, at_stripe):
    start(verifier_sha256=sha256(VERIFIER))

    assert Checkout.objects.get().verifier_sha256 == sha256(VERIFIER)


# --- refused


@pytest.mark.parametrize(
    "body",
    [
        {"verifier_sha256": "a" * 63},
        {"verifier_sha256": "a" * 65},
        {"verifier_sha256": "A" * 64},
        {"verifier_sha256": "g" * 64},
        {"verifier_sha256": "a" * 64 + "\na"},
        {"verifier_sha256": VERIFIER},
        {"email": "nobody"},
        {"plan": None},
        {"plan": ["a"]},
    ],
)
def test_a_malformed_order_is_refused(start, at_stripe, body):
    assert error(start(**body)) == (400, "invalid_request")
    assert not Checkout.objects.exists()


def test_a_foreign_return_url_is_refused(start, at_stripe):
    assert error(start(return_url="https://evil.example/")) == (400, "invalid_return_url")
    assert not Checkout.objects.exists()


@pytest.mark.parametrize("key", ["", "pk_unknown", "pk_", "null", "page_forged"])
def test_without_a_good_key_nothing_is_sold(start, at_stripe, key):
    answer = start(key=key)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert not Checkout.objects.exists()


def test_a_revoked_key_is_refused(start, publishable_key):
    ApiKey.objects.update(revoked_at=timezone.now())

    assert error(start()) == (401, "authentication_failed")


def test_a_secret_key_is_not_for_browsers(start, tenant):
    key = create_key(tenant, ApiKey.Kind.SECRET)

    assert error(start(key=key)) == (401, "authentication_failed")


def test_a_disabled_tenant_sells_nothing(start, tenant):
    tenant.is_active = False
    tenant.save()

    assert error(start()) == (401, "authentication_failed")


@pytest.mark.parametrize(
    "plan_id",
    ["5f0c3f6e-0000-4000-8000-000000000000", str(uuid.UUID(int=0)), "monthly", "0", "-", "../etc"],
)
def test_an_unknown_plan_is_not_found(start, plan_id):
    assert error(start(plan=plan_id)) == (404, "plan_not_found")


def test_a_plan_off_sale_is_not_found(start, plan):
    plan.is_active = False
    plan.save()

    assert error(start()) == (404, "plan_not_found")


def test_another_tenants_plan_is_answered_like_an_unknown_one(start, other_account):
    offer = Offer.objects.create(tenant=other_account.tenant, slug="o", name="O")
    theirs = Plan.objects.create(offer=offer, name="Theirs", amount=100, currency="eur")

    found, unknown = start(plan=str(theirs.id)), start(plan=str(uuid.uuid4()))

    assert error(found) == error(unknown) == (404, "plan_not_found")
    assert found.json()["error"] == unknown.json()["error"]


def test_without_an_account_nothing_is_sold(start, account):
    account.delete()

    assert error(start()) == (409, "not_connected")


def test_a_disconnected_account_sells_nothing(start, account):
    account.disconnected_at = timezone.now()
    account.save()

    assert error(start()) == (409, "not_connected")


def test_an_account_of_the_other_mode_sells_nothing(start, account):
    account.livemode = True
    account.save()

    assert error(start()) == (409, "not_connected")


def test_an_account_that_withdrew_at_stripe_sells_nothing(start, at_stripe):
    at_stripe.deauthorize(ACCOUNT_ID)

    assert error(start()) == (409, "not_connected")


def test_an_account_that_may_not_charge_sells_nothing(start, account):
    account.charges_enabled = False
    account.save()

    assert error(start()) == (409, "charges_disabled")


# --- Stripe is out of reach


@pytest.fixture(params=["500", "garbage", "down"])
def stripe_out_of_reach(request, at_stripe, settings):
    if request.param == "down":
        settings.STRIPE_API_BASE = f"http://127.0.0.1:{free_port()}"
    else:
        at_stripe.fault(request.param)


def test_an_unreachable_stripe_is_a_502_that_says_when_to_retry(start, stripe_out_of_reach):
    answer = start()

    assert error(answer) == (502, "stripe_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert Checkout.objects.values_list("status", "stripe_session_id").get() == ("open", None)


@pytest.mark.django_db(transaction=True)
def test_what_is_agreed_on_is_committed_before_stripe_is_called(start, settings):
    seen = []

    def answer(call):
        seen.append(Checkout.objects.values_list("stripe_session_id", "snapshot__amount").get())
        connection.close()
        return 400, {"error": {"type": "invalid_request_error", "message": "No."}}

    with stripe_stand_in() as stand_in:
        stand_in.answer = answer
        settings.STRIPE_API_BASE = stand_in.url
        start()

    assert seen == [(None, 25000)]


def test_a_payment_for_a_session_whose_opening_we_missed_is_fulfilled(
    start, at_stripe, deliver, recorded, paid_event
):
    at_stripe.fault("garbage")
    start()
    missed = Checkout.objects.get()
    metadata = {
        "tenant_id": TENANT_ID,
        "checkout_id": str(missed.id),
        "plan_id": str(missed.plan_id),
    }
    event = changed(paid_event, metadata=metadata)

    deliver(event)

    assert recorded(event) == ("done", "fulfilled")
    missed.refresh_from_db()
    assert missed.stripe_session_id == event["data"]["object"]["id"]
    assert missed.purchase == Purchase.objects.get()
    assert missed.status == "complete"


# --- who is buying


def test_a_members_token_makes_it_the_members_checkout(start, at_stripe, member):
    start(member_token=token_of(member))

    assert Checkout.objects.get().member == member


def test_without_a_token_it_is_nobodys_checkout(start, at_stripe, member):
    start(email=member.email)

    assert Checkout.objects.get().member is None


def test_another_tenants_member_is_refused(start, at_stripe, other_account):
    stranger = Member.objects.create(tenant=other_account.tenant, email="jenny@example.com")

    answer = start(member_token=token_of(stranger))

    assert error(answer) == (401, "invalid_member_token")
    assert not Checkout.objects.exists()


@pytest.mark.parametrize("token", ["garbage", "a.b.c", "Bearer x"])
def test_a_token_that_is_none_is_refused(start, token):
    assert error(start(member_token=token)) == (401, "invalid_member_token")


def test_a_token_that_has_expired_is_refused(start, member):
    token = token_of(member)

    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        answer = start(member_token=token)

    assert error(answer) == (401, "invalid_member_token")


def test_a_token_whose_session_was_ended_is_refused(start, member):
    token = token_of(member)
    MemberSession.objects.update(revoked_at=timezone.now())

    assert error(start(member_token=token)) == (401, "invalid_member_token")


def test_a_member_who_types_another_email_at_stripe_stays_the_member(
    start, at_stripe, exchange, member
):
    answer = start(member_token=token_of(member), verifier_sha256=sha256(VERIFIER))
    session = session_of(at_stripe, answer)
    at_stripe.pay(session["id"], email="other@example.com")

    body = exchange(session["success_url"]).json()

    assert body["member"]["id"] == str(member.id)
    assert tokens.session_of(body["jwt"]).authenticated


def test_buying_again_does_not_prove_an_email_that_was_only_typed(
    start, at_stripe, exchange, member
):
    first = buy(start, at_stripe, exchange, email=member.email)
    assert first["member"]["id"] == str(member.id)
    assert not tokens.session_of(first["jwt"]).authenticated

    second = buy(start, at_stripe, exchange, email=member.email, member_token=first["jwt"])

    assert Checkout.objects.filter(member__isnull=False).count() == 0
    assert not tokens.session_of(second["jwt"]).authenticated
    assert second["member"]["name"] == ""


def buy(start, sandbox, exchange, *, email, **how):
    """Start, pay and come back in one browser; the answer to it."""
    answer = start(verifier_sha256=sha256(VERIFIER), **how)
    session = session_of(sandbox, answer)
    sandbox.pay(session["id"], email=email)
    return exchange(session["success_url"]).json()


# --- free plans


def test_a_free_plan_is_only_for_members(start, free_plan, member):
    unproven = token_of(member, authenticated=False)

    assert error(start()) == (401, "member_required")
    assert error(start(member_token=unproven)) == (401, "member_required")
    assert not Purchase.objects.exists()


def test_a_free_plan_needs_no_stripe(start, free_plan, account, member, exchange):
    account.delete()

    answer = start(
        member_token=token_of(member),
        return_url=f"{SHOP}/thanks?a=1",
        verifier_sha256=sha256(VERIFIER),
    )

    assert answer.status_code == 201
    assert answer.json()["url"].startswith(f"{SHOP}/thanks?a=1&allegro_purchase_token=")
    purchase = Purchase.objects.get()
    assert (purchase.member, purchase.payment_status) == (member, "free")
    assert granted() == ["archive", "newsletter"]
    back = exchange(answer.json()["url"])
    assert back.json()["status"] == "completed"
    assert back.json()["purchase"]["id"] == str(purchase.id)


def without_products(plan, deliver):
    plan.products.clear()


def after_another_of_its_products(plan, deliver):
    """So that what is claimed begins only when that ends."""
    paid = copied(plan, amount=25000)
    link = stripe_event("checkout.session.completed.paid")
    about = link["data"]["object"]
    about["metadata"] = {"tenant_id": TENANT_ID, "plan_id": str(paid.id)}
    about["customer_details"]["email"] = "jenny@example.com"
    deliver(link)


@pytest.mark.parametrize(
    "prepare", [lambda *_: None, without_products, after_another_of_its_products]
)
def test_a_free_plan_is_claimed_once(prepare, start, free_plan, member, deliver):
    prepare(free_plan, deliver)
    token = token_of(member)
    start(member_token=token)

    assert error(start(member_token=token)) == (409, "already_claimed")
    assert Purchase.objects.filter(plan=free_plan).count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_free_plan_claimed_twice_at_once_is_one_purchase(start, free_plan, member):
    token = token_of(member)
    together = threading.Barrier(4)

    def claim(_):
        together.wait()
        try:
            return start(member_token=token, client=Client()).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        statuses = sorted(threads.map(claim, range(4)))

    assert statuses == [201, 409, 409, 409]
    assert Purchase.objects.count() == 1
    assert granted() == ["archive", "newsletter"]


@pytest.mark.django_db(transaction=True)
def test_free_plans_claimed_at_once_follow_one_another(start, free_plan, member):
    token = token_of(member)
    plans = [copied(free_plan, credits=10) for _ in range(3)]
    together = threading.Barrier(3)

    def claim(plan):
        together.wait()
        try:
            return start(plan=str(plan.id), member_token=token, client=Client()).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(claim, plans)) == [201] * 3

    assert ledger.balance_of(member.tenant, member) == 30
    periods = Entitlement.objects.filter(product__slug="archive").order_by("starts_at")
    assert [row.starts_at for row in periods][1:] == [row.ends_at for row in periods][:-1]


def copied(plan, **fields):
    """Another plan of the same products for a month, free unless said otherwise."""
    columns = {"name": "Copy", "amount": 0, "currency": "eur", "duration": "P1M", **fields}
    copy = Plan.objects.create(offer=plan.offer, **columns)
    copy.products.set(plan.products.all())
    return copy


# --- what was sold stays sold


def rename(plan):
    Plan.objects.update(name="Another", amount=1, currency="usd", duration="", credits=9)


def empty(plan):
    plan.products.set([Product.objects.create(tenant=plan.offer.tenant, slug="x", name="X")])


def withdraw(plan):
    Plan.objects.update(is_active=False)


def delete(plan):
    plan.delete()


@pytest.mark.parametrize("change", [rename, empty, withdraw, delete])
def test_what_becomes_of_the_plan_changes_nothing_sold(start, at_stripe, deliver, plan, change):
    session = session_of(at_stripe, start())
    change(plan)
    at_stripe.pay(session["id"])

    deliver(completed(at_stripe))

    assert StripeEvent.objects.values_list("status", "outcome").get() == ("done", "fulfilled")
    purchase = Purchase.objects.get()
    assert (purchase.snapshot["name"], purchase.amount_total) == ("Monthly", 25000)
    assert granted() == ["archive", "newsletter"]
    assert all(Entitlement.objects.values_list("ends_at", flat=True))
