"""Checkouts whose end nobody told us: ask Stripe, now and then, until there is one.

With this a purchase gets through without any webhook, minutes later.
"""

from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from fulfillment.catching_up import catch_up
from fulfillment.errors import StripeUnavailable
from fulfillment.models import SWEEP_AFTER, Checkout
from purchases.models import Purchase

logger = structlog.get_logger(__name__)

# A worker that is killed loses its claims after this time.
LEASE = timedelta(seconds=60)
LONGEST_PAUSE = timedelta(hours=6)
# A bank debit takes at most 14 days; a checkout that is held may be mended later.
GIVEN_UP_AFTER = timedelta(days=30)


def sweep_next() -> bool:
    """Ask Stripe about the next checkout whose time has come; whether there was one.

    Safe beside other workers and beside webhooks: each checkout is claimed by one, and what is
    recorded twice is recorded once.
    """
    checkout = _claim()
    if checkout:
        _ask(checkout)
    return checkout is not None


def _claim() -> Checkout | None:
    due = Checkout.objects.to_sweep().order_by("created_at")
    with transaction.atomic():
        checkout = due.select_for_update(skip_locked=True).first()
        if checkout:
            checkout.sweeps += 1
            checkout.sweep_at = timezone.now() + LEASE
            checkout.save(update_fields=["sweeps", "sweep_at"])
    return checkout


def _ask(checkout: Checkout) -> None:
    if not _is_settled(checkout):
        try:
            catch_up(checkout, channel=Purchase.Channel.SWEEP)
        except StripeUnavailable:
            logger.warning("sweep_postponed", checkout=str(checkout.id))
        except Exception:
            # It has to wait its turn like the others, or it would be first for ever.
            logger.exception("sweep_failed", checkout=str(checkout.id))
    _expire_unopened(checkout)
    checkout.sweep_at = None if _is_settled(checkout) else _next_sweep(checkout)
    checkout.save(update_fields=["sweep_at"])


def _is_settled(checkout: Checkout) -> bool:
    """Whether nothing more can come of the checkout that Stripe would have to be asked about."""
    return checkout.is_fulfilled or checkout.status in Checkout.FINAL


def _expire_unopened(checkout: Checkout) -> None:
    """Close a checkout for which no session was opened; nobody was ever sent to pay it."""
    if checkout.stripe_session_id is None and timezone.now() >= checkout.expires_at:
        unopened = Checkout.objects.filter(pk=checkout.pk, stripe_session_id=None)
        unopened.filter(status=Checkout.Status.OPEN).update(status=Checkout.Status.EXPIRED)
        checkout.refresh_from_db()


def _next_sweep(checkout: Checkout) -> datetime | None:
    """Later each time, but soon after the session has ended; None once there is no hope."""
    now = timezone.now()
    if now >= checkout.created_at + GIVEN_UP_AFTER:
        return None
    later: datetime = now + min(SWEEP_AFTER * 3 ** min(checkout.sweeps, 10), LONGEST_PAUSE)
    ended = checkout.expires_at + timedelta(minutes=1)
    return min(later, ended) if now < ended else later
