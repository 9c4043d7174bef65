"""What is sold and what a payment leaves behind."""

import uuid

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q, QuerySet
from django.utils.timezone import now

from purchases import periods
from tenants.models import Member, Tenant

# Stripe's own bound: amounts have at most twelve digits.
MAX_AMOUNT = 999_999_999_999
MINOR_UNITS = "In minor units: 1250 is 12.50 EUR."


def validate_currency(code: str) -> None:
    if not (len(code) == 3 and code.isascii() and code.islower() and code.isalpha()):
        raise ValidationError("Write the three-letter ISO 4217 code in lower case, such as eur.")


def validate_duration(duration: str) -> None:
    try:
        periods.parse(duration)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def amount_in_range(name: str, constraint: str) -> models.CheckConstraint:
    return models.CheckConstraint(
        condition=Q(**{f"{name}__gte": 0, f"{name}__lte": MAX_AMOUNT}), name=constraint
    )


class Product(models.Model):
    """Something a member may have access to."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="products")
    slug = models.SlugField()
    name = models.CharField(max_length=200)

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="product_slug_per_tenant")
        ]

    def __str__(self) -> str:
        return self.name


class Offer(models.Model):
    """A set of plans to choose one from."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="offers")
    slug = models.SlugField()
    name = models.CharField(max_length=200)

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="offer_slug_per_tenant")
        ]

    def __str__(self) -> str:
        return self.name


class Plan(models.Model):
    """What one payment buys: the products, for how long, at what price."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    offer = models.ForeignKey(Offer, models.PROTECT, related_name="plans")
    name = models.CharField(max_length=200)
    products = models.ManyToManyField(Product, related_name="plans")
    amount = models.PositiveBigIntegerField(help_text=f"{MINOR_UNITS} 0 is free.")
    currency = models.CharField(max_length=3, validators=[validate_currency])
    duration = models.CharField(
        max_length=20,
        blank=True,
        validators=[validate_duration],
        help_text="ISO 8601: P1M, P1Y, P30D. Blank: for good.",
    )
    credits = models.PositiveIntegerField(default=0)
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            amount_in_range("amount", "plan_amount"),
            models.CheckConstraint(
                condition=Q(currency__regex=r"^[a-z]{3}$"), name="plan_currency"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class CreditPackage(models.Model):
    """A number of credits that tenants buy from the platform."""

    key = models.SlugField(primary_key=True, help_text="Such as 10_credits.")
    credits = models.PositiveIntegerField()
    amount = models.PositiveBigIntegerField(help_text=MINOR_UNITS)
    currency = models.CharField(max_length=3, validators=[validate_currency])
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["credits"]
        constraints = [
            amount_in_range("amount", "creditpackage_amount"),
            models.CheckConstraint(
                condition=Q(currency__regex=r"^[a-z]{3}$"), name="creditpackage_currency"
            ),
            models.CheckConstraint(condition=Q(credits__gt=0), name="creditpackage_credits"),
        ]

    def __str__(self) -> str:
        return self.key


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

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="purchases")
    member = models.ForeignKey(
        Member, models.PROTECT, null=True, blank=True, related_name="purchases"
    )
    plan = models.ForeignKey(Plan, models.SET_NULL, null=True, blank=True, related_name="purchases")
    package = models.ForeignKey(
        CreditPackage, models.SET_NULL, null=True, blank=True, related_name="purchases"
    )
    snapshot = models.JSONField()
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
    fulfilled_by = models.CharField(max_length=8, choices=Channel, blank=True)
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
    status_at = models.DateTimeField(help_text="When Stripe said so.")
    created_at = models.DateTimeField(default=now)

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["account_id", "payment_intent_id"], name="dispute_payment")]
        constraints = [amount_in_range("amount", "dispute_amount")]

    def __str__(self) -> str:
        return self.id


class EntitlementQuerySet(QuerySet["Entitlement"]):
    def active(self) -> "EntitlementQuerySet":
        """Those that give access now: started, not ended, not suspended, not revoked."""
        instant = now()
        return self.filter(
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


class PurchaseEvent(models.Model):
    """A line of our own log, written in the transaction that did what it says. Append-only."""

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

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["tenant", "id"], name="purchaseevent_feed")]

    def __str__(self) -> str:
        return self.type
