"""What Stripe sent us, and the Checkout Sessions that we opened."""

import uuid
from datetime import timedelta

from django.db import connection, models
from django.db.models import Exists, OuterRef, Q
from django.utils.timezone import now

from purchases.models import CreditPackage, Plan, Purchase
from tenants.inserting import insert_statement
from tenants.models import Member, MemberSession, PaymentAccount, Tenant

# A record and its outcome are committed together, unless a constraint refused both at the commit.
STRANDED_AFTER = timedelta(minutes=1)
# How long after it was opened Stripe is first asked how a checkout stands.
SWEEP_AFTER = timedelta(minutes=10)


class StripeEventQuerySet(models.QuerySet["StripeEvent"]):
    def insert_new(self, record: "StripeEvent") -> bool:
        """Insert the record unless its id is there already; whether it was inserted.

        One statement, and the arbiter between deliveries that arrive together: the second one
        waits here until the first has committed or rolled back.
        """
        insert, values = insert_statement(record)
        with connection.cursor() as cursor:
            cursor.execute(f"{insert} ON CONFLICT (id) DO NOTHING", values)
            return bool(cursor.rowcount)

    def due(self) -> "StripeEventQuerySet":
        """Those to work on now: their time has come, or what they were held for has gone."""
        instant = now()
        # Held again for the same cause, these no longer match: no record is worked on for ever.
        enabled = Tenant.objects.filter(pk=OuterRef("tenant"), is_active=True)
        connected = PaymentAccount.objects.filter(
            stripe_account_id=OuterRef("account_id"), livemode=OuterRef("livemode")
        )
        status = StripeEvent.Status
        return self.unsettled().filter(
            Q(status=status.FAILED, next_attempt_at__lte=instant)
            | Q(status=status.RECEIVED, received_at__lte=instant - STRANDED_AFTER)
            | Q(Exists(enabled), status=status.HELD, outcome="tenant_inactive")
            | Q(Exists(connected), status=status.HELD, outcome="tenant_mismatch", tenant=None)
        )

    def unsettled(self) -> "StripeEventQuerySet":
        """Those that may still lead to something if processed again."""
        return self.filter(status__in=StripeEvent.UNSETTLED)

    def delivered(self) -> "StripeEventQuerySet":
        """Those that Stripe itself brought: neither fetched by us nor sent by `doctor`."""
        return self.filter(channel=StripeEvent.Channel.WEBHOOK).exclude(type=StripeEvent.SELF_TEST)


class StripeEvent(models.Model):
    """A genuine event from Stripe, kept so that nothing is lost and a failure can be retried.

    Stripe was answered 200 and so sends it no more: this table is the retry queue.
    """

    class Status(models.TextChoices):
        RECEIVED = "received"
        DONE = "done"
        IGNORED = "ignored"
        HELD = "held"
        FAILED = "failed"

    class Channel(models.TextChoices):
        WEBHOOK = "webhook"
        SPOOL = "spool"
        REPLAY = "replay"
        RECONCILE = "reconcile"

    UNSETTLED = (Status.RECEIVED, Status.HELD, Status.FAILED)
    # The type of the event that `manage.py doctor` sends to see whether it arrives.
    SELF_TEST = "allegro.self_test"

    id = models.CharField(
        max_length=255, primary_key=True, help_text="evt_…, or sha256:… where it can't be read."
    )
    type = models.CharField(max_length=255, blank=True)
    object_id = models.CharField(max_length=255, blank=True)
    account_id = models.CharField(
        max_length=255, blank=True, help_text="Blank: the platform's own account."
    )
    livemode = models.BooleanField(null=True)
    api_version = models.CharField(max_length=64, blank=True)
    created = models.DateTimeField(null=True, help_text="When it happened at Stripe.")
    payload = models.BinaryField(help_text="The body as it arrived, byte for byte.")

    tenant = models.ForeignKey(Tenant, models.PROTECT, null=True, related_name="+")
    purchase = models.ForeignKey(Purchase, models.PROTECT, null=True, related_name="stripe_events")
    status = models.CharField(max_length=8, choices=Status, default=Status.RECEIVED)
    outcome = models.CharField(max_length=64, blank=True)
    error = models.TextField(blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    channel = models.CharField(max_length=9, choices=Channel)
    signed_by = models.CharField(
        max_length=16, blank=True, help_text="Fingerprint of the webhook secret that signed it."
    )
    received_at = models.DateTimeField(default=now)
    settled_at = models.DateTimeField(null=True)

    objects = StripeEventQuerySet.as_manager()

    class Meta:
        ordering = ["-received_at"]
        verbose_name = "Stripe event"
        indexes = [
            models.Index(fields=["-received_at"], name="stripeevent_latest"),
            models.Index(fields=["object_id"], name="stripeevent_object"),
            models.Index(
                fields=["received_at"],
                condition=Q(status__in=["received", "held", "failed"]),
                name="stripeevent_unsettled",
            ),
            models.Index(
                fields=["next_attempt_at"], condition=Q(status="failed"), name="stripeevent_due"
            ),
            models.Index(fields=["account_id", "-received_at"], name="stripeevent_of_account"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["received", "done", "ignored", "held", "failed"]),
                name="stripeevent_status",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["done", "ignored"], settled_at__isnull=False)
                | Q(status__in=["received", "held", "failed"], settled_at__isnull=True),
                name="stripeevent_settled_once_done",
            ),
            models.CheckConstraint(
                condition=~Q(status="failed") | Q(next_attempt_at__isnull=False),
                name="stripeevent_failed_is_retried",
            ),
        ]
        permissions = [("process_stripeevent", "Can process a Stripe event again")]

    def __str__(self) -> str:
        return self.id


