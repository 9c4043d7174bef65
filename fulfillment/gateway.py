"""The border to Stripe: nothing of stripe-python leaves this file, only plain data does."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import stripe
import structlog
from django.conf import settings
from rest_framework.exceptions import APIException

from fulfillment.errors import CheckoutUnavailable, KeyRefused, NotConnected, StripeUnavailable

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A Checkout Session where somebody can pay at `url` until `expires_at` (UTC)."""

    id: str
    url: str
    expires_at: datetime


def create_session(
    parameters: dict[str, Any], *, account_id: str, idempotency_key: str
) -> OpenSession:
    """Open a Checkout Session on the account (blank: the platform's own).

    Raises `NotConnected` if Stripe no longer lets us act for the account, else
    `CheckoutUnavailable`. The same key returns the same session, for 24 hours at least.
    """
    options = _options(account_id)
    options["idempotency_key"] = idempotency_key
    with _errors_as(
        CheckoutUnavailable, NotConnected, account=account_id, object_id=idempotency_key
    ):
        session = _sessions().create(parameters, options)
        return OpenSession(
            id=session.id,
            url=session.url or "",
            expires_at=datetime.fromtimestamp(session.expires_at, UTC),
        )


def retrieve_session(session_id: str, *, account_id: str) -> dict[str, Any]:
    """The Checkout Session as it is now, with its PaymentIntent, or `StripeUnavailable`."""
    with _errors_as(StripeUnavailable, StripeUnavailable, account=account_id, object_id=session_id):
        session = _sessions().retrieve(
            session_id, {"expand": ["payment_intent"]}, _options(account_id)
        )
        plain: dict[str, Any] = session.to_dict()
        return plain


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """`api_version` is blank for the account's default; `has_application` hints at Connect."""

    url: str
    is_enabled: bool
    events: frozenset[str]
    api_version: str
    has_application: bool


@dataclass(frozen=True, slots=True)
class WebhookEndpoints:
    """Those of the platform's account in this mode, and Stripe's time when it answered."""

    endpoints: list[WebhookEndpoint]
    clock: datetime | None


def list_webhook_endpoints() -> WebhookEndpoints:
    """Raises `KeyRefused`, or `StripeUnavailable`."""
    with _errors_as(StripeUnavailable, KeyRefused, object_id="webhook_endpoints"):
        try:
            # Stripe allows 16.
            page = _api().webhook_endpoints.list({"limit": 100})
        except stripe.AuthenticationError as error:
            raise KeyRefused from error
        date = page.last_response.headers.get("Date")
        return WebhookEndpoints(
            [_webhook_endpoint(endpoint.to_dict()) for endpoint in page.data],
            clock=parsedate_to_datetime(date) if date else None,
        )


def _webhook_endpoint(data: dict[str, Any]) -> WebhookEndpoint:
    return WebhookEndpoint(
        url=data["url"],
        is_enabled=data["status"] == "enabled",
        events=frozenset(data["enabled_events"]),
        api_version=data.get("api_version") or "",
        has_application=bool(data.get("application")),
    )


@contextmanager
def _errors_as(
    failed: type[APIException], forbidden: type[APIException], **context: str
) -> Iterator[None]:
    """Log what Stripe says went wrong, and raise what our caller should hear."""
    try:
        yield
    # The last two: the library hands on whatever JSON a 200 brings, a bare string as well.
    except (stripe.StripeError, AttributeError, TypeError) as error:
        logger.warning(
            "stripe_call_failed",
            error=type(error).__name__,
            code=getattr(error, "code", None),
            parameter=getattr(error, "param", None),
            stripe_request_id=getattr(error, "request_id", None),
            **context,
        )
        raise (forbidden if isinstance(error, stripe.PermissionError) else failed) from error


def _options(account_id: str) -> stripe.RequestOptions:
    return {"stripe_account": account_id} if account_id else {}


def _sessions() -> Any:
    return _api().checkout.sessions


def _api() -> Any:
    return _client(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE).v1


@functools.cache
def _client(key: str, base: str) -> stripe.StripeClient:
    stripe.enable_telemetry = False
    # Not the library's defaults: those are no retries, and 80 s for one answer.
    return stripe.StripeClient(
        key,
        client_id=settings.STRIPE_CONNECT_CLIENT_ID,
        stripe_version=settings.STRIPE_API_VERSION,
        max_network_retries=2,
        http_client=stripe.RequestsClient(timeout=(3.05, 5)),
        base_addresses={"api": base, "connect": base} if base else {},
    )
