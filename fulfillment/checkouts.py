"""A member wants to buy a plan: open a Checkout Session on the tenant's account."""

import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from fulfillment import errors, gateway, return_urls
from fulfillment.models import Checkout
from purchases import catalog
from purchases.ledger import lock_owner
from purchases.models import CreditPackage, Plan, Purchase
from purchases.settling import settle
from tenants.keys import sha256
from tenants.models import Member, PaymentAccount, Tenant
from tenants.origins import origin_of

# How long Stripe keeps a session open when nothing else is asked for.
SESSION_LIFETIME = timedelta(hours=24)
# Stripe puts the session's id in its place when it sends the buyer back.
SESSION_ID = "{CHECKOUT_SESSION_ID}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a browser asks for. The verifier itself stays there; this is its hash, or blank."""

    plan_id: uuid.UUID
    return_url: str
    email: str
    verifier_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A checkout that is open until `expires_at` (UTC), at `url`."""

    id: uuid.UUID
    url: str
    expires_at: datetime


def open_checkout(tenant: Tenant, order: Order, *, member: Member | None) -> Opened:
    """Open a checkout for the member, who is None where nobody is signed in.

    What is agreed on is committed before Stripe is called, so that a payment finds its checkout
    whatever becomes of that call. Raises one of `errors`.
    """
    plan = Plan.objects.filter(id=order.plan_id, offer__tenant=tenant, is_active=True).first()
    if plan is None:
        raise errors.PlanNotFound
    if order.return_url and not return_urls.is_allowed(order.return_url, tenant):
        raise errors.InvalidReturnUrl
    token = secrets.token_urlsafe(32)
    checkout = Checkout(
        tenant=tenant,
        member=member,
        plan=plan,
        snapshot=catalog.snapshot_of_plan(plan),
        livemode=settings.STRIPE_LIVEMODE,
        token_sha256=sha256(token),
        verifier_sha256=order.verifier_sha256,
        return_url=order.return_url or tenant.default_return_url or hosted_return_page(tenant),
        expires_at=timezone.now() + SESSION_LIFETIME,
    )
    if plan.amount == 0:
        _complete_free(checkout)
        url = return_urls.with_parameter(checkout.return_url, return_urls.TOKEN, token)
    else:
        url = _open_session(checkout, token, email=member.email if member else order.email)
    return Opened(id=checkout.id, url=url, expires_at=checkout.expires_at)


def hosted_return_page(tenant: Tenant) -> str:
    return f"{settings.ALLEGRO_URL}/purchase/return?tenant={tenant.slug}"


def _open_session(checkout: Checkout, token: str, *, email: str | None) -> str:
    """Of a direct charge: the session lives on the tenant's account and pays the tenant."""
    checkout.account_id = _account_of(checkout.tenant).stripe_account_id
    metadata = {
        "tenant_id": str(checkout.tenant_id),
        "checkout_id": str(checkout.id),
        "plan_id": str(checkout.plan_id),
    }
    if checkout.member_id:
        metadata["member_id"] = str(checkout.member_id)
    buyer = {"customer_email": email} if email else {}
    return _pay(
        checkout,
        metadata,
        success_url=return_urls.with_parameter(checkout.return_url, return_urls.TOKEN, token),
        cancel_url=return_urls.with_parameter(checkout.return_url, return_urls.CANCELED, "1"),
        **buyer,
    )


def _account_of(tenant: Tenant) -> PaymentAccount:
    account = tenant.active_account
    if account is None:
        raise errors.NotConnected
    if not account.charges_enabled:
        raise errors.ChargesDisabled
    return account


def _pay(checkout: Checkout, metadata: dict[str, str], **parameters: str) -> str:
    """Open the session that takes the checkout's price; returns its address.

    The checkout is committed first, so that a payment finds it whatever becomes of the call.
    """
    checkout.save(force_insert=True)
    price = {
        "currency": checkout.snapshot["currency"],
        "unit_amount": checkout.snapshot["amount"],
        "product_data": {"name": checkout.snapshot["name"]},
    }
    session = gateway.create_session(
        {
            "mode": "payment",
            "line_items": [{"quantity": 1, "price_data": price}],
            "client_reference_id": str(checkout.id),
            # On both: Stripe copies neither to the other, and charges get the PaymentIntent's.
            "metadata": metadata,
            "payment_intent_data": {"metadata": metadata},
            **parameters,
        },
        account_id=checkout.account_id,
        idempotency_key=str(checkout.id),
    )
    checkout.stripe_session_id = session.id
    checkout.expires_at = session.expires_at
    checkout.save(update_fields=["stripe_session_id", "expires_at"])
    return session.url


@transaction.atomic
def _complete_free(checkout: Checkout) -> None:
    """A plan without a price needs no Stripe, but a member, who can't have it twice at a time."""
    if checkout.member is None:
        raise errors.MemberRequired
    lock_owner(checkout.tenant, checkout.member)
    claimed = Purchase.objects.filter(
        member=checkout.member, plan=checkout.plan, status=Purchase.Status.PAID
    )
    # A period that is still to begin counts too, and of credits alone there is no period to end.
    if claimed.exclude(entitlements__ends_at__lte=timezone.now()).exists():
        raise errors.AlreadyClaimed
    purchase = Purchase(
        tenant=checkout.tenant,
        member=checkout.member,
        plan=checkout.plan,
        snapshot=checkout.snapshot,
        livemode=checkout.livemode,
        amount_subtotal=0,
        amount_total=0,
        currency=checkout.snapshot["currency"],
        payment_status=Purchase.PaymentStatus.FREE,
    )
    settle(purchase, channel=Purchase.Channel.CHECKOUT)
    checkout.purchase = purchase
    checkout.status = Checkout.Status.COMPLETE
    checkout.save(force_insert=True)


def open_package_checkout(
    tenant: Tenant, package_key: str, *, success_url: str, cancel_url: str
) -> str:
    """Where the tenant pays the platform for a credit package; raises one of `errors`."""
    package = CreditPackage.objects.filter(key=package_key, is_active=True).first()
    if package is None:
        raise errors.PackageNotFound
    if None in (origin_of(success_url.replace(SESSION_ID, "")), origin_of(cancel_url)):
        raise errors.InvalidCheckoutUrl
    checkout = Checkout(
        tenant=tenant,
        package=package,
        snapshot=catalog.snapshot_of_package(package),
        livemode=settings.STRIPE_LIVEMODE,
        # Nobody comes back with it: what a tenant bought is on its balance.
        token_sha256=sha256(secrets.token_urlsafe(32)),
        return_url=success_url,
        expires_at=timezone.now() + SESSION_LIFETIME,
    )
    metadata = {
        "tenant_id": str(tenant.id),
        "package": package.key,
        "credits": str(package.credits),
        "checkout_id": str(checkout.id),
    }
    return _pay(checkout, metadata, success_url=success_url, cancel_url=cancel_url)
