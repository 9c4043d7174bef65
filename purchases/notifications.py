"""Telling tenants' servers what happened: the worker calls `collect` and `deliver_due` in turns.

The table of deliveries is the queue. A delivery is sent at least once, and as a rule once: only a
worker that dies between sending and noting makes another send it again, with the same id.
"""

import random
import time
import uuid
from collections import Counter
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from http import HTTPStatus

import structlog
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from purchases import endpoints, feed, outbound
from purchases.messages import message_of
from purchases.models import NotificationDelivery, NotificationEndpoint, PurchaseEvent
from purchases.outbound import Answer
from tenants import vault

logger = structlog.get_logger(__name__)

Status = NotificationDelivery.Status
BATCH = 500
THREADS = 8
# Of one tenant, who may have as many slow endpoints as there are threads.
SHARE = THREADS // 2
# Longer than any attempt takes. A worker that was killed leaves its claims to others after it.
CLAIM = timedelta(seconds=60)
ROUND_SECONDS = 5
RETRIES = [
    timedelta(seconds=5),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=6),
    timedelta(hours=12),
    timedelta(hours=24),
]
MAX_FAILING = timedelta(days=5)
SAYS_WHEN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def collect() -> int:
    """Queue a delivery for each event that an endpoint has not had; returns how many.

    Any number of workers may do so at once: the endpoint's row is the lock, and its position
    moves in the transaction that queues.
    """
    is_later = Q(transaction_id__gt=OuterRef("last_transaction_id")) | Q(
        transaction_id=OuterRef("last_transaction_id"), id__gt=OuterRef("last_event_id")
    )
    news = PurchaseEvent.objects.filter(is_later, tenant=OuterRef("tenant"))
    behind = endpoints.active_endpoints().filter(Exists(news))
    return sum(_collect_for(pk) for pk in behind.values_list("pk", flat=True))


@transaction.atomic
def _collect_for(endpoint_id: uuid.UUID) -> int:
    endpoint = (
        endpoints.active_endpoints()
        .select_related("tenant")
        .select_for_update(of=["self"], skip_locked=True, no_key=True)
        .filter(pk=endpoint_id)
        .first()
    )
    if endpoint is None:
        return 0
    events = feed.events_after(
        endpoint.tenant,
        transaction_id=endpoint.last_transaction_id,
        event_id=endpoint.last_event_id,
        limit=BATCH,
    )
    if not events:
        return 0
    NotificationDelivery.objects.bulk_create(
        [NotificationDelivery(endpoint=endpoint, event=event) for event in events],
        ignore_conflicts=True,
    )
    endpoint.last_transaction_id = events[-1].transaction_id
    endpoint.last_event_id = events[-1].id
    endpoint.save(update_fields=["last_transaction_id", "last_event_id"])
    return len(events)


def deliver_due(*, limit: int = 200) -> int:
    """Send at most so many of the deliveries that are due; returns how many.

    An endpoint gets one at a time, and after one that failed nothing more in this round, so a
    slow one holds a single thread for the time of one attempt. A tenant has half of the threads.
    """
    ends_at = time.monotonic() + ROUND_SECONDS
    sending: dict[Future[Answer], NotificationDelivery] = {}
    busy: set[uuid.UUID] = set()
    sent = 0
    with ThreadPoolExecutor(THREADS) as threads:
        while True:
            if time.monotonic() < ends_at:
                room = min(THREADS - len(sending), limit - sent)
                held = Counter(delivery.endpoint.tenant_id for delivery in sending.values())
                for delivery in _claim(room, besides=busy, held=held):
                    sending[threads.submit(_send, delivery)] = delivery
                    busy.add(delivery.endpoint_id)
                    sent += 1
            if not sending:
                return sent
            for future in wait(sending, timeout=1, return_when=FIRST_COMPLETED).done:
                delivery = sending.pop(future)
                if _note(delivery, future.result()):
                    busy.discard(delivery.endpoint_id)


