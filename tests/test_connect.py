"""Connecting a tenant's Stripe account by OAuth, its events, and letting go of it."""

import logging
from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from purchases.models import Entitlement
from tenants.models import ConnectAttempt, PaymentAccount, Tenant, TenantUser
from tests.conftest import ACCOUNT_ID
from tests.sandbox_server import CLIENT_ID, KEY, running_sandbox

START = "/connect/stripe/acme/start"
CALLBACK = "/connect/stripe/callback"
DISCONNECT = "/connect/stripe/acme/disconnect"
OTHER_ACCOUNT_ID = "acct_1QTenantBBB0002x"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
INVALID = "This link is no longer valid"


def rows():
    """Everything there is about accounts, to see that nothing changed."""
    return list(PaymentAccount.objects.order_by("pk").values())


@pytest.fixture(scope="module")
def running():
    with running_sandbox(accounts=[ACCOUNT_ID, OTHER_ACCOUNT_ID]) as sandbox:
        yield sandbox


@pytest.fixture
def stripe(running, settings):
    """The sandbox, as our Stripe."""
    settings.STRIPE_API_BASE = running.url
    settings.STRIPE_SECRET_KEY = KEY
    settings.STRIPE_CONNECT_CLIENT_ID = CLIENT_ID
    for account_id in (ACCOUNT_ID, OTHER_ACCOUNT_ID):
        running.enable(account_id, charges_enabled=True)
    yield running
    running.fault("none")


@pytest.fixture
def allow(stripe):
    """Decide on Stripe's page at this address; returns where it leads back to."""

    def allow(authorize_url, account_id=ACCOUNT_ID, decision="allow"):
        asked = dict(parse_qs(urlsplit(authorize_url).query))
        fields = {name: values[0] for name, values in asked.items()}
        fields |= {"account": account_id, "decision": decision}
        _, headers, _ = stripe.request("POST", "/oauth/authorize", urlencode(fields), **FORM)
        return headers["Location"].removeprefix("http://testserver")

    return allow


@pytest.fixture
def go(admin_client, tenant, allow):
    """Go to Stripe and decide there; returns the way back, not gone yet."""

    def go(account_id=ACCOUNT_ID, decision="allow", start=START):
        return allow(admin_client.get(start)["Location"], account_id, decision)

    return go


def says(response, title, status=200):
    return response.status_code == status and f"<h1>{title}</h1>" in response.text


# --- to Stripe


def test_start_leads_to_stripe_with_what_it_has_to_know(admin_client, tenant, stripe):
    response = admin_client.get(START)

    url = urlsplit(response["Location"])
    asked = {name: values for name, values in parse_qs(url.query).items() if name != "state"}
    assert response.status_code == 302
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{stripe.url}/oauth/authorize"
    assert asked == {
        "response_type": ["code"],
        "client_id": [CLIENT_ID],
        "scope": ["read_write"],
        "redirect_uri": ["http://testserver/connect/stripe/callback"],
    }


def test_without_a_stand_in_start_leads_to_stripe_itself(admin_client, tenant):
    response = admin_client.get(START)

    assert response["Location"].startswith("https://connect.stripe.com/oauth/authorize?")


def test_the_state_is_random_and_kept_as_a_hash_for_ten_minutes(admin_client, tenant):
    states = [
        parse_qs(urlsplit(admin_client.get(START)["Location"]).query)["state"][0] for _ in range(2)
    ]

    attempts = ConnectAttempt.objects.all()
    assert len(set(states)) == 2
    assert all(len(state) >= 43 for state in states)
    assert not {attempt.state_sha256 for attempt in attempts} & set(states)
    left = [attempt.expires_at - timezone.now() for attempt in attempts]
    assert all(timedelta(minutes=9) < time <= timedelta(minutes=10) for time in left)


def test_start_takes_the_tenants_id_too(admin_client, tenant):
    response = admin_client.get(f"/connect/stripe/{tenant.pk}/start")

    assert response.status_code == 302
    assert ConnectAttempt.objects.get().tenant.slug == "acme"


def test_a_slug_that_is_another_tenants_id_means_its_own_tenant(admin_client, tenant):
    named = Tenant.objects.create(slug=str(tenant.pk), name="Named like an id")

    admin_client.get(f"/connect/stripe/{tenant.pk}/start")

    assert ConnectAttempt.objects.get().tenant == named


@pytest.mark.parametrize("path", [START, DISCONNECT, CALLBACK])
@pytest.mark.parametrize("method", ["head", "post", "put", "delete", "options"])
def test_other_methods_are_refused(admin_client, tenant, path, method):
    if (path, method) == (DISCONNECT, "post"):
        method = "patch"

    response = getattr(admin_client, method)(path)

    assert response.status_code == 405
    assert not ConnectAttempt.objects.exists()


