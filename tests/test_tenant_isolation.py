"""One tenant's key in front of another tenant's things: each call of the API, made from the URLs.

Whatever A has answers B as if it did not exist, byte for byte, and no row of any table changes.
"""

import json
import re
import uuid
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest
from django.apps import apps
from django.core.cache import cache
from django.urls import get_resolver
from django.utils import timezone

from purchases.granting import grant
from purchases.models import (
    NotificationDelivery,
    NotificationEndpoint,
    Purchase,
    PurchaseEvent,
)
from tenants import tokens
from tenants.keys import create_key
from tenants.models import ApiKey, Member
from tests.conftest import TOKEN, VERIFIER

EMAIL, EXTERNAL_ID = "member@example.com", "crm-of-acme"
PUBLIC = {"api/webhooks/stripe/?", "api/schema", "api/docs"}
# Of what does not exist, in the same form.
ABSENT = {
    "member": "00000000-0000-4000-8000-000000000001",
    "purchase": "00000000-0000-4000-8000-000000000002",
    "entitlement": "00000000-0000-4000-8000-000000000003",
    "granted": "00000000-0000-4000-8000-000000000004",
    "plan": "00000000-0000-4000-8000-000000000005",
    "endpoint": "00000000-0000-4000-8000-000000000006",
    "delivery": "00000000-0000-4000-8000-000000000007",
    "event": 999_999_999,
    "product": "absent",
    "email": "absent@example.com",
    "external_id": "absent",
    "checkout_session": "cs_absent",
    "payment_intent": "pi_absent",
    "token": "absent",
}


@dataclass(frozen=True)
class Call:
    """A way of naming A's things; words in braces are replaced by its ids, or by absent ones."""

    method: str = "GET"
    query: dict = field(default_factory=dict)
    body: dict | None = None
    headers: dict = field(default_factory=dict)
    key: str = "secret"


def get(**query):
    return Call(query=query)


WRITTEN_AND_READ = ("get", "post", "put", "patch", "delete")
MEMBER, SITE = "member", "publishable"
SPEND = {"Idempotency-Key": "order-1"}
CALLS = {
    "api/checkout/sessions": [Call("POST", body={"plan": "{plan}"}, key=SITE)],
    "api/purchases/exchange": [
        Call("POST", body={"token": "{token}", "verifier": VERIFIER}, key=SITE)
    ],
    "api/entitlements": [Call(key=MEMBER)],
    "api/purchases": [Call(key=MEMBER)],
    "api/credits": [Call(key=MEMBER)],
    # The token in the body is all that it asks for; A's own would be A signing in.
    "api/members/token/refresh": [],
    "api/v1/audience-members": [
        get(include="entitlements,purchases"),
        get(email="{email}"),
        get(external_id="{external_id}"),
        get(product="{product}"),
    ],
    "api/v1/audience-members/<str:id>": [get(id="{member}", include="entitlements,purchases")],
    "api/v1/purchases": [
        get(),
        get(member="{member}"),
        get(plan="{plan}"),
        get(checkout_session="{checkout_session}"),
        get(payment_intent="{payment_intent}"),
    ],
    "api/v1/purchases/<str:id>": [get(id="{purchase}")],
    "api/v1/entitlements": [
        get(),
        get(member="{member}"),
        get(product="{product}"),
        Call("POST", body={"member": "{member}", "product": "own", "reason": "theft"}),
        Call("POST", body={"email": "thief@example.com", "product": "{product}", "reason": "x"}),
    ],
    "api/v1/entitlements/<str:id>": [
        Call("DELETE", query={"id": "{entitlement}"}),
        Call("DELETE", query={"id": "{granted}", "reason": "theft"}),
    ],
    "api/v1/access": [
        get(member="{member}", product="own"),
        get(email="{email}", product="own"),
        get(external_id="{external_id}", product="own"),
        get(member="{own_member}", product="{product}"),
    ],
    "api/v1/products": [get()],
    "api/v1/plans": [get()],
    "api/v1/events": [get(), get(after="{event}")],
    "api/v1/credit-packages": [get()],
    "api/v1/credits": [get(), get(member="{member}")],
    "api/v1/credits/entries": [get(), get(member="{member}")],
    "api/v1/credits/spend": [
        Call("POST", body={"amount": 1, "member": "{member}"}, headers=SPEND),
        # A's idempotency key is nothing to B.
        Call("POST", body={"amount": 1}, headers={"Idempotency-Key": "order-of-acme"}),
    ],
    "api/v1/credits/checkout": [
        Call("POST", body={"package": "absent", "success_url": "x", "cancel_url": "x"})
    ],
    # What is added is one's own.
    "api/v1/notification-endpoints": [get(), Call("POST", body={"url": "http://x"})],
    "api/v1/notification-endpoints/<str:id>": [
        get(id="{endpoint}"),
        Call("DELETE", query={"id": "{endpoint}"}),
    ],
    "api/v1/notification-endpoints/<str:id>/rotate-secret": [
        Call("POST", query={"id": "{endpoint}"})
    ],
    "api/v1/notification-endpoints/<str:id>/enable": [Call("POST", query={"id": "{endpoint}"})],
    "api/v1/notification-endpoints/<str:id>/deliveries": [get(id="{endpoint}")],
    "api/v1/notification-deliveries/<str:id>/redeliver": [Call("POST", query={"id": "{delivery}"})],
}


