"""What need not be kept for ever: raw bodies after 90 days, and tokens that nobody can use."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from fulfillment.models import RejectedDelivery, StripeEvent, Worker
from purchases.models import NotificationDelivery
from tenants.models import ConnectAttempt, MemberSession

BODIES_KEPT = timedelta(days=90)
# How long what can no longer be used may still explain something to an operator.
TOKENS_KEPT = timedelta(days=30)
BATCH = 1000


def prune() -> dict[str, int]:
    """Remove what is too old; returns how many of each kind.

    Of an event only the body goes: its id must stay, so that it is never taken for new. What is
    not settled keeps everything, and so do types that a later version may know.
    """
    now = timezone.now()
    old = StripeEvent.objects.filter(received_at__lt=now - BODIES_KEPT).exclude(payload=b"")
    settled = old.exclude(status__in=StripeEvent.UNSETTLED).exclude(outcome="unhandled_type")
    removed = {
        "event bodies": _in_batches(settled, lambda rows: rows.update(payload=b"")),
        **{
            name: _in_batches(rows, lambda rows: rows.delete()[0])
            for name, rows in _outdated(now).items()
        },
    }
    # Operators' sessions, whichever way they are stored.
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
    return removed


def _outdated(now: datetime) -> dict[str, QuerySet[Any]]:
    return {
        "member sessions": MemberSession.objects.filter(expires_at__lt=now - TOKENS_KEPT),
        "connect attempts": ConnectAttempt.objects.filter(expires_at__lt=now - TOKENS_KEPT),
        "rejected deliveries": RejectedDelivery.objects.filter(received_at__lt=now - BODIES_KEPT),
        "notification deliveries": NotificationDelivery.objects.filter(
            created_at__lt=now - BODIES_KEPT
        ).exclude(status=NotificationDelivery.Status.PENDING),
        "workers": Worker.objects.filter(seen_at__lt=now - timedelta(days=1)),
    }


def _in_batches(rows: QuerySet[Any], remove: Callable[[QuerySet[Any]], int]) -> int:
    """Remove the rows in short transactions, so that nobody waits for a long one."""
    return sum(remove(rows.model.objects.filter(pk__in=keys)) for keys in _batches(rows))


def _batches(rows: QuerySet[Any]) -> Iterator[list[Any]]:
    while keys := list(rows.order_by().values_list("pk", flat=True)[:BATCH]):
        yield keys
