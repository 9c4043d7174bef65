"""The border to Stripe: nothing of stripe-python leaves this file, only plain data does."""

import functools
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import stripe
import structlog
from django.conf import settings
from rest_framework.exceptions import APIException

from fulfillment.errors import CheckoutUnavailable, NotConnected, StripeUnavailable

logger = structlog.get_logger(__name__)

# The age Stripe's own libraries allow; they let a time in the future pass, we don't.
TOLERANCE_SECONDS = 300
MAX_SIGNATURE_ITEMS = 64


class InvalidSignature(Exception):
    """Nothing proves that Stripe sent this."""


def verify_signature(body: bytes, header: str) -> int:
    """Return which configured secret (1, 2, …) signed the body, or raise `InvalidSignature`.

    Stripe's scheme v1 (docs.stripe.com/webhooks, "Verify manually"): HMAC-SHA256 over
    `<t>.<raw body>`, with `t` at most 300 s off in either direction. The SDK's own check decodes
    the body first, takes one secret and lets a future `t` and a few exceptions pass.
    """
    timestamp, signatures = _read_header(header)
    # Whole seconds: `t` may have more digits than a float can hold.
    if abs(int(time.time()) - timestamp) > TOLERANCE_SECONDS:
        raise InvalidSignature(f"the timestamp {timestamp} is more than 300 s off our clock")
    signed = b"%d.%s" % (timestamp, body)
    for number, secret in enumerate(settings.STRIPE_WEBHOOK_SECRETS, start=1):
        expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()
        if any(hmac.compare_digest(expected, signature) for signature in signatures):
            return number
    raise InvalidSignature(
        f"no signature matches any of the {len(settings.STRIPE_WEBHOOK_SECRETS)} secrets in "
        "STRIPE_WEBHOOK_SECRET; copy it from the endpoint's page at Stripe, or from `stripe listen`"
    )


def _read_header(header: str) -> tuple[int, list[bytes]]:
    if not header:
        raise InvalidSignature("there is no Stripe-Signature header")
    items = [item.split("=") for item in header.split(",", MAX_SIGNATURE_ITEMS)]
    values = [(item[0], item[1]) for item in items if len(item) > 1]
    # Non-ASCII text can equal no hex digest; as bytes it compares without an exception.
    signatures = [value.encode(errors="surrogatepass") for key, value in values if key == "v1"]
    try:
        timestamp = int(next(value for key, value in values if key == "t"))
    except (StopIteration, ValueError) as error:
        raise InvalidSignature("the Stripe-Signature header has no timestamp t") from error
    if not signatures:
        raise InvalidSignature("the Stripe-Signature header has no signature v1")
    return timestamp, signatures


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
