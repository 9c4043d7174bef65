"""Whether Stripe signed a delivery, now or when it arrived."""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils import timezone
from django.utils.crypto import salted_hmac

# The age Stripe's own libraries allow; they let a time in the future pass, we don't.
TOLERANCE_SECONDS = 300
MAX_SIGNATURE_ITEMS = 64
HEX_DIGEST = re.compile(rb"[0-9a-f]{64}")


class InvalidSignature(Exception):
    """Nothing proves that Stripe sent this."""


class NoSecretMatches(InvalidSignature):
    """In time and with a signature, but of none of our secrets: theirs or ours may be wrong.

    `header` is what of the `Stripe-Signature` header could still prove it; blank: nothing could.
    """

    def __init__(self, header: str) -> None:
        super().__init__(
            f"no signature matches any of the {len(configured_secrets())} secrets in "
            "STRIPE_WEBHOOK_SECRET; copy it from the endpoint's page at Stripe, or from "
            "`stripe listen`"
        )
        self.header = header


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A configured secret by its place (1, 2, …), and a fingerprint that doesn't give it away."""

    number: int
    fingerprint: str


def configured_secrets() -> list[str]:
    """The secrets in STRIPE_WEBHOOK_SECRET, in their order; none while it is not set."""
    secrets = (part.strip() for part in settings.STRIPE_WEBHOOK_SECRET.split(","))
    return [secret for secret in secrets if secret]


def verify_signature(
    body: bytes, header: str, *, received_at: datetime | None = None
) -> SigningSecret:
    """Return which configured secret signed the body, or raise `InvalidSignature`.

    Stripe's scheme v1 (docs.stripe.com/webhooks, "Verify manually"): HMAC-SHA256 over
    `<t>.<raw body>`, with `t` at most 300 s off in either direction when it was received (now,
    unless said otherwise). The SDK's own check decodes the body first, takes one secret and lets
    a future `t` and a few exceptions pass.
    """
    timestamp, signatures = _read_header(header)
    # Whole seconds: `t` may have more digits than a float can hold.
    clock = int((received_at or timezone.now()).timestamp())
    if abs(clock - timestamp) > TOLERANCE_SECONDS:
        raise InvalidSignature(f"the timestamp {timestamp} is more than 300 s off our clock")
    for number, secret in enumerate(configured_secrets(), start=1):
        expected = _digest(body, secret, timestamp).encode()
        if any(hmac.compare_digest(expected, signature) for signature in signatures):
            return SigningSecret(number, fingerprint(secret))
    raise NoSecretMatches(_canonical_header(timestamp, signatures))


def sign(body: bytes, secret: str) -> str:
    """The header with which Stripe would deliver the body now."""
    timestamp = int(timezone.now().timestamp())
    return f"t={timestamp},v1={_digest(body, secret, timestamp)}"


def fingerprint(secret: str) -> str:
    """16 hex digits that tell secrets apart; without SECRET_KEY no guess can be checked by it."""
    return salted_hmac("allegro webhook secret", secret, algorithm="sha256").hexdigest()[:16]


def _digest(body: bytes, secret: str, timestamp: int) -> str:
    return hmac.new(secret.encode(), b"%d.%s" % (timestamp, body), hashlib.sha256).hexdigest()


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


def _canonical_header(timestamp: int, signatures: list[bytes]) -> str:
    """The header without what can't match; so it is short, and ASCII, whatever was sent."""
    digests = [value.decode() for value in signatures if HEX_DIGEST.fullmatch(value)]
    return ",".join([f"t={timestamp}", *(f"v1={digest}" for digest in digests)]) if digests else ""
