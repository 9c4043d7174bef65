"""What a purchase leaves a member with, and our own log of it."""

import uuid
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Q, QuerySet
from django.utils.timezone import now

from purchases.models.offering import Product
from purchases.models.payment import Purchase
from tenants.models import Member, Tenant


class EntitlementQuerySet(QuerySet["Entitlement"]):
    def active(self) -> "EntitlementQuerySet":
        """Those that give access now: started, not ended, not suspended, not revoked."""
        return self.filter(_gives_access(now()))

    def with_activity(self) -> "EntitlementQuerySet":
        """Each with `is_active`: whether it gives access now."""
        return self.annotate(
            is_active=models.ExpressionWrapper(
                _gives_access(now()), output_field=models.BooleanField()
            )
        )


def _gives_access(instant: datetime) -> Q:
    return Q(
        Q(ends_at=None) | Q(ends_at__gt=instant),
        starts_at__lte=instant,
        suspended_at=None,
        revoked_at=None,
    )


class Entitlement(models.Model):
    """A member's access to one product, from `starts_at` until just before `ends_at`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="entitlements")
    member = models.ForeignKey(Member, models.PROTECT, related_name="entitlements")
    product = models.ForeignKey(Product, models.PROTECT, related_name="entitlements")
    purchase = models.ForeignKey(
        Purchase,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="entitlements",
        help_text="Blank: granted by hand.",
    )
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True, help_text="Blank: for good.")
    suspended_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=200, blank=True)

    objects = EntitlementQuerySet.as_manager()

    class Meta:
        ordering = ["-starts_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["purchase", "product"], name="entitlement_once_per_purchase"
            ),
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gt=models.F("starts_at")),
                name="entitlement_ends_after_it_starts",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.product} for {self.member}"


class CreditEntry(models.Model):
    """A line of the credit ledger of a member, or of the tenant itself. Append-only.

    `balance_after` is the owner's balance once this line counts. Lines of one owner are written
    one after the other, under the lock of the owner's row.
    """

    class Kind(models.TextChoices):
        PURCHASE = "purchase"
        REFUND = "refund"
        SPEND = "spend"
        ADJUSTMENT = "adjustment"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="credit_entries")
    member = models.ForeignKey(
        Member,
        models.PROTECT,
        null=True,
        related_name="credit_entries",
        help_text="Empty: the tenant's own.",
    )
    purchase = models.ForeignKey(Purchase, models.PROTECT, null=True, related_name="credit_entries")
    kind = models.CharField(max_length=10, choices=Kind)
    amount = models.BigIntegerField(help_text="In credits; negative takes them away.")
    balance_after = models.BigIntegerField()
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001
    created_at = models.DateTimeField(default=now)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "credit entries"
        indexes = [models.Index(fields=["tenant", "member", "-id"], name="creditentry_balance")]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["purchase", "refund", "spend", "adjustment"]),
                name="creditentry_kind",
            ),
            models.CheckConstraint(condition=~Q(amount=0), name="creditentry_moves_something"),
            models.CheckConstraint(
                condition=~Q(kind="spend") | Q(amount__lt=0, balance_after__gte=0),
                name="creditentry_spends_only_what_is_there",
            ),
            models.UniqueConstraint(
                fields=["purchase"],
                condition=Q(kind="purchase"),
                name="creditentry_once_per_purchase",
            ),
            models.UniqueConstraint(
                fields=["tenant", "idempotency_key"], name="creditentry_idempotency_key"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount:+}"


class TransactionId(models.Expression):
    """The number of the transaction under way, in the order in which transactions began to write.

    Always 0 on SQLite, where one transaction writes at a time.
    """

    output_field = models.BigIntegerField()
    allowed_default = True

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "0", []

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        return "pg_current_xact_id()::text::bigint", []


class PurchaseEvent(models.Model):
    """A line of our own log, written in the transaction that did what it says. Append-only.

    Ids are given out before the commit, so a line may appear after one with a higher id.
    `transaction_id` lets `feed` tell which lines none can appear before any more.
    """

    class Type(models.TextChoices):
        PURCHASE_COMPLETED = "purchase.completed"
        PURCHASE_PENDING = "purchase.pending"
        PURCHASE_FAILED = "purchase.failed"
        PURCHASE_REFUNDED = "purchase.refunded"
        PURCHASE_PARTIALLY_REFUNDED = "purchase.partially_refunded"
        PURCHASE_DISPUTED = "purchase.disputed"
        DISPUTE_WON = "purchase.dispute_won"
        DISPUTE_LOST = "purchase.dispute_lost"
        ENTITLEMENT_GRANTED = "entitlement.granted"
        ENTITLEMENT_SUSPENDED = "entitlement.suspended"
        ENTITLEMENT_RESTORED = "entitlement.restored"
        ENTITLEMENT_REVOKED = "entitlement.revoked"
        CREDITS_ADDED = "credits.added"
        CREDITS_DEDUCTED = "credits.deducted"
        CREDITS_RESTORED = "credits.restored"
        CREDITS_SPENT = "credits.spent"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="purchase_events")
    member = models.ForeignKey(Member, models.PROTECT, null=True, related_name="purchase_events")
    purchase = models.ForeignKey(Purchase, models.PROTECT, null=True, related_name="events")
    type = models.CharField(max_length=40, choices=Type)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=now)
    transaction_id = models.BigIntegerField(db_default=TransactionId(), editable=False)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["tenant", "transaction_id", "id"], name="purchaseevent_feed")
        ]

    def __str__(self) -> str:
        return self.type
