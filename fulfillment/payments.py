"""What holds for one payment, whichever of its facts comes first."""

import hashlib
from typing import Any, TypeVar

from django.db import connection
from django.db.models import Exists, Func, Model, QuerySet, Subquery, TextField, Value
from django.db.models.functions import Coalesce

from fulfillment.facts import CheckoutSession
from purchases.models import Charge, Dispute, Purchase, Refund

RowT = TypeVar("RowT", bound=Model)


def lock_payment(account_id: str, payment: str) -> None:
    """Wait until no other transaction works on the payment; held until ours ends.

    Two facts about one payment could otherwise commit side by side and each miss the other.
    On SQLite a transaction is alone by its nature.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_lock_key(account_id, payment)])


def locking_payment(rows: QuerySet[RowT], account_id: str, payment: str) -> QuerySet[RowT]:
    """`lock_payment` in the round trip of a query for one row.

    The row itself may still be as it was before the lock; what is read after it is not.
    """
    if connection.vendor != "postgresql":
        return rows
    key = Value(_lock_key(account_id, payment))
    lock = Func(key, function="pg_advisory_xact_lock", output_field=TextField())
    locking: QuerySet[RowT] = rows.annotate(payment_lock=lock)
    return locking


def _lock_key(account_id: str, payment: str) -> int:
    digest = hashlib.sha256(f"{account_id} {payment}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


def known_facts(account_id: str, session: CheckoutSession) -> dict[str, Any]:
    """What is stored already about a payment, as columns for the query that finds its sale.

    In the same round trip, because nearly always there is nothing. It has to run under the lock.
    """
    payment = {"account_id": account_id, "payment_intent_id": session.payment_intent_id}
    charges = Charge.objects.filter(**payment).exclude(payment_intent_id="")
    taken = charges.filter(status=Charge.Status.SUCCEEDED).values("id")[:1]
    return {
        "charge_id": Coalesce(Subquery(taken), Value("")),
        "is_reversed": Exists(charges.filter(amount_refunded__gt=0))
        | Exists(Refund.objects.filter(**payment))
        | Exists(Dispute.objects.filter(**payment)),
        "is_known": Exists(
            Purchase.objects.filter(account_id=account_id, checkout_session_id=session.id)
        ),
    }
