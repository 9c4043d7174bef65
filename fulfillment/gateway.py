"""The border to Stripe: nothing of stripe-python leaves this file, only plain data does."""

import functools
import hashlib
import hmac
import time
from typing import Any

import stripe
import structlog
from django.conf import settings
from rest_framework import status
from rest_framework.exceptions import APIException

logger = structlog.get_logger(__name__)

# The age Stripe's own libraries allow; they let a time in the future pass, we don't.
TOLERANCE_SECONDS = 300
MAX_SIGNATURE_ITEMS = 64


class InvalidSignature(Exception):
    """Nothing proves that Stripe sent this."""


class StripeUnavailable(APIException):
    """Stripe could not be asked. Nothing was changed; the same request may be tried again."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "stripe_unavailable"
    default_detail = "The payment could not be checked just now. Try again in a moment."
    wait = 4


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


def retrieve_session(session_id: str, *, account_id: str) -> dict[str, Any]:
    """The Checkout Session as it is now, with its PaymentIntent, or `StripeUnavailable`.

    `account_id` is the connected account that the session lives on; blank for the platform's own.
    """
    options: stripe.RequestOptions = {"stripe_account": account_id} if account_id else {}
    try:
        session = _client(
            settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE
        ).v1.checkout.sessions.retrieve(session_id, {"expand": ["payment_intent"]}, options)
        # The library hands on whatever JSON a 200 brings, a bare string as well.
        plain: dict[str, Any] = session.to_dict()
    except (stripe.StripeError, AttributeError) as error:
        logger.warning(
            "stripe_unavailable",
            object_id=session_id,
            account=account_id,
            error=type(error).__name__,
            stripe_request_id=getattr(error, "request_id", None),
        )
        raise StripeUnavailable from error
    return plain


@functools.cache
def _client(key: str, base: str) -> stripe.StripeClient:
    stripe.enable_telemetry = False
    # Not the library's defaults: those are no retries, and 80 s for one answer.
    return stripe.StripeClient(
        key,
        client_id=settings.STRIPE_CONNECT_CLIENT_ID,
        stripe_version=settings.STRIPE_API_VERSION,
        max_network_retries=2,
        http_client=stripe.RequestsClient(timeout=(3.05, 10)),
        base_addresses={"api": base, "connect": base} if base else {},
    )
