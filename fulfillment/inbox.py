"""The inbox: every genuine event is stored, worked on and its outcome noted in one transaction.

What is stored is never lost: a handler that fails leaves the record `failed` with none of its
effects, and `process_again` tries it later.
"""

import hashlib
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from django.conf import settings
from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.utils import timezone

from fulfillment.facts import Event, Malformed, identifier, text
from fulfillment.handlers import HANDLERS
from fulfillment.models import StripeEvent
from fulfillment.outcomes import Done, Held, Ignored
from fulfillment.parsing import Unparsable, parse_object
from fulfillment.sales import Origin
from purchases.models import Purchase
from tenants.models import Tenant

logger = structlog.get_logger(__name__)
T = TypeVar("T")

Status = StripeEvent.Status
RETRY_DELAYS = [
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=6),
    timedelta(hours=12),
    timedelta(hours=24),
]
POSTPONED_BY = timedelta(minutes=1)
# Serialization failure and deadlock (PostgreSQL, appendix A): the same again may well succeed.
TRANSIENT = ("40001", "40P01")
DATABASE_TRIES = 3
# What was spooled came by webhook.
BROUGHT_BY = {
    StripeEvent.Channel.WEBHOOK: Purchase.Channel.WEBHOOK,
    StripeEvent.Channel.SPOOL: Purchase.Channel.WEBHOOK,
    StripeEvent.Channel.RECONCILE: Purchase.Channel.RECONCILE,
}


def receive(
    body: bytes,
    *,
    channel: StripeEvent.Channel,
    received_at: datetime | None = None,
    signed_by: str = "",
) -> tuple[StripeEvent, bool]:
    """Store a genuine event and work on it; returns its record and whether it was new.

    `signed_by` is the fingerprint of the webhook secret that proved it, where one did.

    When this returns, record, effects and outcome are committed together. A repeat changes
    nothing, unless the record is unsettled: then it was sent again to get it through. Raises
    `DatabaseError` or `InterfaceError` when the database could not take it, with nothing stored.
    """

    def read() -> tuple[StripeEvent, Event | None]:
        record, event = _read(body, channel)
        record.received_at = received_at or record.received_at
        record.signed_by = signed_by
        return record, event

    def store_and_process() -> tuple[StripeEvent, bool]:
        record, event = read()
        with transaction.atomic():
            is_new = StripeEvent.objects.insert_new(record)
            if is_new and event:
                _process(record, event, BROUGHT_BY[channel])
        return record, is_new

    try:
        record, is_new = _with_retries(store_and_process)
    except IntegrityError as error:
        # A constraint that is checked only at commit undoes the record too; keep at least that.
        record, _ = read()
        is_new = StripeEvent.objects.insert_new(record)
        if is_new:
            return _count_attempt(record.pk, error), True
    if not is_new:
        record = StripeEvent.objects.defer("payload").get(pk=record.pk)
        if record.status in StripeEvent.UNSETTLED:
            record = process_again(record.pk)
    return record, is_new


def process_again(record_id: str) -> StripeEvent:
    """Work on a stored event once more unless it is settled; returns the record as it is then.

    The row's lock makes a second caller wait and then find it settled.
    """

    def lock_and_process() -> StripeEvent:
        with transaction.atomic():
            record = StripeEvent.objects.select_for_update().get(pk=record_id)
            if record.status in StripeEvent.UNSETTLED:
                _process_stored(record)
        return record

    try:
        return _with_retries(lock_and_process)
    except IntegrityError as error:
        # A constraint that is checked only at commit undoes the count of the attempt too.
        return _count_attempt(record_id, error)


def work_on_due(limit: int = 20) -> int:
    """Work on what is due, the longest waiting first; returns on how many records.

    Several callers share the work: the lock on a row is the lease, gone at once with whoever
    held it. Raises `DatabaseError` or `InterfaceError` while the database can't be worked with.
    """
    due = StripeEvent.objects.due().order_by("received_at").values_list("pk", flat=True)
    return sum(_work_on(record_id) for record_id in list(due[:limit]))


def _work_on(record_id: str) -> bool:
    """Work on the record unless it is no longer due or somebody else is at it."""

    def claim_and_process() -> bool:
        with transaction.atomic():
            claimed = StripeEvent.objects.due().select_for_update(skip_locked=True, of=("self",))
            record = claimed.filter(pk=record_id).first()
            if record:
                _process_stored(record)
        return record is not None

    try:
        return _with_retries(claim_and_process)
    except IntegrityError as error:
        _count_attempt(record_id, error)
        return True
    except OperationalError as error:
        # Perhaps the database's fault, perhaps only this record's: let it not stop the others.
        logger.warning("stripe_event_postponed", event_id=record_id, error=type(error).__name__)
        failed = StripeEvent.objects.filter(pk=record_id, status=Status.FAILED)
        return bool(failed.update(next_attempt_at=timezone.now() + POSTPONED_BY))


