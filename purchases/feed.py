"""A tenant's purchase events in an order in which none is ever missed."""

from django.db import connection
from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL

from purchases.models import PurchaseEvent
from tenants.models import Tenant

HORIZON = RawSQL("pg_snapshot_xmin(pg_current_snapshot())::text::bigint", ())
OWN = RawSQL("pg_current_xact_id_if_assigned()::text::bigint", ())


def events_after(
    tenant: Tenant, *, transaction_id: int, event_id: int, limit: int
) -> list[PurchaseEvent]:
    """The settled events after that position, ordered by (transaction_id, id)."""
    later = settled_events(tenant).filter(
        Q(transaction_id__gt=transaction_id) | Q(id__gt=event_id),
        transaction_id__gte=transaction_id,
    )
    return list(later.order_by("transaction_id", "id")[:limit])


def settled_events(tenant: Tenant) -> QuerySet[PurchaseEvent]:
    """Those before which none can appear any more, and the caller's own.

    On PostgreSQL an id is given out before the commit, so one may appear after a higher one was
    read. Transactions below the horizon of this statement's snapshot are over for good.
    """
    events = PurchaseEvent.objects.filter(tenant=tenant)
    if connection.vendor != "postgresql":
        return events
    return events.filter(Q(transaction_id__lt=HORIZON) | Q(transaction_id=OWN))
