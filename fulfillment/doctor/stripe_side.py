"""What Stripe has of us: whether the key works, and the webhook endpoints."""

from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone

from fulfillment import gateway
from fulfillment.doctor.deployment import LOOPBACK
from fulfillment.doctor.findings import Finding, ok, problem, warning
from fulfillment.doctor.storage import judge_clock
from fulfillment.errors import KeyRefused, StripeUnavailable
from fulfillment.gateway import WebhookEndpoint
from fulfillment.handlers import HANDLERS
from fulfillment.models import StripeEvent
from tenants.models import PaymentAccount

WEBHOOK_PATH = "/api/webhooks/stripe"
INDISPENSABLE = "checkout.session.completed"
GUIDE = "docs/webhooks.md says how."


def keys() -> Iterator[Finding]:
    mode = "live" if settings.STRIPE_LIVEMODE else "test"
    if settings.STRIPE_PUBLISHABLE_KEY.startswith(f"pk_{mode}_"):
        yield ok("Stripe keys", f"Both are of {mode} mode.")
        return
    yield problem(
        "Stripe keys",
        f"STRIPE_SECRET_KEY is of {mode} mode and STRIPE_PUBLISHABLE_KEY is not.",
        "Copy both from the same page of the Stripe Dashboard.",
    )


def accounts() -> Iterator[Finding]:
    connected = PaymentAccount.objects.filter(disconnected_at=None)
    usable = connected.filter(livemode=settings.STRIPE_LIVEMODE).count()
    others = connected.count() - usable
    if others and not usable:
        yield problem(
            "Stripe accounts",
            f"All {others} connected accounts are of the other mode than STRIPE_SECRET_KEY.",
            "Use the key of their mode, or connect the tenants again in this one.",
        )
    else:
        yield ok("Stripe accounts", f"{usable} are connected in the mode of STRIPE_SECRET_KEY.")


def webhook_endpoints() -> Iterator[Finding]:
    try:
        registered = gateway.list_webhook_endpoints()
    except KeyRefused as error:
        yield problem("Stripe", str(error.detail), "Copy it again from the Stripe Dashboard.")
        return
    except StripeUnavailable as error:
        yield problem(
            "Stripe",
            f"It could not be asked ({type(error.__cause__).__name__}).",
            "See that this machine reaches api.stripe.com, and status.stripe.com.",
        )
        return
    if registered.clock:
        offset = (timezone.now() - registered.clock).total_seconds()
        yield from judge_clock("Stripe's", offset)
    ours = [endpoint for endpoint in registered.endpoints if _is_ours(endpoint)]
    for endpoint in ours:
        yield from _judge(endpoint)
    yield from _judge_scope(ours) if ours else _missing()


def _is_ours(endpoint: WebhookEndpoint) -> bool:
    return endpoint.url.rstrip("/") == settings.ALLEGRO_URL + WEBHOOK_PATH


def _missing() -> Iterator[Finding]:
    message = f"Stripe has no endpoint at {settings.ALLEGRO_URL}{WEBHOOK_PATH}."
    if urlsplit(settings.ALLEGRO_URL).hostname in LOOPBACK:
        yield warning("webhook endpoint", message, "Right where `stripe listen` forwards events.")
    else:
        yield problem("webhook endpoint", message, f"Add it, for connected accounts. {GUIDE}")


def _judge(endpoint: WebhookEndpoint) -> Iterator[Finding]:
    if not endpoint.is_enabled:
        yield problem("webhook endpoint", "It is disabled at Stripe.", "Enable it there.")
    missing = [] if "*" in endpoint.events else sorted(HANDLERS.keys() - endpoint.events)
    if INDISPENSABLE in missing:
        yield problem("webhook endpoint", f"It does not get {INDISPENSABLE}.", GUIDE)
    elif missing:
        yield warning("webhook endpoint", f"It does not get {', '.join(missing)}.", GUIDE)
    if endpoint.api_version not in ("", settings.STRIPE_API_VERSION):
        yield warning(
            "webhook endpoint",
            f"Its API version is {endpoint.api_version}; {settings.STRIPE_API_VERSION} is tested.",
            "Stripe can't change it: add another endpoint, then remove this one.",
        )


def _judge_scope(ours: list[WebhookEndpoint]) -> Iterator[Finding]:
    """Stripe's list does not say to whose events an endpoint listens; these are signs of it."""
    if _has_heard_of_accounts():
        yield ok("webhook endpoint", "Events of connected accounts have arrived this month.")
    elif any(endpoint.has_application for endpoint in ours):
        yield ok(
            "webhook endpoint",
            "It belongs to a Connect application, so it should get connected accounts' events. "
            "Stripe does not say more; a first sale proves it.",
        )
    else:
        yield warning(
            "webhook endpoint",
            "Stripe does not say to whose events it listens, but it names no Connect application, "
            "and no event of a connected account arrived this month.",
            f"See that one listens to connected accounts. {GUIDE}",
        )


def _has_heard_of_accounts() -> bool:
    month_ago = timezone.now() - timedelta(days=30)
    delivered = StripeEvent.objects.delivered().filter(received_at__gt=month_ago)
    return delivered.exclude(account_id="").order_by().exists()
