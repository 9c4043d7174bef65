"""Buying on a publisher's site, in a real browser, from the button to what was bought."""

import json
import re

import pytest
from playwright.sync_api import expect

from fulfillment.models import Checkout
from purchases.models import Entitlement, Purchase
from tenants.models import Member, MemberSession
from tests.server import post

pytest_plugins = ["tests.browser"]

EMAIL = "reader@example.com"
CARD = "Pay 250.00 EUR"
COMPLETED = ["ready", "purchase:completed", "authenticated"]


def go_to_pay(page):
    page.get_by_role("button", name="Buy").first.click()
    expect(page).to_have_title(re.compile("^Pay "))


def pay(page, method=CARD):
    page.get_by_label("E-mail").fill(EMAIL)
    page.get_by_role("button", name=method, exact=True).click()


def buy(page, method=CARD):
    go_to_pay(page)
    pay(page, method)


def go_back(page):
    # Not page.go_back(): it waits for a load, and from the browser's cache there is none.
    page.evaluate("history.back()")


def events_on(page):
    return page.evaluate("window.allegroEvents")


def expect_entitled(page):
    expect(page.locator("#member")).to_have_text("You are signed in.")
    expect(page.locator("#entitlements li")).to_have_count(2)


def expire_jwt(page):
    """Let the token that the browser keeps have run out long ago."""
    page.evaluate(
        """() => {
          const name = Object.keys(localStorage).find((key) => key.endsWith(":jwt"));
          const [head, payload, end] = localStorage[name].split(".");
          const claims = JSON.parse(atob(payload.replace(/-/g, "+").replace(/_/g, "/")));
          localStorage[name] = [head, btoa(JSON.stringify({ ...claims, exp: 1 })), end].join(".");
        }"""
    )


# --- the common ways through a checkout


def test_a_card_payment_brings_the_buyer_back_entitled(visitor, shop):
    page = visitor.open(shop)
    visitor.shoot(page, "shop-start")

    go_to_pay(page)
    visitor.shoot(page, "checkout")
    pay(page)

    expect(page.locator("#notice")).to_have_text("Thank you! You bought Monthly.")
    expect_entitled(page)
    assert page.url == f"{shop}/"
    assert events_on(page) == COMPLETED
    assert Purchase.objects.get().fulfilled_by == "webhook"
    visitor.shoot(page, "shop-completed")


def test_a_reload_after_the_purchase_does_nothing_new(visitor, shop):
    page = visitor.open(shop)
    buy(page)
    expect_entitled(page)

    page.reload()

    expect_entitled(page)
    assert events_on(page) == ["ready"]
    assert len(visitor.calls("/api/purchases/exchange")) == 1


def test_a_bank_debit_completes_on_the_page_that_waits(visitor, shop, sandbox):
    page = visitor.open(shop)
    buy(page, "Pay by bank debit")
    expect(page.locator("#notice")).to_have_text(re.compile("on its way"))
    visitor.shoot(page, "shop-processing")

    sandbox.settle(Purchase.objects.get().payment_intent_id)

    expect_entitled(page)
    assert events_on(page) == ["ready", "purchase:processing", *COMPLETED[1:]]
    assert len(visitor.calls("/api/purchases/exchange")) > 1


def test_a_bank_debit_that_fails_gives_nothing(visitor, shop, sandbox):
    page = visitor.open(shop)
    buy(page, "Pay by bank debit that fails later")
    expect(page.locator("#notice")).to_have_text(re.compile("on its way"))

    sandbox.settle(Purchase.objects.get().payment_intent_id, ok=False)

    expect(page.locator("#notice")).to_have_text(re.compile("^The payment failed"))
    assert events_on(page) == ["ready", "purchase:processing", "purchase:failed"]
    assert not Entitlement.objects.exists()
    visitor.shoot(page, "shop-failed")


def test_after_a_declined_card_another_one_pays(visitor, shop):
    visitor.expects("status of 422")
    page = visitor.open(shop)
    buy(page, "Pay with a card that is declined")
    expect(page.get_by_role("alert")).to_contain_text("declined")
    visitor.shoot(page, "checkout-declined")

    page.get_by_role("button", name=CARD, exact=True).click()

    expect_entitled(page)
    assert Purchase.objects.get().status == "paid"