def _process_stored(record: StripeEvent) -> None:
    read, event = _read(bytes(record.payload), StripeEvent.Channel.REPLAY)
    if event:
        _process(record, event, Purchase.Channel.REPLAY)
    else:
        # Perhaps not so when it was stored; left as it is, it would be due for ever.
        _hold(record, read.outcome, read.error)
        record.save(update_fields=RESULT_FIELDS)


def _count_attempt(record_id: str, error: Exception) -> StripeEvent:
    logger.error("stripe_event_failed", event_id=record_id, exc_info=error)
    with transaction.atomic():
        record = StripeEvent.objects.select_for_update().get(pk=record_id)
        if record.status in StripeEvent.UNSETTLED:
            _note_failure(record, error)
            record.save(update_fields=RESULT_FIELDS)
    return record


def resume_held(tenant: Tenant) -> list[StripeEvent]:
    """Work on what was held because the tenant was disabled, oldest first; returns the records."""
    held = StripeEvent.objects.filter(
        tenant=tenant, status=Status.HELD, outcome="tenant_inactive"
    ).order_by("received_at", "pk")
    return [process_again(record_id) for record_id in list(held.values_list("pk", flat=True))]


def _with_retries(work: Callable[[], T]) -> T:
    for _ in range(DATABASE_TRIES - 1):
        try:
            return work()
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) not in TRANSIENT:
                raise
    return work()


def _read(body: bytes, channel: StripeEvent.Channel) -> tuple[StripeEvent, Event | None]:
    """A new record for the body, and the event in it; None, and held, where it has no event."""
    record = StripeEvent(
        id=f"sha256:{hashlib.sha256(body).hexdigest()}", payload=body, channel=channel
    )
    try:
        data = parse_object(body)
        record.id = identifier(data, "id")
        event = Event.parse(data)
    except Unparsable as error:
        _hold(record, "unparsable", error)
        return record, None
    except Malformed as error:
        _hold(record, "malformed", error)
        return record, None
    record.type = event.type
    record.object_id = event.object_id
    record.account_id = event.account_id
    record.livemode = event.livemode
    record.api_version = event.api_version
    record.created = event.created
    return record, event


def _process(record: StripeEvent, event: Event, channel: Purchase.Channel) -> None:
    """Handle the event and save the outcome; the handler's effects are all there or not at all."""
    try:
        with transaction.atomic():
            _note_done(record, _handle(event, channel))
    except Ignored as verdict:
        record.status, record.outcome = Status.IGNORED, verdict.code
        record.error = text(str(verdict))
        record.tenant, record.settled_at = verdict.tenant, timezone.now()
    except Held as verdict:
        _hold(record, verdict.code, verdict)
        record.tenant = verdict.tenant
    except Malformed as error:
        _hold(record, "malformed", error)
    except (OperationalError, InterfaceError):
        # The database's fault and not the event's: it costs the event no attempt.
        raise
    except Exception as error:
        logger.exception("stripe_event_failed", event_id=record.id, type=record.type)
        _note_failure(record, error)
    record.save(update_fields=RESULT_FIELDS)


def _handle(event: Event, channel: Purchase.Channel) -> Done:
    if event.livemode != settings.STRIPE_LIVEMODE:
        raise Ignored("other_mode", "The event is not of the mode that STRIPE_SECRET_KEY is for.")
    handler = HANDLERS.get(event.type)
    if handler is None:
        raise Ignored("unhandled_type", "Nothing here depends on events of this type.")
    origin = Origin(account_id=event.account_id, livemode=event.livemode, channel=channel)
    return handler(event, origin)


# --- how it ended

RESULT_FIELDS = [
    "tenant", "purchase", "status", "outcome", "error", "attempts", "next_attempt_at", "settled_at",
]  # fmt: skip


def _note_done(record: StripeEvent, done: Done) -> None:
    record.status, record.outcome, record.error = Status.DONE, done.code, ""
    record.tenant, record.purchase = done.tenant, done.purchase
    record.next_attempt_at, record.settled_at = None, timezone.now()


def _hold(record: StripeEvent, code: str, reason: Exception | str) -> None:
    record.status, record.outcome, record.error = Status.HELD, code, text(str(reason))
    record.next_attempt_at = None


def _note_failure(record: StripeEvent, error: Exception) -> None:
    """Plan the next attempt, or give up after the last one."""
    record.attempts += 1
    if record.attempts > len(RETRY_DELAYS):
        _hold(record, "gave_up", error)
        return
    record.status, record.outcome = Status.FAILED, type(error).__name__
    record.error = text(str(error))
    # Jitter, so that what failed together does not come back together.
    delay = RETRY_DELAYS[record.attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311
    record.next_attempt_at = timezone.now() + delay
