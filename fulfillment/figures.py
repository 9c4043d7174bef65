"""The figures by which one sees whether all is well, for monitoring and `manage.py doctor`.

Read from the database each time: counters in one process say little of the others. Each question
has an index, as the inbox holds millions of rows.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Count, Max, Min, Q, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from fulfillment.models import Checkout, Reconciliation, StripeEvent, Worker
from purchases.models import NotificationDelivery

Status = StripeEvent.Status
DELIVERIES_WINDOW = timedelta(minutes=5)
# Of so many deliveries at most the latency is looked at.
LATENCY_SAMPLE = 1_000
SWEEP_GRACE = timedelta(minutes=5)
WORKER_SILENCE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """Events that have led to nothing yet; `oldest_due` is since when the first ought to have."""

    by_status: dict[str, int]
    held: dict[str, int]
    oldest_due: datetime | None


def unsettled() -> Unsettled:
    rows = list(
        StripeEvent.objects.unsettled()
        .order_by()
        .values("status", "outcome")
        .annotate(count=Count("pk"), due=Min(Coalesce("next_attempt_at", "received_at")))
    )
    by_status = {str(status): 0 for status in StripeEvent.UNSETTLED}
    for row in rows:
        by_status[row["status"]] += row["count"]
    return Unsettled(
        by_status=by_status,
        held={row["outcome"]: row["count"] for row in rows if row["status"] == Status.HELD},
        # What is held waits for a person.
        oldest_due=min((row["due"] for row in rows if row["status"] != Status.HELD), default=None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """What Stripe brought in the last five minutes, and how long it took to settle (seconds)."""

    by_outcome: dict[tuple[str, str], int]
    latencies: list[float]
    last_accepted: datetime | None


def deliveries() -> Deliveries:
    delivered = StripeEvent.objects.delivered()
    recent = delivered.filter(received_at__gt=timezone.now() - DELIVERIES_WINDOW)
    counts = recent.order_by().values_list("status", "outcome").annotate(count=Count("pk"))
    settled = recent.filter(settled_at__isnull=False).order_by("-received_at")
    times = settled.values_list("received_at", "settled_at")[:LATENCY_SAMPLE]
    return Deliveries(
        by_outcome={(status, outcome): count for status, outcome, count in counts},
        latencies=sorted((end - start).total_seconds() for start, end in times if end),
        last_accepted=delivered.order_by("-received_at")
        .values_list("received_at", flat=True)
        .first(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """What nobody waits for, but what heals the rest."""

    workers: int
    worker_seen: datetime | None
    reconciled: datetime | None
    reconciliation_missing: int
    reconciliation_missing_total: int
    reconciliation_errors: int
    checkouts_overdue: int
    notifications: int
    oldest_notification: datetime | None


def background() -> Background:
    now = timezone.now()
    workers = Worker.objects.aggregate(
        alive=Count("pk", filter=Q(seen_at__gt=now - WORKER_SILENCE)), seen=Max("seen_at")
    )
    compared = Reconciliation.objects.aggregate(
        last=Max("finished_at"),
        missing=Coalesce(Sum("events_missing"), 0),
        total=Coalesce(Sum("missing_total"), 0),
        errors=Count("pk", filter=~Q(error="")),
    )
    pending = NotificationDelivery.objects.filter(
        status=NotificationDelivery.Status.PENDING
    ).aggregate(count=Count("pk"), oldest=Min("created_at"))
    return Background(
        workers=workers["alive"],
        worker_seen=workers["seen"],
        reconciled=compared["last"],
        reconciliation_missing=compared["missing"],
        reconciliation_missing_total=compared["total"],
        reconciliation_errors=compared["errors"],
        checkouts_overdue=Checkout.objects.filter(sweep_at__lt=now - SWEEP_GRACE).count(),
        notifications=pending["count"],
        oldest_notification=pending["oldest"],
    )


def clock_offset() -> float:
    """Seconds that our clock is ahead of the database's; SQLite has no clock of its own."""
    if connection.vendor == "sqlite":
        return 0.0
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        theirs: datetime = cursor.fetchone()[0]
    return (timezone.now() - theirs).total_seconds()


def age(since: datetime | None) -> float:
    """Seconds since then; 0 where nothing waits, or nothing is due yet."""
    return max(0.0, (timezone.now() - since).total_seconds()) if since else 0.0
