"""The quarantine: deliveries that look real but that no secret of ours signed.

With a wrong secret Stripe is answered 200 and never sends again. What is here is let in by
`reverify` once the secret is right. Anybody can send such a delivery, so there is room for few.
"""

import enum
from datetime import timedelta

import structlog
from django.db import DatabaseError, InterfaceError, transaction
from django.utils import timezone

from fulfillment import inbox
from fulfillment.models import RejectedDelivery, StripeEvent
from fulfillment.signatures import InvalidSignature, NoSecretMatches, verify_signature

logger = structlog.get_logger(__name__)

MAX_BODY = 64 * 1024
MAX_ROWS = 1_000
MAX_PER_SECOND = 5

ALARM_WINDOW = timedelta(minutes=10)
ALARM_COUNT = 5
ALARM = (
    "Stripe's deliveries are refused: at least 5 in the last 10 minutes, and none was accepted. "
    "Copy the endpoint's signing secret from Stripe into STRIPE_WEBHOOK_SECRET and restart, then "
    "run `manage.py reverify`: what was refused is kept until then."
)


def keep(body: bytes, error: InvalidSignature) -> bool:
    """Keep a delivery that was refused if it looks real and there is room; whether it was kept.

    Never raises: a database that can't take it only loses what may have been nothing.
    """
    if not isinstance(error, NoSecretMatches) or not error.header or len(body) > MAX_BODY:
        return False
    try:
        return _insert(RejectedDelivery(body=body, signature=error.header, reason=str(error)[:255]))
    except (DatabaseError, InterfaceError) as problem:
        logger.warning("quarantine_failed", error=type(problem).__name__)
        return False


def _insert(delivery: RejectedDelivery) -> bool:
    # Counted without a lock, which a flood would queue up for: a few more may slip in.
    a_second_ago = timezone.now() - timedelta(seconds=1)
    if RejectedDelivery.objects.filter(received_at__gt=a_second_ago).count() >= MAX_PER_SECOND:
        return False
    with transaction.atomic():
        delivery.save(force_insert=True)
        # By number and not by count: one step along the index, and right in any interleaving.
        RejectedDelivery.objects.filter(pk__lte=delivery.pk - MAX_ROWS).delete()
    return True


class Verdict(enum.StrEnum):
    """What became of a kept delivery that was verified again."""

    ADMITTED = "admitted"
    GENUINE = "genuine, and left for now"
    STILL_REJECTED = "still rejected"
    NOT_STORED = "genuine, but the database refused it; try again"
    GONE = "gone: another run took it"


def verify_again(delivery_id: int, *, dry_run: bool = False) -> tuple[Verdict, StripeEvent | None]:
    """Hand a kept delivery to the inbox if a secret of now signed it; its age is that at receipt.

    It is deleted only after the inbox has committed it, so two callers at once do no harm.
    """
    delivery = RejectedDelivery.objects.filter(pk=delivery_id).first()
    if delivery is None:
        return Verdict.GONE, None
    body, received_at = bytes(delivery.body), delivery.received_at
    try:
        secret = verify_signature(body, delivery.signature, received_at=received_at)
    except InvalidSignature:
        return Verdict.STILL_REJECTED, None
    if dry_run:
        return Verdict.GENUINE, None
    try:
        record, _ = inbox.receive(
            body,
            channel=StripeEvent.Channel.WEBHOOK,
            received_at=received_at,
            signed_by=secret.fingerprint,
        )
    except (DatabaseError, InterfaceError) as error:
        logger.warning("reverify_refused", error=type(error).__name__)
        return Verdict.NOT_STORED, None
    RejectedDelivery.objects.filter(pk=delivery_id).delete()
    return Verdict.ADMITTED, record


def rejected_lately() -> int:
    return RejectedDelivery.objects.filter(received_at__gt=timezone.now() - ALARM_WINDOW).count()


def is_alarming() -> bool:
    """Whether Stripe's deliveries arrive but, it seems, none with a secret that we know."""
    recent = StripeEvent.objects.delivered().filter(received_at__gt=timezone.now() - ALARM_WINDOW)
    return not recent.exists() and rejected_lately() >= ALARM_COUNT
