"""What Stripe brought, seen from here: which secrets match, and which tenants are silent."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet, Subquery
from django.utils import timezone

from fulfillment import quarantine
from fulfillment.doctor.findings import Finding, ok, problem, warning
from fulfillment.models import Checkout, StripeEvent
from fulfillment.signatures import configured_secrets, fingerprint
from tenants.models import PaymentAccount, Tenant

REMEMBERED = timedelta(days=30)
# A checkout of this age should have been heard of, by its payment or its buyer's giving up.
NEWS_AFTER = timedelta(minutes=15)
LOOKED_AT = timedelta(hours=24)


def webhook_secrets() -> Iterator[Finding]:
    if quarantine.is_alarming():
        yield problem("webhook secrets", quarantine.ALARM)
    elif kept := quarantine.rejected_lately():
        yield warning(
            "webhook secrets",
            f"{kept} deliveries of the last 10 minutes match none, but others were accepted.",
            "If they are Stripe's, another endpoint's secret is missing in STRIPE_WEBHOOK_SECRET; "
            "then run `manage.py reverify`.",
        )
    for number, secret in enumerate(configured_secrets(), start=1):
        last = _last_signed_by(fingerprint(secret))
        if last:
            message = f"Secret {number} last matched a delivery at {last:%Y-%m-%d %H:%M:%S} UTC."
            yield ok("webhook secrets", message)
        else:
            yield warning(
                "webhook secrets",
                f"Secret {number} has matched no delivery from Stripe in 30 days.",
                "Right before the first sale. Else compare it with the endpoint's at Stripe.",
            )


def _last_signed_by(signed_by: str) -> datetime | None:
    recent = StripeEvent.objects.delivered().filter(received_at__gt=timezone.now() - REMEMBERED)
    signed = recent.filter(signed_by=signed_by).order_by("-received_at")
    return signed.values_list("received_at", flat=True).first()


def tenants() -> Iterator[Finding]:
    accounts = PaymentAccount.objects.filter(
        livemode=settings.STRIPE_LIVEMODE, disconnected_at=None
    )
    for tenant in Tenant.objects.filter(is_active=True).exclude(payment_accounts__in=accounts):
        yield warning(
            f"tenant {tenant.slug}",
            "No Stripe account is connected in this mode, so it can't sell.",
            "Connect one on the tenant's page in the admin.",
        )
    active = accounts.filter(tenant__is_active=True).select_related("tenant")
    for account in _with_news(active).order_by("tenant__slug"):
        yield from _judge(account)


def _with_news(accounts: QuerySet[PaymentAccount]) -> QuerySet[PaymentAccount]:
    """The accounts, each with when it was last heard of and since when it ought to have been."""
    now = timezone.now()
    events = StripeEvent.objects.filter(account_id=OuterRef("stripe_account_id"))
    opened = Checkout.objects.filter(
        tenant=OuterRef("tenant"),
        account_id=OuterRef("stripe_account_id"),
        stripe_session_id__isnull=False,
        created_at__range=(now - LOOKED_AT, now - NEWS_AFTER),
    )
    return accounts.annotate(
        heard_at=Subquery(events.order_by("-received_at").values("received_at")[:1]),
        opened_at=Subquery(opened.order_by("created_at").values("created_at")[:1]),
        has_sold=Exists(opened.filter(status=Checkout.Status.COMPLETE)),
    )


def _judge(account: Any) -> Iterator[Finding]:
    # Any: a type has no room for what a query adds.
    about, heard_at, opened_at = (
        f"tenant {account.tenant.slug}",
        account.heard_at,
        account.opened_at,
    )
    if not account.charges_enabled:
        because = f" ({account.disabled_reason})" if account.disabled_reason else ""
        yield warning(
            about,
            f"Stripe lets {account.stripe_account_id} take no payments{because}.",
            "Its owner sees in the Stripe Dashboard what is missing.",
        )
    if opened_at and (heard_at is None or heard_at < opened_at):
        yield (problem if account.has_sold else warning)(
            about,
            f"Checkouts were opened since {opened_at:%Y-%m-%d %H:%M} UTC"
            f"{' and paid' if account.has_sold else ''}, but no event of its account arrived.",
            "See that the endpoint at Stripe listens to connected accounts: docs/webhooks.md.",
        )
    else:
        last = f"its last event came {heard_at:%Y-%m-%d %H:%M} UTC" if heard_at else "no event yet"
        yield ok(about, f"{account.stripe_account_id} is connected; {last}.")
