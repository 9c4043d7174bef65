"""The addresses that tenants gave us for notifications, and the secrets that sign for them.

Scheme of Standard Webhooks: a secret is `whsec_` and the base64 of 32 random bytes.
"""

import base64
import secrets
import uuid
from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from purchases import feed, ledger
from purchases.errors import TooManyEndpoints
from purchases.models import NotificationDelivery, NotificationEndpoint
from tenants import vault
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

MAX_ENDPOINTS = 10
ROTATION = timedelta(hours=24)


def active_endpoints() -> QuerySet[NotificationEndpoint]:
    return NotificationEndpoint.objects.filter(disabled_at=None, tenant__is_active=True)


@transaction.atomic
def create_endpoint(tenant: Tenant, url: str) -> tuple[NotificationEndpoint, str]:
    """Add the endpoint, which hears of what happens from now on; returns it with its secret.

    The secret can't be shown again. Raises `TooManyEndpoints`.
    """
    ledger.lock_owner(tenant, None)
    if tenant.notification_endpoints.count() >= MAX_ENDPOINTS:
        raise TooManyEndpoints
    secret = _new_secret()
    latest = feed.settled_events(tenant).order_by("transaction_id", "id").last()
    endpoint = NotificationEndpoint.objects.create(
        tenant=tenant,
        url=url,
        secret_encrypted=vault.encrypt(secret.encode()),
        last_transaction_id=latest.transaction_id if latest else 0,
        last_event_id=latest.id if latest else 0,
    )
    return endpoint, secret


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def rotate_secret(endpoint: NotificationEndpoint) -> str:
    """Return a new secret, which signs from now on; the one before signs too for 24 hours."""
    secret = _new_secret()
    endpoint.former_secret_encrypted = endpoint.secret_encrypted
    endpoint.former_secret_until = timezone.now() + ROTATION
    endpoint.secret_encrypted = vault.encrypt(secret.encode())
    endpoint.save(
        update_fields=["secret_encrypted", "former_secret_encrypted", "former_secret_until"]
    )
    return secret


def secrets_of(endpoint: NotificationEndpoint) -> list[str]:
    """The secrets that sign now, the current one first. Raises `vault.Unreadable`."""
    encrypted = [endpoint.secret_encrypted]
    until = endpoint.former_secret_until
    if endpoint.former_secret_encrypted and until and until > timezone.now():
        encrypted.append(endpoint.former_secret_encrypted)
    return [vault.decrypt(bytes(secret)).decode() for secret in encrypted]


def renew_encryption() -> int:
    """Encrypt each secret with the SECRET_KEY of now; returns of how many endpoints.

    Once it is done, nothing here needs the former values in SECRET_KEY_FALLBACKS.
    """
    return sum(_renew(pk) for pk in NotificationEndpoint.objects.values_list("pk", flat=True))


@transaction.atomic
def _renew(endpoint_id: uuid.UUID) -> bool:
    endpoint = NotificationEndpoint.objects.select_for_update().filter(pk=endpoint_id).first()
    try:
        for name in ("secret_encrypted", "former_secret_encrypted"):
            if encrypted := getattr(endpoint, name, None):
                setattr(endpoint, name, vault.renew(bytes(encrypted)))
    except vault.Unreadable:
        logger.warning("notification_secret_unreadable", endpoint=str(endpoint_id))
        return False
    if endpoint:
        endpoint.save(update_fields=["secret_encrypted", "former_secret_encrypted"])
    return endpoint is not None


def disable(endpoints: QuerySet[NotificationEndpoint], reason: str) -> int:
    """Send nothing more to these until they are enabled; what they miss is kept for them."""
    chosen = endpoints.filter(disabled_at=None)
    ids = [str(pk) for pk in chosen.values_list("pk", flat=True)]
    if ids:
        logger.warning("notification_endpoints_disabled", endpoints=ids, reason=reason)
    return chosen.update(disabled_at=timezone.now(), disabled_reason=reason)


@transaction.atomic
def enable(endpoints: QuerySet[NotificationEndpoint]) -> int:
    """Send to these again, at once, beginning with what they missed."""
    ids = list(endpoints.exclude(disabled_at=None).values_list("pk", flat=True))
    pending = NotificationDelivery.Status.PENDING
    NotificationDelivery.objects.filter(endpoint__in=ids, status=pending).update(
        next_attempt_at=timezone.now()
    )
    return NotificationEndpoint.objects.filter(pk__in=ids).update(
        disabled_at=None, disabled_reason="", failing_since=None
    )


def redeliver(deliveries: QuerySet[NotificationDelivery]) -> int:
    """Send these once more, with as many tries as a new one has."""
    return deliveries.update(
        status=NotificationDelivery.Status.PENDING,
        attempts=0,
        next_attempt_at=timezone.now(),
        error="",
    )
