"""From the stored facts of a purchase to what its member has.

`settle` is the only writer of entitlements and purchase events. It looks at the facts alone,
never at which event brought them, so that any order and any repetition end in the same state.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from purchases import periods
from purchases.models import Entitlement, Purchase, PurchaseEvent


@dataclass(frozen=True, slots=True)
class Target:
    """What the facts of a purchase call for."""

    status: Purchase.Status
    has_access: bool


TARGETS = {
    Purchase.PaymentStatus.UNPAID: Target(Purchase.Status.PENDING, has_access=False),
    Purchase.PaymentStatus.FAILED: Target(Purchase.Status.FAILED, has_access=False),
    Purchase.PaymentStatus.PAID: Target(Purchase.Status.PAID, has_access=True),
    Purchase.PaymentStatus.FREE: Target(Purchase.Status.PAID, has_access=True),
}
ANNOUNCED = {
    Purchase.Status.PENDING: PurchaseEvent.Type.PURCHASE_PENDING,
    Purchase.Status.FAILED: PurchaseEvent.Type.PURCHASE_FAILED,
    Purchase.Status.PAID: PurchaseEvent.Type.PURCHASE_COMPLETED,
}


def settle(purchase: Purchase, *, channel: Purchase.Channel) -> None:
    """Save the purchase and write what its facts call for and is not there yet.

    Call it inside a transaction that holds the payment's lock, with the facts set on `purchase`,
    which may be new.
    """
    is_new = purchase._state.adding
    previous = None if is_new else purchase.status
    target = TARGETS[Purchase.PaymentStatus(purchase.payment_status)]
    purchase.status = target.status
    if target.has_access and purchase.fulfilled_at is None:
        purchase.fulfilled_at = timezone.now()
        purchase.fulfilled_by = channel
    purchase.save(force_insert=is_new)

    events = []
    if target.status != previous:
        price = {"amount": purchase.amount_total, "currency": purchase.currency}
        events.append(_event(purchase, ANNOUNCED[target.status], price))
    if target.has_access:
        held = set() if is_new else set(purchase.entitlements.values_list("product_id", flat=True))
        events += _grant(
            purchase, [item for item in purchase.snapshot["products"] if item["id"] not in held]
        )
    PurchaseEvent.objects.bulk_create(events)


def _grant(purchase: Purchase, products: list[dict[str, Any]]) -> list[PurchaseEvent]:
    starts_at = purchase.fulfilled_at
    assert starts_at is not None
    assert purchase.member is not None or not products
    duration = purchase.snapshot["duration"]
    ends_at = periods.end_of(starts_at, duration, purchase.tenant.zone)
    Entitlement.objects.bulk_create(
        Entitlement(
            tenant=purchase.tenant,
            member=purchase.member,
            product_id=product["id"],
            purchase=purchase,
            starts_at=starts_at,
            ends_at=ends_at,
        )
        for product in products
    )
    period = {"starts_at": _instant(starts_at), "ends_at": _instant(ends_at)}
    return [
        _event(
            purchase,
            PurchaseEvent.Type.ENTITLEMENT_GRANTED,
            {"product": product["slug"], **period},
        )
        for product in products
    ]


def _event(purchase: Purchase, kind: PurchaseEvent.Type, data: dict[str, Any]) -> PurchaseEvent:
    return PurchaseEvent(
        tenant=purchase.tenant, member=purchase.member, purchase=purchase, type=kind, data=data
    )


def _instant(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
