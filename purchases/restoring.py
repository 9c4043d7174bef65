"""After a dump was restored into another PostgreSQL cluster, whose transactions count from one.

The feed takes the events in it for those of transactions still to come and holds them back.
"""

from django.db import connection, transaction
from django.db.models import F, Max, Q, QuerySet
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
    highest = events_of_another_cluster().aggregate(highest=Max("transaction_id"))["highest"]
    if highest is None:
        return 0
    earlier = F("transaction_id") - highest - 1
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} DISABLE TRIGGER {TABLE}_append_only")
        elsewhere = Q(transaction_id__gte=NEXT) | Q(transaction_id__lt=0)
        moved = PurchaseEvent.objects.filter(elsewhere).update(transaction_id=earlier)
        cursor.execute(f"ALTER TABLE {TABLE} ENABLE TRIGGER {TABLE}_append_only")
    read = NotificationEndpoint.objects
    read.filter(Q(last_transaction_id__gte=NEXT) | Q(last_transaction_id__lt=0)).update(
        last_transaction_id=F("last_transaction_id") - highest - 1
    )
    # Made before the tenant's first event, so what was restored came after it.
    read.filter(last_event_id=0).update(last_transaction_id=LOWEST)
    return moved
