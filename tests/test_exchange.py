"""The member comes back from Stripe: the return-page token for the purchase and a session."""

import json
from datetime import datetime, timedelta

import jwt
import pytest
import stripe
import time_machine
from django.utils import timezone

from fulfillment.models import Checkout
from purchases.models import Entitlement, Purchase, PurchaseEvent
from tenants.keys import create_key
from tenants.models import ApiKey, Member, MemberSession
from tests.conftest import ACCOUNT_ID, TOKEN, VERIFIER, changed, stripe_event
from tests.server import free_port
from tests.stripe_stand_in import SESSIONS, stripe_stand_in

PAID = stripe_event("checkout.session.completed.paid")
SESSION = PAID["data"]["object"]["id"]
PAYMENT = PAID["data"]["object"]["payment_intent"]
OPEN = {
    "status": "open",
    "payment_status": "unpaid",
    "payment_intent": None,
    "customer_details": None,
}
DEBIT = {"payment_status": "unpaid"}


@pytest.fixture
def at_stripe(settings):
    """Stripe, on loopback, where the session of `checkout` has been paid."""
    with stripe_stand_in() as stand_in:
        settings.STRIPE_API_BASE = stand_in.url
        stand_in.add(PAID)
        yield stand_in


@pytest.fixture
def exchange(client, publishable_key):
    def exchange(token=TOKEN, verifier=VERIFIER, key=publishable_key):
        body = {"token": token} if verifier is None else {"token": token, "verifier": verifier}
        return client.post(
            "/api/purchases/exchange",
            body,
            content_type="application/json",
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    return exchange


@pytest.fixture
def known_member(tenant):
    """A member from before, under the e-mail that the buyer types at Stripe."""
    return Member.objects.create(tenant=tenant, email="member@example.com", name="Jenny Rosen")


def claims(answer):
    return jwt.decode(answer.json()["jwt"], options={"verify_signature": False})


def error(answer):
    """The error's status and type, from the envelope."""
    body = answer.json()
    assert body["error"]["code"] == answer.status_code
    assert body["error"]["message"]
    assert body["meta"]["request_id"] == answer.headers["X-Request-Id"]
    assert datetime.fromisoformat(body["meta"]["timestamp"])
    return answer.status_code, body["error"]["type"]


def granted():
    return sorted(Entitlement.objects.active().values_list("product__slug", flat=True))


def announced():
    return sorted(PurchaseEvent.objects.values_list("type", flat=True))


def assert_nothing_bought():
    assert not Purchase.objects.filter(fulfilled_at__isnull=False).exists()
    assert not Entitlement.objects.exists()
    assert not MemberSession.objects.exists()


# --- whichever comes first


def test_after_the_webhook_stripe_is_not_asked(exchange, deliver, checkout, at_stripe):
    deliver(PAID)

    answer = exchange()

    assert answer.status_code == 200
    assert at_stripe.calls == []
    assert Purchase.objects.get().fulfilled_by == "webhook"


def test_a_return_without_a_webhook_fulfills(exchange, checkout, at_stripe):
    answer = exchange()

    assert answer.status_code == 200
    purchase = Purchase.objects.get()
    assert (purchase.status, purchase.fulfilled_by) == ("paid", "exchange")
    assert (purchase.checkout_session_id, purchase.payment_intent_id) == (SESSION, PAYMENT)
    assert granted() == ["archive", "newsletter"]


def test_a_webhook_after_the_return_finds_the_work_done(
    exchange, deliver, recorded, checkout, at_stripe
):
    exchange()
    log = announced()

    deliver(PAID)

    assert recorded(PAID) == ("done", "already_fulfilled")
    assert Purchase.objects.get().fulfilled_by == "exchange"
    assert granted() == ["archive", "newsletter"]
    assert announced() == log


@pytest.mark.parametrize(
    "steps", [("webhook", "return"), ("return", "webhook"), ("return",)], ids="-".join
)
def test_the_end_state_is_the_same_whoever_comes_first(
    exchange, deliver, checkout, at_stripe, steps
):
    ways = {"webhook": lambda: deliver(PAID), "return": exchange}

    answers = [ways[step]() for step in steps]

    assert {answer.status_code for answer in answers} == {200}
    assert Purchase.objects.values_list("status", "payment_status", "payment_intent_id").get() == (
        "paid",
        "paid",
        PAYMENT,
    )
    assert Member.objects.get().email == "member@example.com"
    assert Checkout.objects.get().status == "complete"
    assert granted() == ["archive", "newsletter"]
    assert announced() == ["entitlement.granted", "entitlement.granted", "purchase.completed"]


def test_stripe_is_asked_about_the_tenants_account(exchange, checkout, at_stripe):
    exchange()

    (call,) = at_stripe.calls
    assert (call.method, call.path, call.account_id) == ("GET", SESSIONS + SESSION, ACCOUNT_ID)


def test_a_session_on_another_account_is_not_found(exchange, checkout, at_stripe):
    at_stripe.sessions["acct_1QTenantBBB0002x", SESSION] = at_stripe.sessions.pop(
        (ACCOUNT_ID, SESSION)
    )

    answer = exchange()

    assert error(answer) == (503, "stripe_unavailable")
    assert_nothing_bought()


# --- what the browser gets


def test_the_answer_has_what_was_bought_and_signs_the_buyer_in(exchange, checkout, at_stripe, plan):
    body = exchange().json()

    purchase = Purchase.objects.get()
    assert body["status"] == "completed"
    assert body["member"] == {
        "id": str(purchase.member_id),
        "email": "member@example.com",
        "name": "Jenny Rosen",
    }
    assert body["purchase"]["id"] == str(purchase.id)
    assert body["purchase"]["plan"] == str(plan.id)
    assert (body["purchase"]["amount_total"], body["purchase"]["currency"]) == (25000, "eur")
    assert sorted(row["product"] for row in body["entitlements"]) == ["archive", "newsletter"]
    assert body["refresh_token"]
    assert body["expires_at"]


def test_the_token_of_the_answer_opens_the_members_api(client, exchange, checkout, at_stripe):
    body = exchange().json()

    answer = client.get("/api/entitlements", headers={"Authorization": f"Bearer {body['jwt']}"})

    assert answer.json()["data"] == body["entitlements"]


def test_no_answer_is_stored_by_a_cache_and_each_has_a_request_id(exchange, checkout, at_stripe):
    answers = [exchange(), exchange()]

    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 2


# --- not paid yet, or never


def test_a_payment_under_way_is_asked_about_again_soon(exchange, checkout, at_stripe):
    at_stripe.add(PAID, **OPEN)

    answer = exchange()

    assert answer.status_code == 202
    assert answer.json().keys() == {"status", "retry_after"}
    assert answer.json()["status"] == "processing"
    assert 0 < answer.json()["retry_after"] <= 5
    assert answer.headers["Cache-Control"] == "no-store"
    assert_nothing_bought()


def test_a_session_that_was_open_and_is_paid_now_completes(exchange, checkout, at_stripe):
    at_stripe.add(PAID, **OPEN)
    exchange()
    at_stripe.add(PAID)

    answer = exchange()

    assert answer.json()["status"] == "completed"


def test_a_bank_debit_is_under_way(exchange, checkout, at_stripe):
    at_stripe.add(PAID, **DEBIT)

    answer = exchange()

    assert answer.status_code == 202
    assert answer.json()["status"] == "processing"
    assert Purchase.objects.get().status == "pending"
    assert_nothing_bought()


def test_a_bank_debit_that_takes_hours_is_asked_about_less_often(exchange, checkout, at_stripe):
    at_stripe.add(PAID, **DEBIT)
    exchange()

    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        answer = exchange()

    assert 30 <= answer.json()["retry_after"] <= 60


def test_a_bank_debit_that_is_paid_completes(exchange, checkout, at_stripe):
    at_stripe.add(PAID, **DEBIT)
    exchange()
    at_stripe.add(PAID)

    answer = exchange()

    assert answer.json()["status"] == "completed"
    assert announced() == [
        "entitlement.granted",
        "entitlement.granted",
        "purchase.completed",
        "purchase.pending",
    ]


@pytest.mark.parametrize("payment", ["requires_payment_method", "canceled"])
def test_a_bank_debit_that_was_refused_has_failed(exchange, checkout, at_stripe, payment):
    at_stripe.add(PAID, **DEBIT, payment_intent={"id": PAYMENT, "status": payment})

    answer = exchange()

    assert answer.status_code == 200
    assert answer.json() == {"status": "failed", "reason": "payment_failed"}
    assert Purchase.objects.get().status == "failed"
    assert_nothing_bought()


def test_a_refusal_told_by_webhook_has_failed_without_asking_stripe(
    exchange, deliver, checkout, at_stripe
):
    refused = stripe_event("checkout.session.async_payment_failed")
    deliver(changed(refused, id=SESSION, payment_intent=PAYMENT))

    answer = exchange()

    assert answer.json() == {"status": "failed", "reason": "payment_failed"}
    assert at_stripe.calls == []


def test_an_expired_session_has_failed(exchange, checkout, at_stripe):
    at_stripe.add(PAID, **{**OPEN, "status": "expired"})

    answer = exchange()

    assert answer.status_code == 200
    assert answer.json() == {"status": "failed", "reason": "expired"}
    assert Checkout.objects.get().status == "expired"
    assert_nothing_bought()


def test_an_expiry_told_by_webhook_has_failed_without_asking_stripe(
    exchange, deliver, checkout, at_stripe
):
    deliver(changed(stripe_event("checkout.session.expired"), id=SESSION))

    answer = exchange()

    assert answer.json() == {"status": "failed", "reason": "expired"}
    assert at_stripe.calls == []


def test_a_checkout_whose_session_we_never_learned_is_under_way(exchange, open_checkout, at_stripe):
    open_checkout(None, token=TOKEN)

    answer = exchange()

    assert answer.status_code == 202
    assert at_stripe.calls == []


@pytest.mark.parametrize(
    "other",
    [
        {"amount_subtotal": 1, "amount_total": 1},
        {"currency": "usd"},
        {"payment_status": "no_payment_required"},
    ],
)
def test_another_price_at_stripe_grants_nothing_and_is_logged(
    exchange, checkout, at_stripe, caplog, other
):
    at_stripe.add(PAID, **other)

    answer = exchange()

    assert answer.status_code == 202
    assert "checkout_held" in caplog.text
    assert "amount_mismatch" in caplog.text
    assert_nothing_bought()


def test_metadata_of_another_tenant_grants_nothing_and_is_logged(
    exchange, checkout, at_stripe, other_account, caplog
):
    at_stripe.add(PAID, metadata={"tenant_id": str(other_account.tenant_id)})

    answer = exchange()

    assert answer.status_code == 202
    assert "tenant_mismatch" in caplog.text
    assert_nothing_bought()


# --- who may ask


@pytest.mark.parametrize("token", ["unknown", "", "x" * 201, "é", "\x00", "\ud800", None, 1, []])
def test_a_token_that_is_none_is_a_400(exchange, checkout, at_stripe, token):
    answer = exchange(token=token)

    assert answer.status_code == 400
    assert error(answer)[1] in ("invalid_token", "invalid_request", "parse_error")
    assert_nothing_bought()


def test_an_unknown_token_is_an_invalid_one(exchange, checkout):
    assert error(exchange(token="unknown")) == (400, "invalid_token")


def test_the_key_of_another_tenant_finds_no_token(exchange, checkout, at_stripe, other_account):
    key = create_key(other_account.tenant, ApiKey.Kind.PUBLISHABLE)

    answer = exchange(key=key)

    assert error(answer) == (400, "invalid_token")
    assert at_stripe.calls == []


def test_a_secret_key_is_refused_in_a_browser(exchange, checkout, tenant):
    key = create_key(tenant, ApiKey.Kind.SECRET)

    assert error(exchange(key=key)) == (401, "authentication_failed")


def test_a_revoked_key_is_refused(exchange, checkout):
    ApiKey.objects.update(revoked_at=timezone.now())

    assert error(exchange()) == (401, "authentication_failed")


def test_the_key_of_a_disabled_tenant_is_refused(exchange, checkout, tenant):
    tenant.is_active = False
    tenant.save()

    assert error(exchange()) == (401, "authentication_failed")


@pytest.mark.parametrize("key", [None, "pk_unknown", "pk_\u00e9"])
def test_no_valid_key_is_a_401(exchange, checkout, key):
    answer = exchange(key=key)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert error(answer)[1] in ("not_authenticated", "authentication_failed")


def test_a_token_for_credits_of_the_tenant_signs_nobody_in(
    exchange, open_checkout, package, at_stripe
):
    open_checkout(SESSION, token=TOKEN, plan=None, package=package, account_id="")

    assert error(exchange()) == (400, "invalid_token")


@pytest.mark.parametrize("verifier", ["wrong", "", None, "é", "x" * 200])
def test_without_the_verifier_the_purchase_is_fulfilled_but_nobody_signed_in(
    exchange, checkout, at_stripe, verifier
):
    answer = exchange(verifier=verifier)

    assert error(answer) == (400, "invalid_token")
    assert granted() == ["archive", "newsletter"]
    assert not MemberSession.objects.exists()


def test_a_wrong_verifier_does_not_use_up_the_token(exchange, checkout, at_stripe):
    exchange(verifier="wrong")

    assert exchange().status_code == 200


# --- once, and not for ever


def test_a_repeat_within_two_minutes_gets_the_same_answer(exchange, checkout, at_stripe):
    with time_machine.travel(timezone.now(), tick=False) as clock:
        first = exchange()
        clock.shift(timedelta(minutes=2, microseconds=-1))
        second = exchange()

    assert second.status_code == 200
    assert second.content == first.content
    assert MemberSession.objects.count() == 1


def test_after_two_minutes_the_token_is_used(exchange, checkout, at_stripe):
    with time_machine.travel(timezone.now(), tick=False) as clock:
        exchange()
        clock.shift(timedelta(minutes=2))
        answer = exchange()

    assert error(answer) == (410, "token_used")


def test_a_repeat_does_not_prolong_the_two_minutes(exchange, checkout, at_stripe):
    with time_machine.travel(timezone.now(), tick=False) as clock:
        exchange()
        clock.shift(timedelta(minutes=1))
        exchange()
        clock.shift(timedelta(minutes=1))
        answer = exchange()

    assert error(answer) == (410, "token_used")


def test_a_token_is_good_until_a_day_after_the_session_ended(exchange, checkout, at_stripe):
    with time_machine.travel(checkout.expires_at + timedelta(hours=24, seconds=-1)):
        answer = exchange()

    assert answer.status_code == 200


def test_a_day_after_the_session_ended_the_token_is_expired(exchange, checkout, at_stripe):
    with time_machine.travel(checkout.expires_at + timedelta(hours=24)):
        answer = exchange()

    assert error(answer) == (410, "token_expired")
    assert at_stripe.calls == []


# --- Stripe in trouble


def down(stand_in, settings, monkeypatch):
    settings.STRIPE_API_BASE = f"http://127.0.0.1:{free_port()}"


def answering(status):
    def answering(stand_in, settings, monkeypatch):
        stand_in.status = status

    return answering


def slow(stand_in, settings, monkeypatch):
    # As slow to our patience as a real one would be, but not to the patience of the tests.
    real = stripe.RequestsClient
    monkeypatch.setattr(stripe, "RequestsClient", lambda timeout: real(timeout=(0.2, 0.2)))
    stand_in.delay = 60


def unknown(stand_in, settings, monkeypatch):
    stand_in.sessions.clear()


def saying(**fields):
    def saying(stand_in, settings, monkeypatch):
        stand_in.add(PAID, **fields)
        stand_in.sessions[ACCOUNT_ID, SESSION] = stand_in.sessions.pop(
            (ACCOUNT_ID, fields.get("id", SESSION))
        )

    return saying


def a_bare_string(stand_in, settings, monkeypatch):
    monkeypatch.setattr(stand_in, "answer", lambda call: (200, "<html>"))


TROUBLES = {
    "down": down,
    "500": answering(500),
    "429": answering(429),
    "401": answering(401),
    "403": answering(403),
    "slow": slow,
    "404": unknown,
    "a string": a_bare_string,
    "an amount that is text": saying(amount_total="25000"),
    "an id that is a number": saying(id=5),
    "a status that is a list": saying(status=["complete"]),
    "an unknown payment status": saying(payment_status="perhaps"),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
def test_while_stripe_is_in_trouble_the_token_stays_good(
    exchange, checkout, at_stripe, settings, monkeypatch, trouble
):
    with monkeypatch.context() as patch:
        trouble(at_stripe, settings, patch)
        answer = exchange()

    assert error(answer) == (503, "stripe_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert_nothing_bought()
    settings.STRIPE_API_BASE = at_stripe.url
    at_stripe.status, at_stripe.delay = 200, 0
    at_stripe.add(PAID)
    assert exchange().json()["status"] == "completed"


def test_a_webhook_heals_what_stripes_trouble_left_open(exchange, deliver, checkout, at_stripe):
    at_stripe.status = 403
    exchange()
    deliver(PAID)

    answer = exchange()

    assert answer.json()["status"] == "completed"


# --- an e-mail typed at Stripe proves nothing


@pytest.fixture
def earlier_purchase(deliver, open_checkout, known_member):
    """What the known member bought before, signed in."""
    other = changed(PAID, event_id="evt_earlier", id="cs_test_earlier", payment_intent="pi_earlier")
    open_checkout("cs_test_earlier", member=known_member)
    deliver(other)
    return Purchase.objects.get()


def test_a_known_e_mail_gives_no_more_than_this_purchase(
    exchange, earlier_purchase, checkout, at_stripe
):
    answer = exchange()

    purchases = {row["purchase"] for row in answer.json()["entitlements"]}
    assert claims(answer)["authenticated"] is False
    assert purchases == {answer.json()["purchase"]["id"]}
    assert str(earlier_purchase.id) not in purchases
    assert Entitlement.objects.count() == 4


def test_a_known_e_mail_does_not_tell_its_owners_name(exchange, known_member, checkout, at_stripe):
    known_member.name = "Somebody Private"
    known_member.save()

    answer = exchange()

    assert "Somebody Private" not in answer.content.decode()


def test_a_known_e_mail_in_another_case_is_known(exchange, known_member, checkout, at_stripe):
    at_stripe.add(PAID, customer_details={"email": "MEMBER@Example.com", "name": "Jenny Rosen"})

    answer = exchange()

    assert claims(answer)["authenticated"] is False
    assert claims(answer)["sub"] == str(known_member.id)


def test_a_member_made_by_the_purchase_is_signed_in(exchange, checkout, at_stripe):
    answer = exchange()

    assert claims(answer)["authenticated"] is True


def test_a_member_made_by_an_earlier_purchase_is_known(
    exchange, deliver, open_checkout, checkout, at_stripe
):
    open_checkout("cs_test_earlier")
    deliver(
        changed(PAID, event_id="evt_earlier", id="cs_test_earlier", payment_intent="pi_earlier")
    )

    answer = exchange()

    assert claims(answer)["authenticated"] is False


def test_a_member_who_started_signed_in_comes_back_signed_in(
    exchange, earlier_purchase, known_member, open_checkout, at_stripe
):
    open_checkout(SESSION, token=TOKEN, member=known_member)

    answer = exchange()

    assert claims(answer)["authenticated"] is True
    assert len(answer.json()["entitlements"]) == 4


def test_what_a_signed_in_member_types_at_stripe_changes_nothing(
    exchange, tenant, known_member, open_checkout, at_stripe
):
    buyer = Member.objects.create(tenant=tenant, email="buyer@example.com")
    open_checkout(SESSION, token=TOKEN, member=buyer)

    answer = exchange()

    assert claims(answer)["sub"] == str(buyer.id)
    assert not known_member.purchases.exists()


@pytest.mark.parametrize("verifier", [None, "anything"])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_checkout_without_a_verifier_signs_nobody_in(
    exchange, known_member, open_checkout, at_stripe, is_known, verifier
):
    member = known_member if is_known else None
    open_checkout(SESSION, token=TOKEN, member=member, verifier_sha256="")

    answer = exchange(verifier=verifier)

    assert claims(answer)["authenticated"] is False
    assert len(answer.json()["entitlements"]) == 2


def test_a_member_made_by_a_purchase_without_a_verifier_is_not_signed_in(
    exchange, open_checkout, at_stripe
):
    open_checkout(SESSION, token=TOKEN, verifier_sha256="")

    answer = exchange()

    assert claims(answer)["authenticated"] is False


def test_the_token_is_stored_as_a_hash_only(exchange, checkout, at_stripe):
    exchange()

    rows = json.dumps(list(Checkout.objects.values()), default=str)
    assert TOKEN not in rows
    assert VERIFIER not in rows
