"""Whose scripts a browser lets read our answers: the tenant's own, on the SDK's paths."""

import uuid

import pytest
from django.utils import timezone

from purchases.models import Purchase
from tenants import tokens
from tenants.keys import create_key
from tenants.models import ApiKey, Member

SHOP = "https://shop.example"
RIVAL = "https://rival.example"
ALLOWED = "Access-Control-Allow-Origin"
SDK_PATHS = [
    ("POST", "/api/checkout/sessions"),
    ("POST", "/api/purchases/exchange"),
    ("POST", "/api/members/token/refresh"),
    ("GET", "/api/entitlements"),
]
OTHER_PATHS = [
    "/api/webhooks/stripe",
    "/api/webhooks/stripe/",
    "/admin/",
    "/admin/login/",
    "/api/v1/purchases",
    "/api/v1/credits/spend",
    "/api/checkouts",
    "/purchase/return",
    "/.well-known/openid-configuration",
    "//api/checkout/sessions",
]
NO_ORIGINS = [
    "null",
    "*",
    "https://",
    "shop.example",
    f"{SHOP}/",
    f"{SHOP}:443",
    f"{SHOP}.evil.example",
    f"{SHOP}, {RIVAL}",
    f"{SHOP} ",
    "https://SHOP.example",
    "http://shop.example",
    "https://user@shop.example",
    "https://%",
    "https://_",
    'https://shop.example"',
    'https://shop.example", "https://rival.example',
    "https://shop.exampl\u00e9",
    "shop.example://x",
]


@pytest.fixture(autouse=True)
def tenant(tenant):
    tenant.allowed_origins = ["https://www.shop.example:8443", SHOP]
    tenant.save()
    return tenant


@pytest.fixture
def rival_key(other_account):
    other_account.tenant.allowed_origins = [RIVAL]
    other_account.tenant.save()
    return create_key(other_account.tenant, ApiKey.Kind.PUBLISHABLE)


@pytest.fixture
def member_token(tenant):
    session = tokens.open_session(
        Member.objects.create(tenant=tenant, email="jenny@example.com"),
        authenticated=True,
        purchase_id=uuid.uuid4(),
        refresh_token=tokens.new_refresh_token(),
    )
    return tokens.issue_jwt(session, products=[])[0]


@pytest.fixture
def call(client):
    """Make the request that a page on the origin makes."""

    def call(method, path, *, origin, bearer=None, **headers):
        authorization = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return client.generic(
            method,
            path,
            b"{}",
            content_type="application/json",
            headers={"Origin": origin, **authorization, **headers},
        )

    return call


@pytest.fixture
def preflight(call):
    """Ask as a browser asks before it sends what a form could not."""

    def preflight(path, *, origin, method="POST"):
        headers = {
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "allegro-member,authorization,content-type",
        }
        return call("OPTIONS", path, origin=origin, **headers)

    return preflight


# --- the question before the request