def _claim(
    room: int, *, besides: Collection[uuid.UUID], held: Counter[uuid.UUID]
) -> list[NotificationDelivery]:
    """Take the first due delivery of so many endpoints, besides those named.

    `held` is how many threads each tenant has already.
    """
    moment = timezone.now()
    due = NotificationDelivery.objects.filter(status=Status.PENDING, next_attempt_at__lte=moment)
    first = due.filter(endpoint=OuterRef("pk")).order_by("next_attempt_at", "event_id")
    waiting = (
        endpoints.active_endpoints()
        .exclude(pk__in=besides)
        .annotate(
            first=Subquery(first.values("pk")[:1]),
            due_at=Subquery(first.values("next_attempt_at")[:1]),
        )
        .exclude(first=None)
        .order_by("due_at")
    )
    chosen: list[uuid.UUID] = []
    for delivery_id, tenant_id in waiting.values_list("first", "tenant") if room > 0 else ():
        if len(chosen) < room and held[tenant_id] < SHARE:
            held[tenant_id] += 1
            chosen.append(delivery_id)
    if not chosen:
        return []
    with transaction.atomic():
        claimed = list(
            due.filter(pk__in=chosen)
            .select_related("endpoint", "event__member")
            .select_for_update(of=["self"], skip_locked=True)
        )
        ids = [delivery.pk for delivery in claimed]
        NotificationDelivery.objects.filter(pk__in=ids).update(next_attempt_at=moment + CLAIM)
    return claimed


def _send(delivery: NotificationDelivery) -> Answer:
    # In a thread, where the database is out of reach: all that it needs is loaded.
    try:
        message = message_of(delivery)
    except vault.Unreadable:
        return Answer(error="SECRET_KEY was replaced; rotate the endpoint's secret.")
    return outbound.post(delivery.endpoint.url, message.body, message.headers)


@transaction.atomic
def _note(delivery: NotificationDelivery, answer: Answer) -> bool:
    """Store what came of the attempt; returns whether the endpoint took the delivery."""
    moment = timezone.now()
    is_taken = answer.status is not None and 200 <= answer.status < 300
    outcome = {"status": Status.DELIVERED, "delivered_at": moment, "next_attempt_at": None}
    # Only what is pending: a second worker's late failure can't undo the first one's success.
    NotificationDelivery.objects.filter(pk=delivery.pk, status=Status.PENDING).update(
        attempts=F("attempts") + 1,
        response_status=answer.status,
        error=answer.error,
        **(outcome if is_taken else _retry(delivery.attempts, answer, moment)),
    )
    endpoint = NotificationEndpoint.objects.filter(pk=delivery.endpoint_id)
    if is_taken:
        endpoint.exclude(failing_since=None).update(failing_since=None)
    else:
        _note_failure(endpoint, answer, moment)
    return is_taken


def _retry(attempts: int, answer: Answer, moment: datetime) -> dict[str, object]:
    """When to try again after that many attempts and this one, or that it was the last."""
    if attempts >= len(RETRIES):
        return {"status": Status.FAILED, "next_attempt_at": None}
    # So that what failed together doesn't come back together.
    delay = RETRIES[attempts] * random.uniform(1, 1.2)  # noqa: S311
    if answer.status in SAYS_WHEN:
        delay = max(delay, timedelta(seconds=answer.retry_after))
    return {"next_attempt_at": moment + delay}


def _note_failure(
    endpoint: QuerySet[NotificationEndpoint], answer: Answer, moment: datetime
) -> None:
    endpoint.filter(failing_since=None).update(failing_since=moment)
    if answer.status == HTTPStatus.GONE:
        endpoints.disable(endpoint, "The endpoint answered 410 Gone.")
    else:
        failing = endpoint.filter(failing_since__lte=moment - MAX_FAILING)
        endpoints.disable(failing, "Nothing was taken for five days.")