def test_the_addresses_and_pages_are_kept_nowhere(admin_client, go):
    responses = [admin_client.get(path) for path in (START, go(), CALLBACK)]

    assert [response["Referrer-Policy"] for response in responses] == ["no-referrer"] * 3
    assert [response["Cache-Control"] for response in responses] == ["no-store"] * 3


# --- who may


def permit(user, *, role=None, tenant=None, permission=False):
    if permission:
        user.user_permissions.add(Permission.objects.get(codename="change_paymentaccount"))
    if role:
        TenantUser.objects.create(user=user, tenant=tenant, role=role)


@pytest.mark.parametrize(
    ("is_staff", "role", "permission", "status"),
    [
        (True, None, True, 302),
        (True, "admin", False, 302),
        (True, "member", False, 403),
        (True, "viewer", False, 403),
        (True, None, False, 403),
        (False, "admin", True, 403),
    ],
)
def test_who_may_connect(client, django_user_model, tenant, is_staff, role, permission, status):
    user = django_user_model.objects.create(username="u", is_staff=is_staff)
    permit(user, role=role, tenant=tenant, permission=permission)
    client.force_login(user)

    assert client.get(START).status_code == status
    assert client.get(DISCONNECT).status_code == {302: 409}.get(status, status)
    assert ConnectAttempt.objects.exists() == (status == 302)


