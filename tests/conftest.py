"""The world the tests play in: nouns with fixed values, and one verb, `deliver`."""

import copy
import hashlib
import hmac
import json
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from fulfillment.models import Checkout, StripeEvent
from purchases import catalog
from purchases.models import CreditPackage, Offer, Plan, Product
from tenants.keys import create_key, sha256
from tenants.models import ApiKey, PaymentAccount, Tenant

if connection.vendor != "postgresql":
    collect_ignore = ["test_faults_on_postgresql.py"]

EVENTS = Path(__file__).parent / "stripe_events"
TENANT_ID = "550e8400-e29b-41d4-a716-446655440000"
ACCOUNT_ID = "acct_1QTenantAAA0001x"
OTHER_ACCOUNT_ID = "acct_1QTenantBBB0002x"
TOKEN = "token-that-stripe-hands-back"
VERIFIER = "verifier-that-the-browser-keeps"


def stripe_event(name):
    """A real event by the name of its file, such as `checkout.session.completed.paid`."""
    return json.loads((EVENTS / f"{name}.json").read_text())


def sign(body, *, secret=None, timestamp=None):
    """The `Stripe-Signature` header that Stripe would send with the body."""
    timestamp = int(time.time()) if timestamp is None else timestamp
    secret = settings.STRIPE_WEBHOOK_SECRET if secret is None else secret
    digest = hmac.new(secret.encode(), b"%d.%s" % (timestamp, body), hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def changed(event, *, event_id=None, account=None, **fields):
    """A copy of an event with other values in its envelope or its object."""
    event = copy.deepcopy(event)
    event["id"] = event_id or event["id"]
    if account is not None:
        event["account"] = account
    event["data"]["object"].update(fields)
    return event


@pytest.fixture(autouse=True)
def spool_folder(settings, tmp_path):
    """Where this test's own process spools; empty at first."""
    settings.WEBHOOK_SPOOL_DIR = str(tmp_path / "spool")
    return tmp_path / "spool"


@pytest.fixture
def deliver(client, db):
    """Sign an event (or raw bytes) as Stripe does and post it to the webhook."""

    def deliver(event, *, secret=None, timestamp=None, **headers):
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        return client.post(
            "/api/webhooks/stripe",
            body,
            content_type="application/json",
            headers={
                "Stripe-Signature": sign(body, secret=secret, timestamp=timestamp),
                **headers,
            },
        )

    return deliver


@pytest.fixture
def recorded(db):
    """The record of an event as `(status, outcome)`."""

    def recorded(event):
        record = StripeEvent.objects.get(pk=event["id"])
        return str(record.status), record.outcome

    return recorded


@pytest.fixture
def tenant(db):
    return Tenant.objects.create(id=TENANT_ID, slug="acme", name="Acme Weekly")


@pytest.fixture
def account(tenant):
    return PaymentAccount.objects.create(
        tenant=tenant, stripe_account_id=ACCOUNT_ID, livemode=False, charges_enabled=True
    )


@pytest.fixture
def other_account(db):
    """An account of another tenant."""
    tenant = Tenant.objects.create(slug="rival", name="Rival Daily")
    return PaymentAccount.objects.create(
        tenant=tenant, stripe_account_id=OTHER_ACCOUNT_ID, livemode=False
    )


@pytest.fixture
def plan(tenant):
    """Two products for a month at 250.00 EUR, the price in the real events."""
    offer = Offer.objects.create(tenant=tenant, slug="membership", name="Membership")
    plan = Plan.objects.create(
        offer=offer, name="Monthly", amount=25000, currency="eur", duration="P1M"
    )
    for slug in ("archive", "newsletter"):
        plan.products.add(Product.objects.create(tenant=tenant, slug=slug, name=slug.title()))
    return plan


@pytest.fixture
def package(db):
    return CreditPackage.objects.create(key="10_credits", credits=10, amount=25000, currency="eur")


@pytest.fixture
def open_checkout(tenant, account, plan):
    """Open a checkout of the plan, as if its session had been made at Stripe."""

    def open_checkout(session_id, **fields):
        token = fields.pop("token", f"token of {session_id}")
        return Checkout.objects.create(
            **{
                "tenant": tenant,
                "plan": plan,
                "snapshot": catalog.snapshot_of_plan(plan),
                "account_id": account.stripe_account_id,
                "livemode": False,
                "stripe_session_id": session_id,
                "token_sha256": sha256(token),
                "verifier_sha256": sha256(VERIFIER),
                "return_url": "https://shop.example/thanks",
                "expires_at": timezone.now() + timedelta(hours=24),
                **fields,
            }
        )

    return open_checkout


@pytest.fixture
def paid_event():
    return stripe_event("checkout.session.completed.paid")


@pytest.fixture
def checkout(open_checkout, paid_event):
    """The checkout that `paid_event` completes."""
    return open_checkout(paid_event["data"]["object"]["id"], token=TOKEN)


@pytest.fixture
def publishable_key(tenant):
    return create_key(tenant, ApiKey.Kind.PUBLISHABLE)


@pytest.fixture
def secret_key(tenant):
    return create_key(tenant, ApiKey.Kind.SECRET)


@pytest.fixture
def exchange(client, publishable_key):
    def exchange(token=TOKEN, verifier=VERIFIER):
        return client.post(
            "/api/purchases/exchange",
            {"token": token, "verifier": verifier},
            content_type="application/json",
            headers={"Authorization": f"Bearer {publishable_key}"},
        )

    return exchange


@pytest.fixture
def signed_in(exchange, deliver, checkout, paid_event):
    """The answer to the browser that came back from a payment."""
    deliver(paid_event)
    return exchange().json()


@pytest.fixture
def refresh(client, db):
    def refresh(token):
        return client.post(
            "/api/members/token/refresh", {"refresh_token": token}, content_type="application/json"
        )

    return refresh


@pytest.fixture(scope="session")
def running_allegro(django_db_setup, tmp_path_factory):
    """One server for the whole run: it takes longer to start than most of its tests take."""
    from tests.server import running_server

    spool = tmp_path_factory.mktemp("spool-of-the-server")
    with running_server(threads=8, env={"WEBHOOK_SPOOL_DIR": str(spool)}) as server:
        yield server, spool


@pytest.fixture
def allegro(running_allegro, transactional_db):
    """The production server with the settings of the tests, on their database."""
    return running_allegro[0]


@pytest.fixture
def delivery(allegro):
    """A call that posts an event to the running server."""
    from tests.server import post

    def delivery(event):
        body = json.dumps(event).encode()
        headers = {"Stripe-Signature": sign(body), "Content-Type": "application/json"}
        return lambda: post(f"{allegro.url}/api/webhooks/stripe", body, headers)

    return delivery


@pytest.fixture
def drain(running_allegro, settings):
    """Take in what a busy machine could not within the time that Stripe waits."""

    from fulfillment import spool

    def drain():
        settings.WEBHOOK_SPOOL_DIR = str(running_allegro[1])
        spool.drain()

    return drain


IMPATIENCE = {"sqlite": "PRAGMA busy_timeout = 100", "postgresql": "SET lock_timeout = 100"}
LOCK = {
    "sqlite": ["BEGIN EXCLUSIVE"],
    "postgresql": ["BEGIN", "LOCK TABLE fulfillment_stripeevent"],
}


@pytest.fixture
def lock(transactional_db):
    """Another session's lock on the inbox, which lasts longer than a delivery waits for it."""
    with connection.cursor() as cursor:
        cursor.execute(IMPATIENCE[connection.vendor])
    rival = connection.copy()
    with rival.cursor() as cursor:
        for statement in LOCK[connection.vendor]:
            cursor.execute(statement)
    yield rival
    rival.close()
    connection.close()


def inbox_failing(at, error):
    """While it lasts, storing an event that has this id or account ends in the error."""

    def execute(run, sql, params, *rest):
        if sql.startswith('INSERT INTO "fulfillment_stripeevent"') and at in params:
            raise error
        return run(sql, params, *rest)

    return connection.execute_wrapper(execute)


@pytest.fixture(scope="module")
def running_deployment(request, django_db_setup, django_db_blocker):
    """Server and worker for faults, in always_200 unless the test says which mode.

    One for all tests of a module: it takes longer to start than most of the tests take.
    """
    from tests.deployment import deployed

    mode = getattr(request, "param", "always_200")
    with django_db_blocker.unblock(), deployed(mode) as deployment:
        yield deployment


@pytest.fixture
def deployment(running_deployment, settings):
    """Server and worker as they run; a command in the test sees the same Stripe and spool."""
    from tests.sandbox_server import KEY

    settings.STRIPE_API_BASE, settings.STRIPE_SECRET_KEY = running_deployment.sandbox.url, KEY
    settings.WEBHOOK_SPOOL_DIR = str(running_deployment.spool)
    return running_deployment