@pytest.mark.parametrize(("method", "path"), SDK_PATHS)
def test_a_tenants_site_may_ask(preflight, method, path):
    answer = preflight(path, origin=SHOP, method=method)

    assert answer.status_code == 200
    assert answer.headers[ALLOWED] == SHOP
    assert method in answer.headers["Access-Control-Allow-Methods"]
    assert {"authorization", "content-type", "allegro-member"} <= set(
        answer.headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert "origin" in answer.headers["Vary"].lower()


@pytest.mark.parametrize("origin", ["https://evil.example", RIVAL, *NO_ORIGINS])
def test_any_other_site_is_told_nothing(preflight, origin):
    assert ALLOWED not in preflight("/api/checkout/sessions", origin=origin).headers


@pytest.mark.parametrize("path", OTHER_PATHS)
def test_other_paths_are_not_for_other_sites(preflight, call, path, publishable_key):
    asked = preflight(path, origin=SHOP)
    got = call("GET", path, origin=SHOP, bearer=publishable_key)
    posted = call("POST", path, origin=SHOP, bearer=publishable_key)

    assert not any(ALLOWED in answer.headers for answer in (asked, got, posted))


# --- the request


def test_the_site_of_the_keys_tenant_reads_the_answer(call, publishable_key):
    answer = call("POST", "/api/checkout/sessions", origin=SHOP, bearer=publishable_key)

    assert answer.headers[ALLOWED] == SHOP
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert sorted(exposed) == ["Retry-After", "X-Request-Id"]


def test_each_of_a_tenants_sites_reads_its_own_name(call, publishable_key):
    answer = call(
        "POST",
        "/api/purchases/exchange",
        origin="https://www.shop.example:8443",
        bearer=publishable_key,
    )

    assert answer.headers[ALLOWED] == "https://www.shop.example:8443"


def test_another_tenants_site_does_not(call, publishable_key, rival_key):
    answer = call("POST", "/api/checkout/sessions", origin=RIVAL, bearer=publishable_key)

    assert ALLOWED not in answer.headers


def test_a_site_reads_with_its_own_tenants_key_alone(call, rival_key):
    own = call("POST", "/api/checkout/sessions", origin=RIVAL, bearer=rival_key)
    foreign = call("POST", "/api/checkout/sessions", origin=SHOP, bearer=rival_key)

    assert own.headers[ALLOWED] == RIVAL
    assert ALLOWED not in foreign.headers


def test_a_member_token_names_the_tenant_too(call, member_token, rival_key):
    own = call("GET", "/api/entitlements", origin=SHOP, bearer=member_token)
    foreign = call("GET", "/api/entitlements", origin=RIVAL, bearer=member_token)

    assert own.status_code == 200
    assert own.headers[ALLOWED] == SHOP
    assert ALLOWED not in foreign.headers


@pytest.mark.parametrize("origin", NO_ORIGINS)
def test_what_is_no_origin_of_the_tenant_reads_nothing(call, publishable_key, origin):
    answer = call("POST", "/api/checkout/sessions", origin=origin, bearer=publishable_key)

    assert ALLOWED not in answer.headers


@pytest.mark.parametrize("bearer", ["garbage", "a.b.c", "e30.e30.e30", "pk_unknown", "\u00e9"])
def test_a_credential_that_names_nobody_opens_nothing_to_strangers(call, bearer):
    answer = call("GET", "/api/entitlements", origin="https://evil.example", bearer=bearer)

    assert answer.status_code == 401
    assert ALLOWED not in answer.headers


def test_a_refusal_is_readable_as_well(call, publishable_key, member_token):
    ApiKey.objects.update(revoked_at=timezone.now())
    revoked = call("POST", "/api/checkout/sessions", origin=SHOP, bearer=publishable_key)
    tampered = call("GET", "/api/entitlements", origin=SHOP, bearer=f"{member_token}x")

    assert (revoked.status_code, tampered.status_code) == (401, 401)
    assert revoked.headers[ALLOWED] == tampered.headers[ALLOWED] == SHOP


def test_a_refresh_is_for_tenants_sites(call):
    own = call("POST", "/api/members/token/refresh", origin=SHOP)
    foreign = call("POST", "/api/members/token/refresh", origin="https://evil.example")

    assert own.headers[ALLOWED] == SHOP
    assert ALLOWED not in foreign.headers


def test_no_cookie_is_ever_asked_for(call, preflight, publishable_key):
    asked = preflight("/api/checkout/sessions", origin=SHOP)
    answer = call("POST", "/api/checkout/sessions", origin=SHOP, bearer=publishable_key)

    assert "Access-Control-Allow-Credentials" not in asked.headers
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_site_taken_off_the_list_reads_nothing_from_then_on(call, tenant, publishable_key):
    tenant.allowed_origins = []
    tenant.save()

    answer = call("POST", "/api/checkout/sessions", origin=SHOP, bearer=publishable_key)

    assert ALLOWED not in answer.headers


# --- what is for everybody


@pytest.mark.parametrize("origin", ["https://evil.example", "null", SHOP])
def test_the_sdk_loads_from_anywhere(call, origin):
    answer = call("GET", "/client.js", origin=origin)

    assert answer.status_code == 200
    assert answer.headers[ALLOWED] == "*"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", SHOP, "https://%"])
def test_a_delivery_with_an_origin_is_taken_all_the_same(deliver, checkout, paid_event, origin):
    answer = deliver(paid_event, Origin=origin)

    assert answer.status_code == 200
    assert ALLOWED not in answer.headers
    assert Purchase.objects.get().status == "paid"


def test_a_browser_keeps_a_permission_for_a_day_at_most(preflight):
    answer = preflight("/api/checkout/sessions", origin=SHOP)

    assert 0 < int(answer.headers["Access-Control-Max-Age"]) <= 86400