@pytest.mark.parametrize("role", ["admin", "viewer"])
def test_the_tenants_page_offers_the_button_to_who_may_press_it(
    client, django_user_model, tenant, role
):
    user = django_user_model.objects.create(username="u", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_tenant"))
    permit(user, role=role, tenant=tenant)
    client.force_login(user)

    page = client.get(f"/admin/tenants/tenant/{tenant.pk}/change/")

    assert "Not connected" in page.text
    assert ("Connect Stripe" in page.text) is (role == "admin")


@pytest.mark.parametrize("permission", [False, True])
def test_the_admin_of_another_tenant_may_not(
    client, django_user_model, tenant, other_account, permission
):
    user = django_user_model.objects.create(username="u", is_staff=True)
    permit(user, role="admin", tenant=other_account.tenant, permission=permission)
    client.force_login(user)

    assert says(client.get(START), "Not allowed", 403)
    assert client.get("/connect/stripe/nobody/start").status_code == 403


def test_a_tenant_that_is_not_there_is_not_found(admin_client):
    assert admin_client.get("/connect/stripe/nobody/start").status_code == 404


def test_a_stranger_signs_in_and_then_continues(client, admin_user, tenant):
    response = client.get(START)

    after = parse_qs(urlsplit(response["Location"]).query)["next"][0]
    client.force_login(admin_user)
    assert response["Location"].startswith("/admin/login/?")
    assert says(client.get(after), "Continue to Stripe")
    assert not ConnectAttempt.objects.exists()


def test_a_stranger_at_the_callback_signs_in_and_the_code_goes_nowhere(client, go):
    response = client.get(go())

    assert response["Location"] == f"/admin/login/?next={CALLBACK}"
    assert rows() == []


def test_who_lost_the_role_on_the_way_connects_nothing(client, django_user_model, tenant, allow):
    user = django_user_model.objects.create(username="u", is_staff=True)
    permit(user, role="admin", tenant=tenant)
    client.force_login(user)
    way_back = allow(client.get(START)["Location"])
    TenantUser.objects.update(role="viewer")

    assert says(client.get(way_back), "Not allowed", 403)
    assert rows() == []


# --- and back


def test_an_allowed_account_is_connected_with_what_stripe_says_of_it(
    admin_client, tenant, stripe, go
):
    stripe.enable(ACCOUNT_ID, charges_enabled=False)

    response = admin_client.get(go())

    account = PaymentAccount.objects.get()
    assert says(response, "Connected")
    assert "Stripe lets it take no payments yet." in response.text
    assert (account.tenant.slug, account.stripe_account_id) == ("acme", ACCOUNT_ID)
    assert (account.livemode, account.charges_enabled, account.payouts_enabled) == (False,) * 3
    assert account.details_submitted
    assert account.display_name.startswith("Seller")
    assert account.requirements == ["business_profile.url"]
    assert account.disabled_reason == "requirements.past_due"
    assert account.disconnected_at is None


def test_no_token_is_stored_or_logged(admin_client, go, caplog):
    caplog.set_level(logging.DEBUG)

    admin_client.get(go())

    kept = f"{rows()} {list(ConnectAttempt.objects.values())}"
    assert "rt_" not in kept + caplog.text
    assert "sk_test_" not in kept + caplog.text


def test_who_denies_at_stripe_connects_nothing(admin_client, go):
    way_back = go(decision="deny")

    assert says(admin_client.get(way_back), "The account was not connected")
    assert rows() == []
    assert says(admin_client.get(way_back), INVALID, 400)


def fresh_state(client):
    return parse_qs(urlsplit(client.get(START)["Location"]).query)["state"][0]


@pytest.mark.parametrize("state", ["", "state=", "state=forged", "state=%00", "state=%ED%A0%80"])
def test_a_forged_state_is_refused_and_noted(admin_client, go, caplog, state):
    code = parse_qs(urlsplit(go()).query)["code"][0]

    response = admin_client.get(f"{CALLBACK}?code={code}&{state}")

    assert says(response, INVALID, 400)
    assert rows() == []
    assert "security_connect_state" in caplog.text


def test_a_way_back_is_good_once(admin_client, go, caplog):
    way_back = go()
    admin_client.get(way_back)
    before = rows()

    response = admin_client.get(way_back)

    assert says(response, INVALID, 400)
    assert START in response.text
    assert rows() == before
    assert "security_connect_state" in caplog.text


def test_a_way_back_is_not_good_for_ever(admin_client, go):
    way_back = go()
    ConnectAttempt.objects.update(expires_at=timezone.now())

    assert says(admin_client.get(way_back), INVALID, 400)
    assert rows() == []


def test_a_way_back_is_good_in_its_own_browser_only(admin_client, admin_user, go):
    way_back = go()
    other_browser = Client()
    other_browser.force_login(admin_user)

    assert says(other_browser.get(way_back), INVALID, 400)
    assert rows() == []
    assert says(admin_client.get(way_back), "Connected")


def test_a_way_back_is_good_for_its_own_operator_only(client, django_user_model, tenant, allow):
    first, second = (
        django_user_model.objects.create_superuser(name) for name in ("first", "second")
    )
    client.force_login(first)
    way_back = allow(client.get(START)["Location"])
    ConnectAttempt.objects.update(user=second)

    response = client.get(way_back)

    assert says(response, INVALID, 400)
    assert "acme" not in response.text


def test_the_state_decides_for_which_tenant(admin_client, tenant, other_account, go):
    way_back = go("new", start="/connect/stripe/rival/start")
    PaymentAccount.objects.update(disconnected_at=timezone.now())

    admin_client.get(f"{way_back}&tenant=acme")

    assert PaymentAccount.objects.get(disconnected_at=None).tenant.slug == "rival"


# --- what Stripe refuses


@pytest.mark.parametrize("fields", [{"code": "ac_none"}, {}, {"code": ""}, {"error": "odd"}])
def test_a_code_that_stripe_refuses_connects_nothing(admin_client, tenant, stripe, fields):
    state = fresh_state(admin_client)

    response = admin_client.get(CALLBACK, {**fields, "state": state})

    assert says(response, "Stripe did not confirm the connection", 400)
    assert rows() == []
    assert says(admin_client.get(CALLBACK, {**fields, "state": state}), INVALID, 400)


def test_a_code_that_was_used_connects_nothing(admin_client, stripe, go):
    way_back = go("new")
    code = parse_qs(urlsplit(way_back).query)["code"][0]
    stripe.client.oauth.token({"grant_type": "authorization_code", "code": code})

    response = admin_client.get(way_back)

    assert says(response, "Stripe did not confirm the connection", 400)
    assert rows() == []


def test_a_code_stands_in_no_log(admin_client, tenant, stripe, caplog):
    caplog.set_level(logging.INFO, logger="root")

    admin_client.get(CALLBACK, {"code": "ac_secret", "state": fresh_state(admin_client)})

    assert "connect_call_failed" in caplog.text
    assert "ac_secret" not in caplog.text


@pytest.mark.parametrize("kind", ["500", "429", "garbage"])
def test_a_code_is_sent_once_whatever_stripe_answers(admin_client, stripe, go, kind):
    way_back = go()
    stripe.fault(kind, count=3, path="/oauth/token")

    response = admin_client.get(way_back)

    assert says(response, "Stripe could not be reached", 502)
    assert stripe.state()["faults"]["count"] == 2
    assert rows() == []
    assert says(admin_client.get(way_back), INVALID, 400)


def test_a_stripe_that_is_down_connects_nothing(admin_client, go, settings):
    way_back = go()
    settings.STRIPE_API_BASE = "http://127.0.0.1:1"

    assert says(admin_client.get(way_back), "Stripe could not be reached", 502)
    assert rows() == []


def test_an_account_connected_in_the_other_mode_is_refused(admin_client, go, settings):
    way_back = go()
    settings.STRIPE_LIVEMODE = True

    response = admin_client.get(way_back)

    assert says(response, "The account was connected in the other mode", 409)
    assert rows() == []


def test_an_account_that_cannot_be_asked_about_is_connected_all_the_same(admin_client, stripe, go):
    way_back = go()
    stripe.fault("500", path="/v1/accounts")

    response = admin_client.get(way_back)

    assert says(response, "Connected")
    assert "Ask again" in response.text
    assert not PaymentAccount.objects.get().charges_enabled
    stripe.fault("none")
    assert "It can take payments now." in admin_client.get(go()).text
    assert PaymentAccount.objects.get().charges_enabled


# --- whose account it is


@pytest.mark.parametrize("left", [False, True])
def test_an_account_of_another_tenant_is_refused_and_stays_connected(
    admin_client, stripe, other_account, go, left
):
    PaymentAccount.objects.update(disconnected_at=timezone.now() if left else None)
    before = rows()

    response = admin_client.get(go(OTHER_ACCOUNT_ID))

    assert says(response, "The account belongs to another tenant", 409)
    assert "Rival" not in response.text
    assert rows() == before
    assert stripe.client.v1.accounts.retrieve(OTHER_ACCOUNT_ID).id == OTHER_ACCOUNT_ID


def test_a_second_account_is_refused_while_the_first_is_active(admin_client, account, go):
    before = rows()

    response = admin_client.get(go("new"))

    assert says(response, "The tenant sells on another account", 409)
    assert rows() == before


def test_a_second_account_follows_the_first(admin_client, account, go):
    PaymentAccount.objects.update(disconnected_at=timezone.now())

    response = admin_client.get(go("new"))

    assert says(response, "Connected")
    assert account.tenant.active_account.stripe_account_id != ACCOUNT_ID
    assert PaymentAccount.objects.count() == 2


def test_the_same_account_comes_back_to_its_row(admin_client, account, go):
    long_ago = timezone.now() - timedelta(days=30)
    PaymentAccount.objects.update(
        connected_at=long_ago, disconnected_at=long_ago, display_name="Our name for it"
    )

    admin_client.get(go())

    row = PaymentAccount.objects.get()
    assert (row.pk, row.disconnected_at) == (account.pk, None)
    assert timezone.now() - row.connected_at < timedelta(minutes=1)
    assert row.display_name == "Our name for it"


# --- letting go


def test_disconnecting_asks_first(admin_client, account, stripe):
    page = admin_client.get(DISCONNECT)

    assert says(page, "Disconnect Stripe?")
    assert account.tenant.active_account == account


def confirm(client, account_id=ACCOUNT_ID):
    return client.post(DISCONNECT, {"account": account_id})


def test_a_confirmation_lets_go_of_the_account(admin_client, account, stripe):
    response = confirm(admin_client)

    account.refresh_from_db()
    assert says(response, "Disconnected")
    assert account.disconnected_at
    listed = {one["id"]: one["is_connected"] for one in stripe.state()["accounts"]}
    assert listed[ACCOUNT_ID] is False


def test_a_confirmation_needs_its_form(admin_user, account, stripe):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)

    assert confirm(client).status_code == 403
    assert account.tenant.active_account == account