def test_who_cancels_is_back_and_charged_nothing(visitor, shop):
    page = visitor.open(shop)
    go_to_pay(page)

    page.get_by_role("link", name=re.compile("^Cancel")).click()

    expect(page.locator("#notice")).to_have_text("You canceled. Nothing was charged.")
    assert page.url == f"{shop}/"
    assert events_on(page) == ["ready", "purchase:failed"]
    assert not Purchase.objects.exists()
    visitor.shoot(page, "shop-canceled")


def test_an_expired_checkout_says_so_there_and_on_return(visitor, shop, sandbox, return_url_of):
    page = visitor.open(shop)
    go_to_pay(page)
    return_url = return_url_of(page.url)
    sandbox.control(f"sessions/{page.url.rpartition('/')[2]}/expire")
    page.reload()
    visitor.shoot(page, "checkout-expired")

    page.goto(return_url)

    expect(page.locator("#notice")).to_have_text(re.compile("expired"))


# --- the order of webhook and return


def test_a_return_before_the_webhook_fulfills_once(visitor, shop, sandbox):
    sandbox.disturb(hold=True)
    page = visitor.open(shop)
    buy(page)
    expect_entitled(page)

    sandbox.disturb(hold=False)
    sandbox.wait_idle()

    assert Purchase.objects.get().fulfilled_by == "exchange"
    assert Entitlement.objects.count() == 2


def test_a_return_without_any_webhook_fulfills(visitor, shop, sandbox):
    sandbox.disturb(drop=True)
    page = visitor.open(shop)

    buy(page)

    expect_entitled(page)
    assert Purchase.objects.get().fulfilled_by == "exchange"


def test_a_buyer_who_never_returns_has_the_purchase(visitor, shop, sandbox):
    page = visitor.open(shop)
    go_to_pay(page)

    sandbox.pay(page.url.rpartition("/")[2], email=EMAIL)

    assert Purchase.objects.get().fulfilled_by == "webhook"
    assert Entitlement.objects.filter(member__email=EMAIL).count() == 2


# --- what people do


def test_a_double_click_opens_one_checkout(visitor, shop):
    page = visitor.open(shop)

    page.get_by_role("button", name="Buy").first.dblclick()

    expect(page).to_have_title(re.compile("^Pay "))
    assert Checkout.objects.count() == 1


def test_the_back_button_leads_to_a_shop_that_still_sells(visitor, shop):
    page = visitor.open(shop)
    go_to_pay(page)

    go_back(page)
    expect(page).to_have_url(f"{shop}/")
    buy(page)

    expect_entitled(page)
    assert Purchase.objects.count() == 1


def test_the_back_button_after_paying_buys_nothing_twice(visitor, shop):
    page = visitor.open(shop)
    buy(page)
    expect_entitled(page)

    go_back(page)
    expect(page).to_have_title(re.compile("^Pay "))
    page.reload()
    expect(page.get_by_text("You have paid.")).to_be_visible()
    visitor.shoot(page, "checkout-complete")
    page.get_by_role("link", name=re.compile("^Back to")).click()

    expect_entitled(page)
    assert page.url == f"{shop}/"
    assert (Purchase.objects.count(), MemberSession.objects.count()) == (1, 1)


def test_two_tabs_that_return_at_once_share_one_session(visitor, shop, return_url_of):
    page = visitor.open(shop)
    go_to_pay(page)
    return_url = return_url_of(page.url)
    pay(page)

    other = visitor.open(return_url)

    expect_entitled(page)
    expect_entitled(other)
    assert (Purchase.objects.count(), MemberSession.objects.count()) == (1, 1)


def test_another_browser_gets_no_session_though_the_purchase_stands(
    visitor, new_visitor, shop, sandbox, return_url_of
):
    sandbox.disturb(drop=True)
    page = visitor.open(shop)
    go_to_pay(page)
    sandbox.pay(page.url.rpartition("/")[2], email=EMAIL)
    stranger = new_visitor()
    stranger.expects("status of 400")

    elsewhere = stranger.open(return_url_of(page.url))

    expect(elsewhere.locator("#notice")).to_have_text(re.compile("^Open this in the browser"))
    assert events_on(elsewhere) == ["ready", "purchase:failed"]
    assert Purchase.objects.get().fulfilled_by == "exchange"
    assert not MemberSession.objects.exists()
    stranger.shoot(elsewhere, "shop-another-browser")


