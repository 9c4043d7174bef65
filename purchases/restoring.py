"""After a dump was restored into another PostgreSQL cluster, whose transactions count from one.

The feed takes the events in it for those of transactions still to come and holds them back.
"""

from django.db import connection, transaction
from django.db.models import F, Max, QuerySet
from django.db.models.expressions import RawSQL

from purchases.feed import LOWEST
from purchases.models import NotificationEndpoint, PurchaseEvent

NEXT = RawSQL("pg_snapshot_xmax(pg_current_snapshot())::text::bigint", ())
TABLE = PurchaseEvent._meta.db_table


def events_of_another_cluster() -> QuerySet[PurchaseEvent]:
    """Those of transactions that this cluster has not begun yet."""
    if connection.vendor != "postgresql":
        return PurchaseEvent.objects.none()
    return PurchaseEvent.objects.filter(transaction_id__gte=NEXT)


@transaction.atomic
def renumber_events() -> int:
    """Put what was written elsewhere before all that is written here; returns how many lines.

    Their order stays, and with it what a reader's position in the feed stands for. The one place
    where lines of the log change, and only in their number.
    """
    last = events_of_another_cluster().aggregate(id=Max("id"), number=Max("transaction_id"))
    if last["id"] is None:
        return 0
    # All lines of the dump have lower ids than any written since. Their numbers tell less: this
    # cluster may have used the first of them too by now.
    restored = PurchaseEvent.objects.filter(id__lte=last["id"])
    shift = last["number"] + 1
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} DISABLE TRIGGER {TABLE}_append_only")
        moved = restored.update(transaction_id=F("transaction_id") - shift)
        cursor.execute(f"ALTER TABLE {TABLE} ENABLE TRIGGER {TABLE}_append_only")
    readers = NotificationEndpoint.objects
    readers.filter(last_event_id__range=(1, last["id"])).update(
        last_transaction_id=F("last_transaction_id") - shift
    )
    # Made before the tenant's first event, so what was restored came after it.
    readers.filter(last_event_id=0).update(last_transaction_id=LOWEST)
    return moved