class CheckoutQuerySet(models.QuerySet["Checkout"]):
    def to_sweep(self) -> "CheckoutQuerySet":
        """Those of which Stripe should be asked now how they stand."""
        first = Q(sweeps=0, status=Checkout.Status.OPEN, created_at__lte=now() - SWEEP_AFTER)
        return self.filter(Q(sweep_at__lte=now()) | Q(first, sweep_at=None))


class Checkout(models.Model):
    """A Checkout Session that we opened: who buys what, agreed on before Stripe was called."""

    class Status(models.TextChoices):
        OPEN = "open"
        COMPLETE = "complete"
        EXPIRED = "expired"
        FAILED = "failed"

    FINAL = (Status.EXPIRED, Status.FAILED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="checkouts")
    member = models.ForeignKey(
        Member,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="checkouts",
        help_text="Known when the checkout was started with a member token.",
    )
    plan = models.ForeignKey(Plan, models.SET_NULL, null=True, blank=True, related_name="+")
    package = models.ForeignKey(
        CreditPackage, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    snapshot = models.JSONField()
    account_id = models.CharField(max_length=255, blank=True)
    livemode = models.BooleanField()
    stripe_session_id = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001
    token_sha256 = models.CharField(max_length=64, unique=True)
    verifier_sha256 = models.CharField(max_length=64, blank=True)
    return_url = models.URLField(max_length=2000, blank=True)

    status = models.CharField(max_length=8, choices=Status, default=Status.OPEN)
    purchase = models.OneToOneField(
        Purchase, models.PROTECT, null=True, blank=True, related_name="checkout"
    )
    member_session = models.ForeignKey(
        MemberSession, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField(help_text="When the session at Stripe ends.")
    exchanged_at = models.DateTimeField(null=True, blank=True)
    sweep_at = models.DateTimeField(
        null=True, blank=True, help_text="When Stripe is asked next how it stands."
    )
    sweeps = models.PositiveSmallIntegerField(default=0, help_text="How often it was asked.")

    objects = CheckoutQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(
                fields=["sweep_at"], condition=Q(sweep_at__isnull=False), name="checkout_sweep"
            ),
            models.Index(
                fields=["created_at"],
                condition=Q(status="open", sweeps=0),
                name="checkout_first_sweep",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["open", "complete", "expired", "failed"]),
                name="checkout_status",
            )
        ]

    def __str__(self) -> str:
        return self.stripe_session_id or str(self.id)

    @property
    def is_fulfilled(self) -> bool:
        return self.purchase is not None and self.purchase.fulfilled_at is not None


class RejectedDelivery(models.Model):
    """A delivery that no secret of ours signed but that looks real; `reverify` tries it again."""

    body = models.BinaryField()
    signature = models.TextField(help_text="The Stripe-Signature header.")
    reason = models.CharField(max_length=255)
    received_at = models.DateTimeField(default=now, db_index=True)

    class Meta:
        ordering = ["-received_at"]
        verbose_name_plural = "rejected deliveries"

    def __str__(self) -> str:
        return f"{self.received_at:%Y-%m-%d %H:%M:%S}"


class Reconciliation(models.Model):
    """How far the inbox was compared with the events that Stripe has of an account."""

    account_id = models.CharField(
        max_length=255, blank=True, help_text="Blank: the platform's own account."
    )
    livemode = models.BooleanField()
    due_at = models.DateTimeField(default=now, help_text="When the last 24 hours are compared.")
    deep_due_at = models.DateTimeField(
        default=now, help_text="When the last 72 hours are compared."
    )
    leased_until = models.DateTimeField(null=True, help_text="A worker is at it until then.")
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    events_seen = models.PositiveIntegerField(default=0)
    events_missing = models.PositiveIntegerField(default=0)
    missing_total = models.PositiveIntegerField(default=0)
    error = models.CharField(max_length=255, blank=True)

    class Meta:
        ordering = ["account_id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account_id", "livemode"], name="reconciliation_once_per_account"
            )
        ]

    def __str__(self) -> str:
        return self.account_id or "platform"


class Worker(models.Model):
    """A running `manage.py worker`, as of its last sign of life."""

    name = models.CharField(max_length=255, primary_key=True, help_text="Host and process id.")
    started_at = models.DateTimeField(default=now)
    seen_at = models.DateTimeField(default=now)

    class Meta:
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return self.name
