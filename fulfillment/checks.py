"""System checks: what would make every delivery fail, said before the first one does."""

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register

from fulfillment.signatures import configured_secrets

MIN_SECRET_LENGTH = 20
PLACEHOLDERS = ("changeme", "change_me", "replace", "placeholder", "example", "your_")


@register
def webhook_secrets(app_configs: Any, **options: Any) -> list[CheckMessage]:
    # On a laptop the secret often comes only after the first start, from `stripe listen`.
    level = checks.Warning if settings.DEBUG else Error
    if not configured_secrets():
        return [
            level(
                "STRIPE_WEBHOOK_SECRET is not set: no webhook from Stripe can be verified.",
                hint="Copy the signing secret (whsec_…) from the endpoint's page at Stripe.",
                id="fulfillment.E001",
            )
        ]
    return [
        level(
            f"Secret {number} in STRIPE_WEBHOOK_SECRET is a placeholder or too short to be one.",
            hint="Copy the signing secret (whsec_…) from the endpoint's page at Stripe.",
            id="fulfillment.E002",
        )
        for number, secret in enumerate(configured_secrets(), start=1)
        if _is_no_secret(secret)
    ]


def _is_no_secret(secret: str) -> bool:
    varied = len(set(secret.removeprefix("whsec_"))) > 3
    named = any(placeholder in secret.lower() for placeholder in PLACEHOLDERS)
    return len(secret) < MIN_SECRET_LENGTH or not varied or named


@register
def allowed_hosts(app_configs: Any, **options: Any) -> list[CheckMessage]:
    # In debug Django lets this machine's own names in.
    if settings.ALLOWED_HOSTS or settings.DEBUG:
        return []
    return [
        Error(
            "ALLOWED_HOSTS is not set: every request would be refused, Stripe's as well.",
            hint="Set it to the host in ALLEGRO_URL, and to others that reach this server.",
            id="fulfillment.E004",
        )
    ]


@register
def live_key_in_debug(app_configs: Any, **options: Any) -> list[CheckMessage]:
    if not (settings.DEBUG and settings.STRIPE_LIVEMODE):
        return []
    return [
        Error(
            "DEBUG is on with a live Stripe key.",
            hint="Set DEBUG=false, or use a key that begins with sk_test_.",
            id="fulfillment.E003",
        )
    ]
