"""What holds for one payment, whichever of its facts comes first."""

import hashlib
from typing import TypeVar

from django.db import connection
from django.db.models import Func, Model, QuerySet, Subquery, TextField, Value

from purchases.models import Charge

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


def charge_of(account_id: str, payment_intent_id: str) -> Subquery:
    """The id of the charge that took a payment's money, as a column for another query."""
    return Subquery(
        Charge.objects.filter(
            account_id=account_id,
            payment_intent_id=payment_intent_id,
            status=Charge.Status.SUCCEEDED,
        )
        .exclude(payment_intent_id="")
        .values("id")[:1]
    )
