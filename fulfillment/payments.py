"""What holds for one payment, whichever of its facts comes first."""

import hashlib

from django.db import connection
from django.db.models import Subquery

from purchases.models import Charge


def lock_payment(account_id: str, payment: str) -> None:
    """Wait until no other transaction works on the payment; held until ours ends.

    Two facts about one payment could otherwise commit side by side and each miss the other.
    On SQLite a transaction is alone by its nature.
    """
    if connection.vendor == "postgresql":
        digest = hashlib.sha256(f"{account_id} {payment}".encode()).digest()
        key = int.from_bytes(digest[:8], signed=True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])


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
