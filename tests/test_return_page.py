"""The page that Allegro itself serves after a checkout: each of its states, in a real browser."""

import hashlib
import json
import re
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from fulfillment import sdk
from fulfillment.models import Checkout
from purchases.models import Purchase
from tenants.models import Member
from tests.server import post

pytest_plugins = ["tests.browser"]

EMAIL = "reader@example.com"


@pytest.fixture
def start(server, sandbox, account, plan, publishable_key):
    """Start a checkout with code of the tenant's own; returns the address of its page."""

    def start(**fields):
        body = json.dumps({"plan": str(plan.id), **fields})
        headers = {
            "Authorization": f"Bearer {publishable_key}",
            "Content-Type": "application/json",
        }
        answer = post(f"{server.url}/api/checkout/sessions", body, headers)
        return json.loads(answer.body)["url"]

    return start


@pytest.fixture
def pay(start, sandbox, return_url_of):
    """Pay a checkout; returns where it leads."""

    def pay(method="card", **fields):
        checkout_url = start(**fields)
        sandbox.pay(checkout_url.rpartition("/")[2], method=method, email=EMAIL)
        return return_url_of(checkout_url)

    return pay


@contextmanager
def stopped(server):
    server.stop()
    try:
        yield
    finally:
        server.start()


def expect_state(page, heading):
    """The state is shown alone, and whoever reads by keyboard or by ear has arrived at it."""
    expect(page.get_by_role("heading")).to_have_text([heading])
    expect(page.get_by_role("heading")).to_be_focused()
    expect(page.locator("[aria-live=polite]").get_by_role("heading")).to_be_visible()


# --- paid


def test_a_paid_checkout_shows_what_is_bought_and_until_when(visitor, pay, server):
    page = visitor.open(pay())

    expect_state(page, "Thank you")
    expect(page.get_by_role("listitem")).to_have_text(
        [re.compile(r"^\w+\s*until \d+ \w+ \d+$")] * 2
    )
    expect(page.get_by_text("Monthly is yours.")).to_be_visible()
    assert page.url == f"{server.url}/purchase/return?tenant=acme"
    visitor.shoot(page, "return-completed")


def test_while_the_answer_is_awaited_the_page_says_so(visitor, pay):
    held = visitor.hold("**/api/purchases/exchange")
    page = visitor.open(pay())
    expect(page.get_by_role("heading")).to_have_text("Confirming your payment")
    visitor.shoot(page, "return-confirming")

    held.pop().continue_()

    expect_state(page, "Thank you")


def test_a_bank_debit_is_waited_for(visitor, pay, sandbox):
    page = visitor.open(pay("bank_ok"))
    expect_state(page, "Your payment is on its way")
    visitor.shoot(page, "return-processing")

    sandbox.settle(Purchase.objects.get().payment_intent_id)

    expect_state(page, "Thank you")


def test_the_button_asks_again_at_once(visitor, pay, sandbox):
    page = visitor.context.new_page()
    page.clock.install()
    page.goto(pay("bank_ok"))
    expect_state(page, "Your payment is on its way")
    # The jump makes the page ask once by itself; from then on only the button does.
    with page.expect_response("**/api/purchases/exchange") as asked:
        page.clock.pause_at(timezone.now() + timedelta(hours=1))
    asked.value.finished()
    sandbox.settle(Purchase.objects.get().payment_intent_id)

    page.get_by_role("button", name="check again").click()

    expect_state(page, "Thank you")


def test_a_disabled_member_learns_that_the_payment_arrived(visitor, pay, tenant):
    Member.objects.create(tenant=tenant, email=EMAIL, disabled_at=timezone.now())
    visitor.expects("403")
    page = visitor.open(pay())

    expect_state(page, "Your account is disabled")
    expect(page.get_by_text("Your payment arrived")).to_be_visible()
    visitor.shoot(page, "return-disabled")


# --- not paid


def test_a_bank_debit_that_fails_says_so(visitor, pay, sandbox):
    page = visitor.open(pay("bank_fail"))
    expect_state(page, "Your payment is on its way")

    sandbox.settle(Purchase.objects.get().payment_intent_id, ok=False)

    expect_state(page, "The payment failed")
    visitor.shoot(page, "return-failed")


def test_who_canceled_is_told_that_nothing_was_charged(visitor, start):
    page = visitor.open(start())

    page.get_by_role("link", name=re.compile("^Cancel")).click()

    expect_state(page, "You canceled")
    assert "allegro" not in page.url
    visitor.shoot(page, "return-canceled")


def test_an_expired_checkout_can_be_started_again(visitor, start, sandbox, return_url_of):
    checkout_url = start()
    sandbox.control(f"sessions/{checkout_url.rpartition('/')[2]}/expire")

    page = visitor.open(return_url_of(checkout_url))

    expect_state(page, "This checkout has expired")
    visitor.shoot(page, "return-expired")


