"""An operator connects a tenant's Stripe account and lets go of it, in a real browser."""

import re
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.utils import timezone
from playwright.sync_api import expect

from fulfillment.models import StripeEvent
from tenants.models import ConnectAttempt, PaymentAccount, Tenant
from tests.conftest import ACCOUNT_ID

pytest_plugins = ["tests.browser"]

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
START = "/connect/stripe/acme/start"


@pytest.fixture
def sign_in(server, admin_user):
    """Open the path, whose way leads over the login."""
    # The server's own settings know nothing of the tests' quick hashes.
    admin_user.password = PBKDF2PasswordHasher().encode("password", "salt")
    admin_user.save()

    def sign_in(visitor, path):
        visitor.expects("/favicon.ico")
        page = visitor.open(f"{server.url}{path}")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill("password")
        page.get_by_role("button", name="Log in").click()
        return page

    return sign_in


@pytest.fixture
def tenant_page(visitor, sign_in, sandbox, tenant):
    """The tenant's page in the admin, with an operator in front of it."""
    return sign_in(visitor, f"/admin/tenants/tenant/{tenant.pk}/change/")


def rows():
    return list(PaymentAccount.objects.order_by("pk").values())


def heading(page, text):
    expect(page.get_by_role("heading", level=1, name=text, exact=True)).to_be_visible()


def to_stripe(page):
    page.get_by_role("link", name="Connect Stripe").click()
    heading(page, "Connect your account")


def decide(page, *, account=None, decision="Allow"):
    if account:
        page.get_by_label(account).check()
    page.get_by_role("button", name=decision).click()


def test_an_account_is_connected_from_the_tenants_page_and_let_go_of_there(visitor, tenant_page):
    page = tenant_page
    expect(page.get_by_text("Not connected")).to_be_visible()
    to_stripe(page)
    page.get_by_label("A new test account").check()
    page.get_by_label("Name of the new account").fill("Corner Bookshop")
    decide(page)
    heading(page, "Connected")
    expect(page.get_by_text("It can take payments now.")).to_be_visible()
    visitor.shoot_admin(page, "connect-connected")

    page.get_by_role("link", name="Back to Acme Weekly").click()

    expect(page.get_by_text(re.compile("^Connected since"))).to_be_visible()
    expect(page.get_by_text("Account: Corner Bookshop acct_")).to_be_visible()
    expect(page.get_by_text("Takes payments: yes")).to_be_visible()
    page.get_by_role("link", name="Disconnect").click()
    heading(page, "Disconnect Stripe?")
    visitor.shoot_admin(page, "connect-disconnect")
    page.get_by_role("button", name="Disconnect").click()
    heading(page, "Disconnected")
    visitor.shoot_admin(page, "connect-disconnected")
    page.get_by_role("link", name="Back to Acme Weekly").click()
    expect(page.get_by_text("Not connected")).to_be_visible()
    expect(page.get_by_text(re.compile(r"^Corner Bookshop acct_\w+ until 20"))).to_be_visible()


def test_the_tenants_page_shows_what_stripe_requires_and_last_told(
    visitor, tenant_page, sandbox, account
):
    sandbox.enable(ACCOUNT_ID, charges_enabled=False)
    sandbox.wait_idle()
    tenant_page.reload()

    page = tenant_page

    expect(page.get_by_text("Takes payments: no")).to_be_visible()
    expect(page.get_by_text("Stripe requires: business_profile.url")).to_be_visible()
    expect(page.get_by_text("Stopped by Stripe: requirements.past_due")).to_be_visible()
    received = StripeEvent.objects.latest("received_at").received_at
    expect(page.locator(".field-last_event")).to_contain_text(f"{received:%Y-%m-%d %H:%M:%S}")
    visitor.shoot_admin(page, "connect-tenant")


