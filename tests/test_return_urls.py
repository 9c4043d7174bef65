"""Where a checkout may send its buyer back to: the tenant's own sites, to the letter."""

import json
import re
from urllib.parse import urlsplit

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from fulfillment.models import Checkout
from tenants.keys import sha256
from tests.conftest import ACCOUNT_ID
from tests.sandbox_server import KEY, running_sandbox

ORIGINS = ["https://shop.example", "https://xn--bcher-kva.example:8443", "http://[2001:db8::1]"]
HOSTILE = [
    # Another host, dressed up as ours.
    "https://shop.example.evil.example/",
    "https://evil-shop.example/",
    "https://shop.examples/",
    "https://shop.exampl/",
    "https://www.shop.example/",
    "https://evil.example/https://shop.example/",
    "https://evil.example?https://shop.example/",
    "https://evil.example#https://shop.example/",
    "https://shop.example./",
    "https://shop.example../",
    "https://.shop.example/",
    "https://shop%2Eexample/",
    "https://shop.example%2F.evil.example/",
    "https://%73hop.example/",
    # Somebody who logs in.
    "https://shop.example@evil.example/",
    "https://shop.example:443@evil.example/",
    "https://user@shop.example/",
    "https://user:password@shop.example/",
    "https://@shop.example/",
    "https://evil.example\\@shop.example/",
    # What a browser mends.
    "https://evil.example\\.shop.example/",
    "https:\\\\shop.example\\",
    "https://shop.example\\",
    "ht\ttps://shop.example/",
    "https://shop.\texample/",
    "https://shop.exam\nple/",
    "https://shop.example/\r\nLocation: https://evil.example/",
    "https://shop.example/\x00",
    "https://shop.example\x00.evil.example/",
    "https://shop.example/a b",
    "https://shop.example /",
    "https://\u00a0shop.example/",
    "\u200bhttps://shop.example/",
    "https://shop.example\u200b/",
    "https://shop.example/caf\u00e9",
    "https:/shop.example/",
    "https:///shop.example/",
    "https:////shop.example/",
    "https:shop.example/",
    "https://",
    "https:",
    "https:///",
    # Look-alikes: Cyrillic letters, full-width ones, other dots, their encoded forms.
    "https://sh\u043ep.example/",
    "https://xn--shp-emd.example/",
    "https://\uff53hop.example/",
    "https://shop\u3002example/",
    "https://shop\uff0eexample/",
    "https://b\u00fccher.example:8443/",
    "https://xn--bcher-kva.example/",
    # Other schemes and ports.
    "http://shop.example/",
    "http://shop.example:443/",
    "https://shop.example:8443/",
    "https://shop.example:80/",
    "https://shop.example:443.evil.example/",
    "https://shop.example:evil/",
    "https://shop.example:-443/",
    "https://shop.example:99999/",
    "https://shop.example:\u0664\u0664\u0663/",
    "javascript:alert(1)//https://shop.example/",
    "javascript://shop.example/%0Aalert(1)",
    "data:text/html,https://shop.example/",
    "ftp://shop.example/",
    "file://shop.example/etc/passwd",
    "blob:https://shop.example/",
    "view-source:https://shop.example/",
    "wss://shop.example/",
    # Without a scheme, or without a host.
    "//shop.example/",
    "///shop.example/",
    "/thanks",
    "thanks",
    "shop.example",
    "shop.example:443/",
    "?return=https://shop.example/",
    "null",
    "*",
    # Addresses.
    "https://[::1]/",
    "http://[2001:db8::2]/",
    "http://2001:db8::1/",
    "http://[2001:db8::1/",
    "http://[2001:db8::1]evil.example/",
    "https://[shop.example]/",
    "https://127.0.0.1/",
    "https://2130706433/",
    "https://shop.example/" + "a" * 2000,
]
SAME_SITE = [
    "https://shop.example",
    "https://shop.example/",
    "https://shop.example/thanks?a=1&b=%C3%A9#part",
    "https://SHOP.Example/",
    "HTTPS://shop.example/",
    "https://shop.example:443/",
    "https://shop.example:/",
    "https://shop.example/@evil.example",
    "https://shop.example/?next=https://evil.example/",
    "https://xn--bcher-kva.example:8443/",
    "http://[2001:db8::1]/",
    "http://[2001:DB8::1]:80/",
]


@pytest.fixture(scope="module")
def sandbox():
    with running_sandbox(accounts=[ACCOUNT_ID]) as sandbox:
        yield sandbox


