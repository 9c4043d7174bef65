"""The description of the API against the API itself: odd calls by the hundred, none unforeseen."""

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, settings
from rest_framework.settings import api_settings
from schemathesis.specs.openapi import checks as conformance

from purchases.models import Purchase, PurchaseEvent
from tenants import tokens
from tenants.keys import create_key
from tenants.models import ApiKey
from tenants.throttling import ClientThrottle
from tests.conftest import ACCOUNT_ID, TOKEN
from tests.sandbox_server import KEY, running_sandbox

EXAMPLES = 20
CHECKS = [
    schemathesis.checks.not_a_server_error,
    conformance.status_code_conformance,
    conformance.content_type_conformance,
    conformance.response_schema_conformance,
]
schema = schemathesis.openapi.from_wsgi("/api/schema", get_wsgi_application())


@pytest.fixture(scope="module")
def stripe():
    with running_sandbox(accounts=[ACCOUNT_ID]) as sandbox:
        yield sandbox


@pytest.fixture
def kept_connection(world):
    """Requests must not close the connection that holds the test's transaction.

    After what uses the test client, which connects the signals anew.
    """
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def world(
    stripe,
    settings,
    monkeypatch,
    deliver,
    tenant,
    checkout,
    paid_event,
    plan,
    package,
):
    """What calls may name, and the credentials: a tenant that sold something."""
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = KEY, stripe.url
    monkeypatch.setattr(
        ClientThrottle, "THROTTLE_RATES", dict.fromkeys(api_settings.DEFAULT_THROTTLE_RATES)
    )
    tenant.allowed_origins = ["https://shop.example"]
    tenant.save()
    deliver(paid_event)
    purchase = Purchase.objects.get()
    refresh_token = tokens.new_refresh_token()
    session = tokens.open_session(
        purchase.member,
        authenticated=True,
        purchase_id=purchase.id,
        refresh_token=refresh_token,
    )
    return {
        "secretKey": create_key(tenant, ApiKey.Kind.SECRET),
        "publishableKey": create_key(tenant, ApiKey.Kind.PUBLISHABLE),
        "memberToken": tokens.issue_jwt(session, products=[])[0],
        "member": str(purchase.member_id),
        "email": purchase.member.email,
        "plan": str(plan.id),
        "product": "archive",
        "package": package.key,
        "token": TOKEN,
        "refresh_token": refresh_token,
        "return_url": "https://shop.example/thanks",
        "success_url": "https://acme.example/done",
        "cancel_url": "https://acme.example/",
        "after": str(PurchaseEvent.objects.first().id),
        "id": str(purchase.id),
    }


def made_real(fields, world):
    """About every other of the names that were made up, replaced by one that exists."""
    return {
        name: world.get(name, value) if len(str(value)) % 2 else value
        for name, value in fields.items()
    }


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_each_answer_is_as_described(case, world, kept_connection):
    requirements = case.operation.definition.raw.get("security", ())
    schemes = [scheme for requirement in requirements for scheme in requirement]
    headers = {"Authorization": f"Bearer {world[schemes[0]]}"} if schemes else {}
    for part in ("path_parameters", "query", "body"):
        if isinstance(fields := getattr(case, part), dict):
            setattr(case, part, made_real(fields, world))

    case.call_and_validate(headers=headers, checks=CHECKS)
