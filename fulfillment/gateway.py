"""The border to Stripe: nothing of stripe-python leaves this file, only plain data does."""

import functools
import json
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


def list_events(
    *, account_id: str, types: list[str], since: datetime, until: datetime
) -> Iterator[list[dict[str, Any]]]:
    """The account's events of these types from that time, in pages, the newest first.

    Each is as a webhook would have brought it: Stripe leaves out `account` when asked by the
    account. Raises `NotConnected` if we may no longer ask, else `StripeUnavailable`.
    """
    created = {"gte": int(since.timestamp()), "lte": int(until.timestamp())}
    query = {"limit": 100, "types": types, "created": created}
    has_more = True
    while has_more:
        with _errors_as(StripeUnavailable, NotConnected, account=account_id, object_id="events"):
            # Raw, because the library turns some numbers into what JSON can't hold.
            answer = _stripe().raw_request("get", "/v1/events", **query, **_options(account_id))
            page = json.loads(answer.body)
            events, has_more = page["data"], page["has_more"]
        if account_id:
            events = [{**event, "account": account_id} for event in events]
        if events:
            query["starting_after"] = events[-1]["id"]
            yield events
        has_more = has_more and bool(events)


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
            page = _stripe().v1.webhook_endpoints.list({"limit": 100})
        except stripe.AuthenticationError as error:
            raise KeyRefused from error
        assert page.last_response is not None
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
    # The others: the library hands on whatever JSON a 200 brings, a bare string as well.
    except (stripe.StripeError, AttributeError, TypeError, ValueError, LookupError) as error:
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


def _stripe() -> stripe.StripeClient:
    return _client(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE)


def _sessions() -> Any:
    return _stripe().v1.checkout.sessions


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
