"""Where a tenant's server wants to hear of purchase events, and what became of telling it."""

import uuid

from django.db import models
from django.db.models import Q
from django.utils.timezone import now

from purchases.models.holding import PurchaseEvent
from tenants.models import Tenant


class NotificationEndpoint(models.Model):
    """An HTTPS address of a tenant. Its log is read up to the position, in the feed's order.

    The secrets are encrypted with SECRET_KEY; a former one signs too until its time is up.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="notification_endpoints")
    url = models.URLField(max_length=2000)
    secret_encrypted = models.BinaryField(editable=False)
    former_secret_encrypted = models.BinaryField(null=True, editable=False)
    former_secret_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=now)
    failing_since = models.DateTimeField(null=True, blank=True)
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=200, blank=True)
    last_transaction_id = models.BigIntegerField(default=0, editable=False)
    last_event_id = models.BigIntegerField(default=0, editable=False)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.url


class NotificationDelivery(models.Model):
    """One purchase event for one endpoint, tried until the endpoint takes it."""

    class Status(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    endpoint = models.ForeignKey(NotificationEndpoint, models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(PurchaseEvent, models.PROTECT, related_name="+")
    status = models.CharField(max_length=9, choices=Status, default=Status.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, default=now)
    response_status = models.PositiveSmallIntegerField(null=True, blank=True)
    error = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=now)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name_plural = "notification deliveries"
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                condition=Q(status="pending"),
                name="notificationdelivery_due",
            )
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint", "event"], name="notificationdelivery_once_per_event"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "delivered", "failed"]),
                name="notificationdelivery_status",
            ),
            models.CheckConstraint(
                condition=~Q(status="pending") | Q(next_attempt_at__isnull=False),
                name="notificationdelivery_pending_is_tried",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.endpoint}"