@pytest.fixture
def start(publishable_key, tenant, account, plan, settings, sandbox):
    """Start a checkout that comes back to the URL."""
    settings.STRIPE_SECRET_KEY = KEY
    settings.STRIPE_API_BASE = sandbox.url
    tenant.allowed_origins = ORIGINS
    tenant.save()

    def start(return_url):
        return Client().post(
            "/api/checkout/sessions",
            {"plan": str(plan.id), "return_url": return_url},
            content_type="application/json",
            headers={"Authorization": f"Bearer {publishable_key}"},
        )

    return start


def way_back(sandbox):
    """The success URL at Stripe, the token in it left out."""
    session = Checkout.objects.get().stripe_session_id
    headers = {"Authorization": f"Bearer {KEY}", "Stripe-Account": ACCOUNT_ID}
    answer = sandbox.request("GET", f"/v1/checkout/sessions/{session}", **headers)[2]
    parts = urlsplit(json.loads(answer)["success_url"])
    before, token = re.fullmatch(r"(.*)allegro_purchase_token=([\w-]+)", parts.query).groups()
    assert sha256(token) == Checkout.objects.get().token_sha256
    return parts._replace(query=before).geturl()


@pytest.mark.parametrize("url", HOSTILE)
def test_any_other_site_is_refused(start, url):
    answer = start(url)

    assert answer.status_code == 400
    # The latter where the text itself is refused: it is too long, or has a NUL.
    assert answer.json()["error"]["type"] in ("invalid_return_url", "invalid_request")
    assert not Checkout.objects.exists()


@pytest.mark.parametrize("url", SAME_SITE)
def test_another_spelling_of_the_same_site_is_allowed(start, url):
    answer = start(url)

    assert answer.status_code == 201
    assert Checkout.objects.get().return_url == url


def test_blanks_around_it_are_not_part_of_it(start):
    start(" https://shop.example/a \n")

    assert Checkout.objects.get().return_url == "https://shop.example/a"


def test_a_tenant_without_origins_has_only_our_own_page(start, tenant):
    tenant.allowed_origins = []
    tenant.save()

    assert start("https://shop.example/").status_code == 400
    assert start("").status_code == 400


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example/a?b=1", "https://shop.example/a?b=1&"),
        ("https://shop.example/a#b?c", "https://shop.example/a#b?c"),
        ("https://shop.example/?a=%20+x&&a=&b", "https://shop.example/?a=%20+x&a=&b&"),
        ("https://shop.example/?allegro_purchase_token=old", "https://shop.example/"),
        (
            "https://shop.example/?a=1&allegro_purchase_token=old&b=2&allegro_purchase_canceled=1",
            "https://shop.example/?a=1&b=2&",
        ),
        ("https://shop.example/?allegro_purchase_token", "https://shop.example/"),
        (
            "https://shop.example/?my_allegro_purchase_token=x#f",
            "https://shop.example/?my_allegro_purchase_token=x&#f",
        ),
    ],
)
def test_the_page_comes_back_as_it_was_with_one_token(start, sandbox, url, expected):
    start(url)

    assert way_back(sandbox) == expected


# --- the list of a tenant


@pytest.mark.parametrize("origins", [[], ORIGINS, ["http://localhost:3000"], ["http://127.0.0.1"]])
def test_exact_origins_are_accepted(tenant, origins):
    tenant.allowed_origins = origins

    tenant.full_clean()


@pytest.mark.parametrize(
    ("origins", "message"),
    [
        (["https://shop.example/"], "did you mean https://shop.example?"),
        (["https://Shop.Example"], "did you mean https://shop.example?"),
        (["https://shop.example:443"], "did you mean https://shop.example?"),
        (["http://shop.example:80/a?b#c"], "did you mean http://shop.example?"),
        (["shop.example"], "'shop.example' is no origin, such as https://shop.example"),
        (["https://*.shop.example"], "is no origin, such as"),
        (["*"], "'*' is no origin, such as"),
        (["null"], "'null' is no origin, such as"),
        (["https://b\u00fccher.example"], "is no origin, such as"),
        (["https://user@shop.example"], "is no origin, such as"),
        (["https://shop.example", ""], "'' is no origin, such as"),
        ([None], "None is no origin, such as"),
        ([["https://shop.example"]], "is no origin, such as"),
        ("https://shop.example", 'Write a list, such as ["https://shop.example"]'),
        ({"https://shop.example": 1}, "Write a list"),
    ],
)
def test_what_is_no_exact_origin_is_named_with_what_to_write(tenant, origins, message):
    tenant.allowed_origins = origins

    with pytest.raises(ValidationError) as refusal:
        tenant.full_clean()

    assert message in refusal.value.message_dict["allowed_origins"][0]