def test_a_member_who_buys_again_is_still_the_same_member(visitor, shop):
    page = visitor.open(shop)
    buy(page)
    expect_entitled(page)

    go_to_pay(page)
    expect(page.get_by_label("E-mail")).to_have_value(EMAIL)
    page.get_by_role("button", name=CARD, exact=True).click()

    expect(page.locator("#notice")).to_be_visible()
    assert (Purchase.objects.count(), Member.objects.count()) == (2, 1)


def test_a_typed_e_mail_of_a_member_signs_nobody_in_as_them(visitor, new_visitor, shop, tenant):
    Member.objects.create(tenant=tenant, email=EMAIL)
    page = visitor.open(shop)

    buy(page)

    expect(page.locator("#notice")).to_have_text("Thank you! You bought Monthly.")
    assert events_on(page) == COMPLETED[:2]
    assert not MemberSession.objects.get().authenticated


def test_a_link_with_somebody_elses_purchase_signs_no_member_out(
    visitor, shop, server, sandbox, plan, publishable_key, return_url_of
):
    page = visitor.open(shop)
    buy(page)
    expect_entitled(page)
    own = page.evaluate("allegro.member.jwt()")
    order = json.dumps({"plan": str(plan.id), "return_url": shop, "email": "other@example.com"})
    headers = {"Authorization": f"Bearer {publishable_key}", "Content-Type": "application/json"}
    opened = json.loads(post(f"{server.url}/api/checkout/sessions", order, headers).body)["url"]
    sandbox.pay(opened.rpartition("/")[2], email="other@example.com")

    page = visitor.open(return_url_of(opened))

    expect(page.locator("#notice")).to_have_text("Thank you! You bought Monthly.")
    assert events_on(page) == COMPLETED[:2]
    assert page.evaluate("allegro.member.jwt()") == own


def test_a_plan_that_is_not_for_sale_says_so_on_the_page(visitor, shop):
    visitor.expects("status of 404")
    page = visitor.open(shop)

    page.get_by_role("button", name="Buy").nth(1).click()

    expect(page.locator("#notice")).to_contain_text("There is no such plan on sale.")
    visitor.shoot(page, "shop-error")


def test_a_refusal_is_an_error_that_code_can_tell_apart(visitor, shop):
    visitor.expects("status of 404")
    page = visitor.open(shop)

    refusal = page.evaluate(
        """allegro.purchase.initiate("00000000-0000-4000-8000-000000000000").catch((error) =>
             [error instanceof allegro.AllegroApiError, error.name, error.status, error.type])"""
    )

    assert refusal == [True, "AllegroApiError", 404, "plan_not_found"]


def test_a_checkout_that_cannot_be_opened_can_be_tried_again(visitor, shop, sandbox):
    visitor.expects("status of 502")
    sandbox.fault("500", path="/v1/checkout")
    page = visitor.open(shop)
    page.get_by_role("button", name="Buy").first.click()
    expect(page.locator("#notice")).to_contain_text("Try again")

    sandbox.fault("none")
    go_to_pay(page)

    expect(page.get_by_label("E-mail")).to_be_visible()


def test_the_buyer_comes_back_to_where_a_single_page_site_had_moved_on_to(
    visitor, shop, return_url_of
):
    page = visitor.open(shop)
    page.evaluate("history.pushState(null, '', '/articles/5?from=home#comments')")

    go_to_pay(page)

    assert return_url_of(page.url).startswith(f"{shop}/articles/5?from=home&allegro_")


# --- the member's token


def test_a_token_that_ran_out_is_renewed_on_the_next_visit(visitor, shop):
    page = visitor.open(shop)
    buy(page)
    expect_entitled(page)
    expire_jwt(page)

    page.reload()

    expect_entitled(page)
    assert len(visitor.calls("/api/members/token/refresh")) == 1


def test_a_token_is_renewed_before_it_runs_out(visitor, shop):
    page = visitor.context.new_page()
    page.clock.install()
    page.goto(shop)
    buy(page)
    expect_entitled(page)
    first = page.evaluate("allegro.member.jwt()")

    page.clock.fast_forward("14:30")

    page.wait_for_function("first => ![first, null].includes(allegro.member.jwt())", arg=first)
    assert len(visitor.calls("/api/members/token/refresh")) == 1


