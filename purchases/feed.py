"""A tenant's purchase events in an order that never changes behind a reader's back."""

from django.db import connection
from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL

from purchases.errors import InvalidCursor
from purchases.models import PurchaseEvent
from tenants.models import Tenant

# The first transaction that this statement's snapshot sees under way, or that is yet to come.
# Those of other databases in the cluster are left out as far as our role can see that they are.
HORIZON = RawSQL(
    """
    SELECT COALESCE(min(number), pg_snapshot_xmax(pg_current_snapshot())::text::bigint)
    FROM (SELECT xid::text::bigint AS number FROM pg_snapshot_xip(pg_current_snapshot()) AS xid)
    AS under_way
    WHERE NOT EXISTS (
        SELECT 1 FROM pg_stat_activity
        WHERE datname <> current_database() AND backend_xid::text::bigint = mod(number, 4294967296)
    )
    """,
    (),
)
LOWEST = -(2**63)
OWN = RawSQL("pg_current_xact_id_if_assigned()::text::bigint", ())


def events_after(
    tenant: Tenant, *, transaction_id: int, event_id: int, limit: int, kind: str = ""
) -> list[PurchaseEvent]:
    """The events that follow the given one, by transaction and id.

    Ids are no order to read by: they are given out before the commit, so that one may appear
    after a higher one was read, and be missed for good. Transactions are numbered too, and on
    PostgreSQL the snapshot of this statement knows those still under way. All below the first
    are over and every later one gets a higher number, so among events of transactions below
    this horizon none can appear any more. Those above it are for the next call.
    """
    events = settled_events(tenant).filter(
        Q(transaction_id__gt=transaction_id) | Q(id__gt=event_id),
        # Says no more than the line above, but in a form that starts the index in the right place.
        transaction_id__gte=transaction_id,
    )
    if kind:
        events = events.filter(type=kind)
    return list(events.order_by("transaction_id", "id")[:limit])


def settled_events(tenant: Tenant) -> QuerySet[PurchaseEvent]:
    """Those of transactions below the horizon, and the caller's own.

    On SQLite one transaction writes at a time, so each event is there before the next id is.
    """
    events = PurchaseEvent.objects.filter(tenant=tenant)
    if connection.vendor != "postgresql":
        return events
    return events.filter(Q(transaction_id__lt=HORIZON) | Q(transaction_id=OWN))


def position_of(tenant: Tenant, cursor: int) -> tuple[int, int]:
    """The place of an event in the order, 0 being before all; or `InvalidCursor`."""
    if not cursor:
        return LOWEST, 0
    event = PurchaseEvent.objects.filter(tenant=tenant, id=cursor).first()
    if event is None:
        raise InvalidCursor
    return event.transaction_id, event.id