def routes():
    """Each route below /api/ as the URL configuration has it."""
    patterns = [str(pattern.pattern) for pattern in get_resolver().url_patterns]
    return {text.strip("^$") for text in patterns if text.strip("^").startswith("api/")}


def methods_of(route):
    view = next(p.callback for p in get_resolver().url_patterns if str(p.pattern) == route)
    return {name.upper() for name in WRITTEN_AND_READ if hasattr(view.view_class, name)}


cases = pytest.mark.parametrize(
    ("route", "call"),
    [
        pytest.param(route, call, id=f"{call.method} {route} {call.query or call.body or ''}")
        for route, calls in CALLS.items()
        for call in calls
    ],
)


def test_each_route_is_tried():
    assert routes() - PUBLIC == set(CALLS)


@pytest.mark.parametrize("route", [route for route, calls in CALLS.items() if calls])
def test_each_method_is_tried(route):
    assert methods_of(route) == {call.method for call in CALLS[route]}


@pytest.fixture
def acmes(deliver, checkout, paid_event, plan):
    """The ids of what tenant A has: a member who bought, was given and spent something."""
    plan.credits = 10
    plan.save()
    checkout.snapshot["credits"] = 10
    checkout.save()
    deliver(paid_event)
    purchase = Purchase.objects.get()
    member = purchase.member
    member.external_id = EXTERNAL_ID
    member.save()
    granted = grant(
        member,
        plan.products.first(),
        starts_at=timezone.now(),
        ends_at=None,
        reason="by hand",
    )
    endpoint = NotificationEndpoint.objects.create(
        tenant=member.tenant, url="https://acme.example/hook", secret_encrypted=b""
    )
    delivery = NotificationDelivery.objects.create(
        endpoint=endpoint, event=PurchaseEvent.objects.first()
    )
    return {
        "endpoint": str(endpoint.id),
        "delivery": str(delivery.id),
        "member": str(member.id),
        "purchase": str(purchase.id),
        "entitlement": str(purchase.entitlements.first().id),
        "granted": str(granted.id),
        "plan": str(plan.id),
        "event": PurchaseEvent.objects.first().id,
        "product": "archive",
        "email": EMAIL,
        "external_id": EXTERNAL_ID,
        "checkout_session": purchase.checkout_session_id,
        "payment_intent": purchase.payment_intent_id,
        "token": TOKEN,
    }


@pytest.fixture
def rival(other_account):
    """Tenant B, with a member and a product of its own."""
    tenant = other_account.tenant
    tenant.products.create(slug="own", name="Own")
    return tenant


@pytest.fixture
def credentials(rival):
    """What B's server, B's site and B's member show."""
    member = Member.objects.create(tenant=rival, email="reader@rival.example")
    session = tokens.open_session(
        member,
        authenticated=True,
        purchase_id=uuid.uuid4(),
        refresh_token=tokens.new_refresh_token(),
    )
    return {
        "secret": create_key(rival, ApiKey.Kind.SECRET),
        SITE: create_key(rival, ApiKey.Kind.PUBLISHABLE),
        MEMBER: tokens.issue_jwt(session, products=[])[0],
    }


@pytest.fixture
def ask(client, rival, credentials):
    """Make a call with these ids in its blanks; the answer without what differs each time."""
    cache.clear()

    def ask(route, call, ids):
        ids = {**ids, "own_member": str(rival.members.get().id)}
        query = {name: value.format(**ids) for name, value in call.query.items()}
        path = re.sub("<str:(id)>", lambda found: query.pop(found[1]), route)
        body = call.body and {
            name: value.format(**ids) if isinstance(value, str) else value
            for name, value in call.body.items()
        }
        answer = client.generic(
            call.method,
            f"/{path}?{urlencode(query)}",
            json.dumps(body) if body else "",
            content_type="application/json" if body else "",
            headers={"Authorization": f"Bearer {credentials[call.key]}", **call.headers},
        )
        data = answer.json() if answer.content else {}
        if "error" in data:
            del data["meta"]
        return answer.status_code, data

    return ask


def everything():
    """Each row of each table."""
    return {
        model: list(model.objects.order_by("pk").values())
        for model in apps.get_models(include_auto_created=True)
    }


@cases
def test_what_is_anothers_is_as_if_it_did_not_exist(route, call, ask, acmes):
    absent = ask(route, call, ABSENT)
    before = everything()

    answer = ask(route, call, acmes)

    assert answer == absent
    assert everything() == before
    text = json.dumps(answer)
    assert [name for name, value in acmes.items() if f'"{value}"' in text] == []


def test_the_same_calls_reach_what_is_ones_own(ask, acmes, credentials, tenant):
    """Otherwise an answer that is always 404 would pass for isolation."""
    credentials["secret"] = create_key(tenant, ApiKey.Kind.SECRET)
    statuses = {
        (route, ask(route, call, {**acmes, "own_member": acmes["member"]})[0])
        for route, calls in CALLS.items()
        for call in calls
        if call.method == "GET" and call.key == "secret" and "own" not in str(call.query)
    }

    assert {status for _, status in statuses} == {200}