def test_two_tabs_that_renew_at_once_stay_signed_in(visitor, shop):
    page = visitor.open(shop)
    buy(page)
    expect_entitled(page)
    expire_jwt(page)
    held = visitor.hold("**/api/members/token/refresh")

    page.reload()
    other = visitor.open(shop)
    other.wait_for_function("async () => (await navigator.locks.query()).pending.length === 1")
    held.pop().continue_()

    expect_entitled(page)
    expect_entitled(other)
    assert len(visitor.calls("/api/members/token/refresh")) == 1
    assert MemberSession.objects.get().revoked_at is None


def test_a_session_that_was_ended_signs_out_quietly(visitor, shop):
    visitor.expects("status of 401")
    page = visitor.open(shop)
    buy(page)
    expect_entitled(page)
    MemberSession.objects.update(revoked_at=MemberSession.objects.get().expires_at)

    page.reload()

    page.wait_for_function("() => allegro.member.jwt() === null")
    expect(page.locator("#member")).to_have_text("You are not signed in.")
    expect(page.locator("#entitlements")).to_have_text("Nothing yet.")


def test_a_session_that_was_ended_does_not_keep_from_buying(visitor, shop):
    visitor.expects("status of 401")
    page = visitor.open(shop)
    buy(page)
    expect_entitled(page)
    MemberSession.objects.update(revoked_at=MemberSession.objects.get().expires_at)

    go_to_pay(page)

    expect(page.get_by_label("E-mail")).to_have_value("")


# --- pages of integrators

PAGE = """<!doctype html><title>A page</title><link rel="icon" href="data:,">{scripts}"""
PUSHES = """
window.allegro = window.allegro || [];
window.allegro.push(() => { throw new Error("a broken callback"); });
window.allegro.push((allegro) => { document.title = "pushed: " + allegro.member.hasProduct("x"); });
"""


@pytest.mark.parametrize("order", ["{own}{sdk}", "{sdk}{own}"])
def test_a_callback_runs_whether_pushed_before_or_after_the_sdk(
    visitor, publish, server, publishable_key, order
):
    visitor.expects("a broken callback")
    sdk = f'<script src="{server.url}/client.js" data-key="{publishable_key}"></script>'
    scripts = order.format(own='<script src="/shop.js"></script>', sdk=sdk)
    site = publish(PAGE.format(scripts=scripts).encode())
    visitor.context.route(
        f"{site}/shop.js", lambda route: route.fulfill(body=PUSHES, content_type="text/javascript")
    )

    page = visitor.open(site)

    expect(page).to_have_title("pushed: false")
    assert events_on(page) == ["ready"]


NO_STORAGE = {
    "denied": "Object.defineProperty(window, 'localStorage', { get() { throw new Error(); } });",
    # As in Safari's private windows once, and where other scripts have filled it.
    "full": "Storage.prototype.setItem = () => { throw new Error(); };",
}


@pytest.mark.parametrize("why", NO_STORAGE)
def test_a_browser_without_storage_buys_and_sees_it(why, visitor, shop):
    visitor.context.add_init_script(NO_STORAGE[why])
    page = visitor.open(shop)

    buy(page)

    expect(page.locator("#notice")).to_have_text("Thank you! You bought Monthly.")
    expect_entitled(page)
    assert not MemberSession.objects.get().authenticated


def test_the_return_token_reaches_nobody_but_the_exchange(visitor, shop, server, return_url_of):
    page = visitor.open(shop)
    go_to_pay(page)
    token = return_url_of(page.url).partition("allegro_purchase_token=")[2]
    pay(page)
    expect_entitled(page)

    page.reload()
    expect_entitled(page)

    elsewhere = [request for request in visitor.requests if not request.url.startswith(shop)]
    referrers = {request.all_headers().get("referer", "") for request in elsewhere}
    assert not [request for request in elsewhere if token in request.url]
    assert not [referrer for referrer in referrers if token in referrer]
    assert token not in page.content()
    assert token not in server.log()
    assert EMAIL not in server.log()