# --- nothing that can be confirmed here


def test_a_refusal_that_is_not_about_the_payment_says_nothing_of_the_payment(visitor, pay, tenant):
    visitor.expects("status of 401")
    held = visitor.hold("**/api/purchases/exchange")
    page = visitor.open(pay())
    expect(page.get_by_role("heading")).to_have_text("Confirming your payment")
    tenant.is_active = False
    tenant.save()

    held.pop().continue_()

    expect_state(page, "We could not check your payment")


def test_a_token_that_was_used_before_says_that_the_purchase_stands(visitor, pay):
    visitor.expects("status of 410")
    url = pay()
    Checkout.objects.update(exchanged_at=timezone.now() - timedelta(minutes=3))

    page = visitor.open(url)

    expect_state(page, "Already confirmed")
    visitor.shoot(page, "return-used")


def test_a_token_that_is_too_old_says_that_the_purchase_stands(visitor, pay):
    visitor.expects("status of 410")
    url = pay()
    Checkout.objects.update(expires_at=timezone.now() - timedelta(hours=25))

    page = visitor.open(url)

    expect_state(page, "This link is too old")
    visitor.shoot(page, "return-old")


def test_another_browser_is_sent_to_the_one_that_paid(visitor, pay):
    visitor.expects("status of 400")

    page = visitor.open(pay(verifier_sha256=hashlib.sha256(b"kept elsewhere").hexdigest()))

    expect_state(page, "Open this in the other browser")
    expect(page.get_by_role("button", name="check again")).to_be_visible()
    visitor.shoot(page, "return-elsewhere")


def test_a_visit_without_a_purchase_has_nothing_to_show(visitor, server, tenant):
    page = visitor.open(f"{server.url}/purchase/return?tenant=acme")

    expect_state(page, "Nothing to show here")
    visitor.shoot(page, "return-unknown")


def test_a_server_that_stopped_is_found_again_by_the_button(visitor, pay, server):
    visitor.expects("ERR_CONNECTION_REFUSED")
    held = visitor.hold("**/api/purchases/exchange")
    page = visitor.context.new_page()
    page.clock.install()
    page.goto(pay())
    expect(page.get_by_role("heading")).to_have_text("Confirming your payment")

    with stopped(server):
        held.pop().continue_()
        page.clock.fast_forward("00:20")
        expect_state(page, "We could not check your payment")
        visitor.shoot(page, "return-unreachable")
    page.get_by_role("button", name="check again").click()

    expect_state(page, "Thank you")


def test_without_javascript_the_page_says_what_to_do(chromium, pay):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()

    page.goto(pay())

    expect(page.get_by_role("heading").first).to_have_text("JavaScript is off")
    context.close()


# --- what is kept back


def test_the_token_is_seen_in_one_request_and_in_no_referrer_or_log(visitor, pay, server):
    url = pay()
    token = url.partition("allegro_purchase_token=")[2]

    page = visitor.open(url)
    expect_state(page, "Thank you")

    assert [request.url for request in visitor.requests if token in request.url] == [url]
    assert not [request for request in visitor.requests if "referer" in request.all_headers()]
    assert token not in page.content()
    assert token not in server.log()


def test_the_page_is_stored_nowhere_and_tells_nobody_where_it_was(client, tenant):
    page = client.get("/purchase/return?tenant=acme&allegro_purchase_token=secret")

    assert page["Referrer-Policy"] == "no-referrer"
    assert "no-store" in page["Cache-Control"]
    assert "script-src 'self'" in page["Content-Security-Policy"]
    assert b"secret" not in page.content


def test_the_page_of_an_unknown_or_disabled_tenant_is_not_found(client, tenant):
    tenant.is_active = False
    tenant.save()

    assert client.get("/purchase/return?tenant=acme").status_code == 404
    assert client.get("/purchase/return").status_code == 404
    assert client.get("/purchase/return?tenant=acme%00").status_code == 404


# --- the script


def test_the_script_is_small():
    assert len(sdk.SOURCE) < 10_000


def test_the_script_is_not_sent_twice(client):
    tag = client.get("/client.js")["ETag"]

    again = client.get("/client.js", headers={"If-None-Match": tag})

    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("query", "cache"),
    [
        (f"?v={sdk.VERSION}", "public, max-age=31536000, immutable"),
        ("?v=another", "public, max-age=600"),
        ("", "public, max-age=600"),
    ],
)
def test_only_the_version_that_was_asked_for_is_kept_for_good(client, query, cache):
    script = client.get(f"/client.js{query}")

    assert script["Cache-Control"] == cache
    assert script["ETag"] == f'"{sdk.VERSION}"'
    assert script.content == sdk.SOURCE
