"""What Stripe said about a payment, and the purchase that it makes."""

import uuid

from django.db import models
from django.db.models import Q
from django.utils.timezone import now

from purchases.models.offering import MINOR_UNITS, CreditPackage, Plan, amount_in_range
from tenants.models import Member, Tenant


class Purchase(models.Model):
    """One Checkout Session that was completed, and everything Stripe has said about its payment.

    `snapshot` is what was sold, as it stood when the member chose it. The columns up to
    `currency` and `payment_status` are facts; `settle` derives `status` and fulfillment from them.
    """

    class PaymentStatus(models.TextChoices):
        UNPAID = "unpaid"
        FAILED = "failed"
        PAID = "paid"
        FREE = "free"

    class Status(models.TextChoices):
        PENDING = "pending"
        PAID = "paid"
        PARTIALLY_REFUNDED = "partially_refunded"
        REFUNDED = "refunded"
        DISPUTED = "disputed"
        LOST = "lost"
        FAILED = "failed"

    class Channel(models.TextChoices):
        """Who brought the news that fulfilled the purchase."""

        WEBHOOK = "webhook"
        EXCHANGE = "exchange"
        CHECKOUT = "checkout"
        REPLAY = "replay"
        SWEEP = "sweep"
        RECONCILE = "reconcile"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="purchases")
    member = models.ForeignKey(
        Member, models.PROTECT, null=True, blank=True, related_name="purchases"
    )
    plan = models.ForeignKey(Plan, models.SET_NULL, null=True, blank=True, related_name="purchases")
    package = models.ForeignKey(
        CreditPackage, models.SET_NULL, null=True, blank=True, related_name="purchases"
    )
    snapshot = models.JSONField(default=dict)
    checkout_session_id = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001
    payment_intent_id = models.CharField(max_length=255, blank=True)
    charge_id = models.CharField(max_length=255, blank=True)
    account_id = models.CharField(
        max_length=255, blank=True, help_text="Blank: the platform's own account."
    )
    livemode = models.BooleanField()
    amount_subtotal = models.PositiveBigIntegerField(help_text=MINOR_UNITS)
    amount_total = models.PositiveBigIntegerField(help_text=MINOR_UNITS)
    currency = models.CharField(max_length=3)
    payment_status = models.CharField(max_length=6, choices=PaymentStatus)
    member_is_new = models.BooleanField(
        default=False, help_text="This purchase made the member; nobody had the e-mail before."
    )

    status = models.CharField(max_length=18, choices=Status)
    refunded_amount = models.PositiveBigIntegerField(default=0, help_text=MINOR_UNITS)
    fulfilled_by = models.CharField(max_length=9, choices=Channel, blank=True)
    fulfilled_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=now)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["account_id", "payment_intent_id"], name="purchase_payment"),
            models.Index(fields=["charge_id"], name="purchase_charge"),
            models.Index(fields=["tenant", "-created_at"], name="purchase_latest"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(payment_status__in=["unpaid", "failed", "paid", "free"]),
                name="purchase_payment_status",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "failed"], fulfilled_at__isnull=True)
                | Q(
                    status__in=[
                        "paid",
                        "partially_refunded",
                        "refunded",
                        "disputed",
                        "lost",
                    ],
                    fulfilled_at__isnull=False,
                ),
                name="purchase_fulfilled_once_paid",
            ),
            amount_in_range("amount_subtotal", "purchase_amount_subtotal"),
            amount_in_range("amount_total", "purchase_amount_total"),
            amount_in_range("refunded_amount", "purchase_refunded_amount"),
        ]

    def __str__(self) -> str:
        return self.checkout_session_id or str(self.id)

    @property
    def duration(self) -> str:
        """How long its entitlements run, ISO 8601; blank: for good."""
        duration: str = self.snapshot["duration"]
        return duration


class Charge(models.Model):
    """What Stripe last said about one attempt to take the money.

    Kept by payment, whether or not the purchase is known yet: `charge.succeeded` usually comes
    before `checkout.session.completed`.
    """

    class Status(models.TextChoices):
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    id = models.CharField(max_length=255, primary_key=True)
    account_id = models.CharField(max_length=255, blank=True)
    payment_intent_id = models.CharField(max_length=255)
    livemode = models.BooleanField()
    amount = models.PositiveBigIntegerField(help_text=MINOR_UNITS)
    currency = models.CharField(max_length=3)
    status = models.CharField(max_length=9, choices=Status)
    failure_code = models.CharField(max_length=255, blank=True)
    amount_refunded = models.PositiveBigIntegerField(
        default=0, help_text="The most that Stripe has ever said was refunded, in minor units."
    )
    created_at = models.DateTimeField(default=now)

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["account_id", "payment_intent_id"], name="charge_payment")]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["succeeded", "failed"]), name="charge_status"
            ),
            amount_in_range("amount", "charge_amount"),
            amount_in_range("amount_refunded", "charge_amount_refunded"),
        ]

    def __str__(self) -> str:
        return self.id


class Refund(models.Model):
    """What Stripe last said about one refund, kept by payment like a charge.

    A refund that succeeded may fail weeks later; then the member has paid after all.
    """

    id = models.CharField(max_length=255, primary_key=True)
    account_id = models.CharField(max_length=255, blank=True)
    payment_intent_id = models.CharField(max_length=255)
    amount = models.PositiveBigIntegerField(help_text=MINOR_UNITS)
    status = models.CharField(max_length=32)
    created_at = models.DateTimeField(default=now)

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["account_id", "payment_intent_id"], name="refund_payment")]
        constraints = [amount_in_range("amount", "refund_amount")]

    def __str__(self) -> str:
        return self.id


class Dispute(models.Model):
    """What Stripe last said about one dispute, kept by payment like a charge."""

    id = models.CharField(max_length=255, primary_key=True)
    account_id = models.CharField(max_length=255, blank=True)
    payment_intent_id = models.CharField(max_length=255)
    amount = models.PositiveBigIntegerField(help_text=MINOR_UNITS)
    status = models.CharField(max_length=32)
    status_at = models.DateTimeField(default=now, help_text="When Stripe said so.")
    created_at = models.DateTimeField(default=now)

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["account_id", "payment_intent_id"], name="dispute_payment")]
        constraints = [amount_in_range("amount", "dispute_amount")]

    def __str__(self) -> str:
        return self.id
