"""Signed events without Stripe, for `manage.py simulate`."""

import copy
import hashlib
import hmac
import json
import secrets
import time
import urllib.error
import urllib.request
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from fulfillment.models import Checkout
from purchases import catalog
from purchases.models import Plan
from tenants.keys import sha256
from tenants.models import PaymentAccount, Tenant

Payload = dict[str, Any]


def open_checkout(tenant: Tenant, plan: Plan, account: PaymentAccount, *, token: str) -> Checkout:
    """A checkout of the plan whose session exists nowhere but here."""
    return Checkout.objects.create(
        tenant=tenant,
        plan=plan,
        snapshot=catalog.snapshot_of_plan(plan),
        account_id=account.stripe_account_id,
        livemode=account.livemode,
        stripe_session_id=f"cs_test_simulated{secrets.token_hex(20)}",
        token_sha256=sha256(token),
        expires_at=timezone.now() + timedelta(hours=24),
    )


def session_of(checkout: Checkout, *, email: str, payment_status: str) -> Payload:
    """The Checkout Session as Stripe shows it once its buyer has come through."""
    return {
        "id": checkout.stripe_session_id,
        "object": "checkout.session",
        "amount_subtotal": checkout.snapshot["amount"],
        "amount_total": checkout.snapshot["amount"],
        "client_reference_id": str(checkout.id),
        "created": int(time.time()),
        "currency": checkout.snapshot["currency"],
        "customer_details": {"email": email, "name": "Simulated Buyer"},
        "expires_at": int(checkout.expires_at.timestamp()),
        "livemode": checkout.livemode,
        "metadata": {
            "tenant_id": str(checkout.tenant_id),
            "checkout_id": str(checkout.id),
            "plan_id": checkout.snapshot["plan"],
        },
        "mode": "payment",
        "payment_intent": f"pi_simulated{secrets.token_hex(12)}",
        "payment_status": payment_status,
        "status": "complete",
    }


def event_about(session: Payload, kind: str, *, account_id: str) -> Payload:
    """An event of a connected account about the session as it is now."""
    return {
        "id": f"evt_simulated{secrets.token_hex(12)}",
        "object": "event",
        "account": account_id,
        "api_version": settings.STRIPE_API_VERSION,
        "created": int(time.time()),
        "data": {"object": copy.deepcopy(session)},
        "livemode": session["livemode"],
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }


def deliver(event: Payload, *, url: str, secret: str) -> int:
    """Post the event as Stripe does, signed at this moment; returns the answer's status."""
    body = json.dumps(event, indent=2).encode()
    now = int(time.time())
    signature = hmac.new(secret.encode(), b"%d.%s" % (now, body), hashlib.sha256).hexdigest()
    request = urllib.request.Request(  # noqa: S310  (the developer's own server)
        url,
        body,
        {"Content-Type": "application/json", "Stripe-Signature": f"t={now},v1={signature}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            status: int = response.status
    except urllib.error.HTTPError as error:
        status = error.code
    return status
