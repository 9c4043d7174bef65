"""When dated entitlements run: one after the other, in the order in which they were paid."""

from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from zoneinfo import ZoneInfo

from purchases import periods
from purchases.models import Entitlement, Purchase


def schedule(entitlements: Iterable[Entitlement], zone: ZoneInfo) -> list[Entitlement]:
    """Set the periods of one member's purchased entitlements; returns those that changed.

    For each product a period begins when it is paid, or when the one before it ends if that is
    later. A revoked one gives its place to the next. Those for good take no part. A period whose
    beginning stays where it was keeps its end too, whatever became of the tenant's time zone.
    """
    dated = [entitlement for entitlement in entitlements if _purchase(entitlement).duration]
    dated.sort(key=lambda entitlement: (entitlement.product_id, *_order(entitlement)))
    changed = []
    for _, line in groupby(dated, key=lambda entitlement: entitlement.product_id):
        free_from: datetime | None = None
        for entitlement in line:
            starts_at = paid_at = _order(entitlement)[0]
            if free_from and not entitlement.revoked_at:
                starts_at = max(paid_at, free_from)
            if entitlement.starts_at != starts_at:
                duration = _purchase(entitlement).duration
                entitlement.starts_at = starts_at
                entitlement.ends_at = periods.end_of(starts_at, duration, zone)
                changed.append(entitlement)
            if not entitlement.revoked_at:
                free_from = entitlement.ends_at
    return changed


def _purchase(entitlement: Entitlement) -> Purchase:
    assert entitlement.purchase is not None
    return entitlement.purchase


def _order(entitlement: Entitlement) -> tuple[datetime, str]:
    purchase = _purchase(entitlement)
    assert purchase.fulfilled_at is not None
    return purchase.fulfilled_at, str(purchase.id)
