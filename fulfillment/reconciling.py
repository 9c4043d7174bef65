"""Compare the inbox with the events that Stripe has, and take in what never arrived.

Whatever we answered counts as delivered at Stripe, so every event is compared, not only those
that Stripe calls undelivered.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import DataError, IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from fulfillment import gateway, inbox
from fulfillment.errors import NotConnected, StripeUnavailable
from fulfillment.handlers import HANDLERS
from fulfillment.models import Reconciliation, StripeEvent
from tenants.models import PaymentAccount

logger = structlog.get_logger(__name__)

OFTEN, RECENT = timedelta(minutes=15), timedelta(hours=24)
DAILY, DEEP = timedelta(hours=24), timedelta(hours=72)
# Stripe lists events of the last 30 days.
FURTHEST = timedelta(days=30)
# What is younger may be on its way as a webhook.
UNDER_WAY = timedelta(minutes=2)
# Windows overlap by as much, because clocks differ.
OVERLAP = timedelta(hours=1)
# A worker that is killed loses its claim after this time; each page renews it.
LEASE = timedelta(seconds=60)
RETRY_AFTER = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Found:
    """How many events Stripe has, and how many of them the inbox did not."""

    seen: int = 0
    missing: int = 0

    def __add__(self, other: "Found") -> "Found":
        return Found(self.seen + other.seen, self.missing + other.missing)


def reconcile(
    account_id: str, *, since: datetime, until: datetime | None = None, dry_run: bool = False
) -> Found:
    """Take in the account's events of that time which the inbox lacks (blank: the platform's).

    Idempotent. Raises `NotConnected` or `StripeUnavailable`, and what was found until then stays.
    """
    found = Found()
    for page in _pages(account_id, since, until or timezone.now()):
        found += _take_in(page, dry_run=dry_run)
    return found


def _pages(account_id: str, since: datetime, until: datetime) -> Iterator[list[dict[str, Any]]]:
    since = max(since, timezone.now() - FURTHEST)
    return gateway.list_events(
        account_id=account_id, types=sorted(HANDLERS), since=since, until=until
    )


def _take_in(page: list[dict[str, Any]], *, dry_run: bool) -> Found:
    ids = [event["id"] for event in page]
    known = set(StripeEvent.objects.filter(pk__in=ids).values_list("pk", flat=True))
    missing = [event for event in reversed(page) if event["id"] not in known]
    for event in [] if dry_run else missing:
        try:
            inbox.receive(json.dumps(event).encode(), channel=StripeEvent.Channel.RECONCILE)
        except (DataError, IntegrityError):
            logger.exception("reconciliation_refused", event_id=event["id"])
    return Found(seen=len(page), missing=len(missing))


def why(error: NotConnected | StripeUnavailable) -> str:
    """Why an account could not be asked, for an operator."""
    if isinstance(error, NotConnected):
        return "Stripe no longer lets us act for this account; connect it again."
    return "Stripe did not answer as it should; the log line stripe_call_failed says how."


# --- by the clock


def reconcile_next() -> bool:
    """Reconcile the next account whose time has come; whether there was one.

    Safe beside other workers: each account is leased to one.
    """
    _schedule_accounts()
    claimed = _claim()
    if claimed:
        _reconcile_claimed(claimed)
    return claimed is not None


def active_accounts() -> QuerySet[PaymentAccount]:
    """The connected accounts of the mode that we run in."""
    return PaymentAccount.objects.filter(livemode=settings.STRIPE_LIVEMODE, disconnected_at=None)


def _schedule_accounts() -> None:
    """Give each account its row, and a turn at once when it was connected since its last."""
    rows = Reconciliation.objects.filter(livemode=settings.STRIPE_LIVEMODE)
    known = rows.filter(account_id=OuterRef("stripe_account_id"))
    missing = list(
        active_accounts().filter(~Exists(known)).values_list("stripe_account_id", flat=True)
    )
    if not rows.filter(account_id="").exists():
        missing.append("")
    Reconciliation.objects.bulk_create(
        [
            Reconciliation(account_id=account_id, livemode=settings.STRIPE_LIVEMODE)
            for account_id in missing
        ],
        ignore_conflicts=True,
    )
    rows.filter(started_at__lt=_connected_at()).update(due_at=timezone.now())


def _connected_at() -> Subquery:
    accounts = active_accounts().filter(stripe_account_id=OuterRef("account_id"))
    return Subquery(accounts.values("connected_at")[:1])


def _claim() -> Reconciliation | None:
    now = timezone.now()
    due = (
        Reconciliation.objects.filter(livemode=settings.STRIPE_LIVEMODE)
        .annotate(connected_at=_connected_at())
        .filter(Q(account_id="") | Q(connected_at__isnull=False))
        .filter(Q(due_at__lte=now) | Q(deep_due_at__lte=now))
        .filter(Q(leased_until=None) | Q(leased_until__lte=now))
        # Whose turn was longest ago: one that fails each time stands in nobody's way.
        .order_by(F("started_at").asc(nulls_first=True))
    )
    with transaction.atomic():
        claimed = due.select_for_update(skip_locked=True).first()
        if claimed:
            claimed.started_at, claimed.leased_until = now, now + LEASE
            claimed.save(update_fields=["started_at", "leased_until"])
    return claimed


def _reconcile_claimed(row: Reconciliation) -> None:
    found = Found()
    assert row.started_at is not None
    try:
        for page in _pages(row.account_id, _since(row), row.started_at - UNDER_WAY):
            found += _take_in(page, dry_run=False)
            _update(row, leased_until=timezone.now() + LEASE)
    except (NotConnected, StripeUnavailable) as error:
        logger.warning("reconciliation_failed", account=row.account_id, error=error.default_code)
        later = timezone.now() + RETRY_AFTER
        _update(
            row,
            **_counts(found),
            error=why(error),
            due_at=later,
            deep_due_at=max(row.deep_due_at, later),
            leased_until=None,
        )
        return
    log = logger.warning if found.missing else logger.info
    log("reconciled", account=row.account_id, seen=found.seen, missing=found.missing)
    is_deep = row.deep_due_at <= row.started_at
    _update(
        row,
        **_counts(found),
        finished_at=timezone.now(),
        due_at=row.started_at + OFTEN,
        deep_due_at=row.started_at + DAILY if is_deep else row.deep_due_at,
        leased_until=None,
        error="",
    )


def _since(row: Reconciliation) -> datetime:
    """24 or 72 hours back, and further where the last run, or the connection, is longer ago."""
    started = row.started_at
    assert started is not None
    window = DEEP if row.deep_due_at <= started else RECENT
    covered = row.finished_at or getattr(row, "connected_at", None) or started
    return min(started - window, covered - OVERLAP)


def _counts(found: Found) -> dict[str, Any]:
    return {
        "events_seen": found.seen,
        "events_missing": found.missing,
        "missing_total": F("missing_total") + found.missing,
    }


def _update(row: Reconciliation, **values: Any) -> None:
    Reconciliation.objects.filter(pk=row.pk).update(**values)