def test_a_confirmation_for_another_account_does_nothing(admin_client, account):
    before = rows()

    assert says(confirm(admin_client, OTHER_ACCOUNT_ID), "Nothing to disconnect", 409)
    assert rows() == before


def test_an_account_that_stripe_let_go_of_already_is_disconnected(admin_client, account, stripe):
    stripe.deauthorize(ACCOUNT_ID)

    assert "Stripe could not be told" not in confirm(admin_client).text
    assert account.tenant.active_account is None
    assert says(confirm(admin_client), "Nothing to disconnect", 409)


def test_an_account_is_disconnected_here_even_if_stripe_is_down(admin_client, account, settings):
    settings.STRIPE_API_BASE = "http://127.0.0.1:1"

    response = confirm(admin_client)

    assert says(response, "Disconnected")
    assert "Stripe could not be told." in response.text
    assert account.tenant.active_account is None


def test_a_disconnected_tenant_sells_nothing_at_once_and_members_keep_what_they_have(
    client, admin_user, account, plan, checkout, paid_event, deliver, publishable_key, stripe
):
    deliver(paid_event)
    client.force_login(admin_user)

    confirm(client)

    answer = client.post(
        "/api/checkout/sessions",
        {"plan": str(plan.id)},
        content_type="application/json",
        headers={"Authorization": f"Bearer {publishable_key}"},
    )
    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "not_connected")
    assert Entitlement.objects.active().count() == 2