def test_an_owner_who_denies_brings_the_operator_back(visitor, tenant_page):
    to_stripe(tenant_page)

    decide(tenant_page, decision="Deny")

    heading(tenant_page, "The account was not connected")
    visitor.shoot_admin(tenant_page, "connect-denied")
    assert rows() == []
    tenant_page.get_by_role("link", name="Start again").click()
    heading(tenant_page, "Connect your account")


def test_a_way_back_that_is_opened_again_says_so(visitor, tenant_page):
    visitor.expects("status of 400")
    to_stripe(tenant_page)
    decide(tenant_page)
    heading(tenant_page, "Connected")
    before = rows()

    tenant_page.reload()

    heading(tenant_page, "This link is no longer valid")
    visitor.shoot_admin(tenant_page, "connect-invalid")
    assert rows() == before


def test_a_way_back_after_the_back_button_is_used_up(visitor, tenant_page):
    visitor.expects("status of 400")
    to_stripe(tenant_page)
    decide(tenant_page)
    heading(tenant_page, "Connected")
    before = rows()

    tenant_page.evaluate("history.back()")
    heading(tenant_page, "Connect your account")
    decide(tenant_page, decision="Deny")

    heading(tenant_page, "This link is no longer valid")
    assert rows() == before


def test_who_takes_too_long_at_stripe_starts_again(visitor, tenant_page):
    visitor.expects("status of 400")
    to_stripe(tenant_page)
    ConnectAttempt.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    decide(tenant_page)

    heading(tenant_page, "This link is no longer valid")
    assert rows() == []
    tenant_page.get_by_role("link", name="Start again").click()
    decide(tenant_page)
    heading(tenant_page, "Connected")


def test_a_way_back_in_another_browser_connects_nothing(new_visitor, sign_in, tenant_page, sandbox):
    to_stripe(tenant_page)
    other = new_visitor()
    other.expects("status of 400")
    asked = f"{urlsplit(tenant_page.url).query}&account={ACCOUNT_ID}&decision=allow"
    _, headers, _ = sandbox.request("POST", "/oauth/authorize", asked, **FORM)
    page = sign_in(other, "/admin/")
    heading(page, "Site administration")

    page.goto(headers["Location"])

    heading(page, "This link is no longer valid")
    assert rows() == []
    tenant_page.goto(headers["Location"])
    heading(tenant_page, "Connected")


def test_an_account_of_another_tenant_is_refused(visitor, tenant_page):
    visitor.expects("status of 409")
    rival = Tenant.objects.create(slug="rival", name="Rival Daily")
    PaymentAccount.objects.create(tenant=rival, stripe_account_id=ACCOUNT_ID, livemode=False)
    before = rows()
    to_stripe(tenant_page)

    decide(tenant_page, account=ACCOUNT_ID)

    heading(tenant_page, "The account belongs to another tenant")
    visitor.shoot_admin(tenant_page, "connect-refused")
    assert rows() == before


def test_a_stripe_that_fails_is_said_to_be_away(visitor, tenant_page, sandbox):
    visitor.expects("status of 502")
    to_stripe(tenant_page)
    sandbox.fault("500", count=3, path="/oauth/token")

    decide(tenant_page)

    heading(tenant_page, "Stripe could not be reached")
    assert sandbox.state()["faults"]["count"] == 2
    assert rows() == []
    sandbox.fault("none")


def test_a_stranger_signs_in_on_the_way(visitor, sign_in, sandbox, tenant):
    page = sign_in(visitor, START)
    heading(page, "Continue to Stripe")

    page.get_by_role("link", name="Continue to Stripe").click()
    heading(page, "Connect your account")
    decide(page)

    heading(page, "Connected")


def test_an_owner_who_leaves_at_stripe_is_shown_as_not_connected(tenant_page, sandbox, account):
    PaymentAccount.objects.update(connected_at=timezone.now() - timedelta(days=1))

    sandbox.deauthorize(ACCOUNT_ID)
    sandbox.wait_idle()
    tenant_page.reload()

    expect(tenant_page.get_by_text("Not connected")).to_be_visible()
    expect(tenant_page.get_by_role("link", name="Connect Stripe")).to_be_visible()
