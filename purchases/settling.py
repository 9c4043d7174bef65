"""From the stored facts of a purchase to what its member has.

`settle` is the only writer of entitlements, of credits bought and of purchase events. It looks at
the facts alone, never at which event brought them, so that any order and any repetition end in
the same state.
"""

from typing import Any

from django.db.models import Max, Sum
from django.utils import timezone

from purchases import ledger, periods
from purchases.models import (
    Charge,
    CreditEntry,
    Dispute,
    Entitlement,
    Purchase,
    PurchaseEvent,
    Refund,
)
from purchases.schedule import schedule
from purchases.targets import NO_REVERSALS, Access, Reversals, Target, target_of

Status = Purchase.Status
Type = PurchaseEvent.Type
UNFULFILLED = (None, Status.PENDING, Status.FAILED)
ANNOUNCED: dict[str, PurchaseEvent.Type] = {
    Status.PENDING: Type.PURCHASE_PENDING,
    Status.FAILED: Type.PURCHASE_FAILED,
    Status.REFUNDED: Type.PURCHASE_REFUNDED,
    Status.DISPUTED: Type.PURCHASE_DISPUTED,
    Status.LOST: Type.DISPUTE_LOST,
}
REASONS = {
    Status.REFUNDED: "refunded",
    Status.LOST: "dispute lost",
    Status.DISPUTED: "dispute open",
}


def reversals_of(purchase: Purchase) -> Reversals:
    """The stored facts about money of this payment going back."""
    if not purchase.payment_intent_id:
        return NO_REVERSALS
    payment = {
        "account_id": purchase.account_id,
        "payment_intent_id": purchase.payment_intent_id,
    }
    highest = Charge.objects.filter(**payment).aggregate(highest=Max("amount_refunded"))
    return Reversals(
        refunds=tuple(Refund.objects.filter(**payment).values_list("amount", "status")),
        amount_refunded=highest["highest"] or 0,
        disputes=tuple(Dispute.objects.filter(**payment).values_list("status", flat=True)),
    )


def settle(
    purchase: Purchase, *, channel: Purchase.Channel, reversals: Reversals = NO_REVERSALS
) -> None:
    """Save the purchase and write what its facts call for and is not there yet.

    Call it in a transaction that holds the payment's lock and the owner's (`ledger.lock_owner`),
    with the facts set on `purchase`, which may be new.
    """
    is_new = purchase._state.adding
    before = None if is_new else Status(purchase.status), purchase.refunded_amount
    target = target_of(
        Purchase.PaymentStatus(purchase.payment_status),
        total=purchase.amount_total,
        bought=purchase.snapshot["credits"],
        reversals=reversals,
    )
    purchase.status, purchase.refunded_amount = target.status, target.refunded
    if target.access is not Access.NONE and purchase.fulfilled_at is None:
        purchase.fulfilled_at = timezone.now()
        purchase.fulfilled_by = channel
    purchase.save(force_insert=is_new)

    events = _announce(purchase, *before)
    if target.access is not Access.NONE:
        events += _settle_access(purchase, target, is_new=is_new)
        events += _settle_credits(purchase, target, is_new=is_new)
    PurchaseEvent.objects.bulk_create(events)


def _announce(purchase: Purchase, status: Status | None, refunded: int) -> list[PurchaseEvent]:
    """What happened to the purchase as a whole, since it was in that status."""
    kinds = []
    if purchase.status != status:
        if status in UNFULFILLED and purchase.status not in UNFULFILLED:
            kinds.append(Type.PURCHASE_COMPLETED)
        if purchase.status in ANNOUNCED:
            kinds.append(ANNOUNCED[purchase.status])
        elif status in (Status.DISPUTED, Status.LOST):
            kinds.append(Type.DISPUTE_WON)
    if purchase.refunded_amount != refunded and purchase.status != Status.REFUNDED:
        is_all = purchase.refunded_amount == purchase.amount_total
        kinds.append(Type.PURCHASE_REFUNDED if is_all else Type.PURCHASE_PARTIALLY_REFUNDED)
    data = {
        "amount": purchase.amount_total,
        "refunded_amount": purchase.refunded_amount,
        "currency": purchase.currency,
    }
    return [_event(purchase, kind, data) for kind in kinds]


# --- access


def _settle_access(purchase: Purchase, target: Target, *, is_new: bool) -> list[PurchaseEvent]:
    products = {item["id"]: item["slug"] for item in purchase.snapshot["products"]}
    if not products:
        return []
    # Periods follow those that the member bought before, of whom a new member has none.
    is_alone = is_new and (purchase.member_is_new or not purchase.duration)
    known = [] if is_alone else _purchased(purchase, products)
    own = [row for row in known if row.purchase_id == purchase.id]
    granted = {row.product_id for row in own}
    missing = [_entitlement(purchase, item) for item in products if item not in granted]
    changes = [(row, kind) for row in [*own, *missing] if (kind := _set_access(row, target))]
    moved = schedule([*known, *missing], purchase.tenant.zone)
    Entitlement.objects.bulk_create(missing)
    if changed := {row for row, _ in changes}.union(moved).difference(missing):
        Entitlement.objects.bulk_update(changed, ACCESS_FIELDS)
    return [
        *(_entitlement_event(purchase, Type.ENTITLEMENT_GRANTED, row, products) for row in missing),
        *(_entitlement_event(purchase, kind, row, products) for row, kind in changes),
    ]


ACCESS_FIELDS = ["starts_at", "ends_at", "suspended_at", "revoked_at", "reason"]


def _purchased(purchase: Purchase, products: dict[int, str]) -> list[Entitlement]:
    rows = Entitlement.objects.filter(
        member=purchase.member, product__in=products, purchase__isnull=False
    )
    return list(rows.select_related("purchase"))


def _entitlement(purchase: Purchase, product_id: int) -> Entitlement:
    starts_at = purchase.fulfilled_at
    assert starts_at is not None
    assert purchase.member is not None
    return Entitlement(
        tenant=purchase.tenant,
        member=purchase.member,
        product_id=product_id,
        purchase=purchase,
        starts_at=starts_at,
        ends_at=periods.end_of(starts_at, purchase.duration, purchase.tenant.zone),
    )


def _set_access(row: Entitlement, target: Target) -> PurchaseEvent.Type | None:
    """Suspend, revoke or restore the entitlement; returns what that was, if anything."""
    before = row.suspended_at is not None, row.revoked_at is not None
    after = target.access is Access.SUSPENDED, target.access is Access.REVOKED
    if before == after:
        return None
    now = timezone.now()
    row.suspended_at, row.revoked_at = now if after[0] else None, now if after[1] else None
    row.reason = REASONS.get(target.status, "")
    if after[1]:
        return Type.ENTITLEMENT_REVOKED
    return Type.ENTITLEMENT_SUSPENDED if after[0] else Type.ENTITLEMENT_RESTORED


# --- credits


def _settle_credits(purchase: Purchase, target: Target, *, is_new: bool) -> list[PurchaseEvent]:
    bought = purchase.snapshot["credits"]
    if not bought:
        return []
    events = []
    entries = CreditEntry.objects.filter(purchase=purchase)
    held = None if is_new else entries.aggregate(held=Sum("amount"))["held"]
    if held is None:
        _post(purchase, CreditEntry.Kind.PURCHASE, bought)
        events.append(_event(purchase, Type.CREDITS_ADDED, {"credits": bought}))
        held = bought
    if difference := target.credits - held:
        _post(purchase, CreditEntry.Kind.REFUND, difference)
        kind = Type.CREDITS_RESTORED if difference > 0 else Type.CREDITS_DEDUCTED
        events.append(_event(purchase, kind, {"credits": difference}))
    return events


def _post(purchase: Purchase, kind: CreditEntry.Kind, amount: int) -> None:
    ledger.post(purchase.tenant, purchase.member, kind=kind, amount=amount, purchase=purchase)


def _entitlement_event(
    purchase: Purchase, kind: PurchaseEvent.Type, row: Entitlement, slugs: dict[int, str]
) -> PurchaseEvent:
    data = {
        "product": slugs[row.product_id],
        "starts_at": row.starts_at.isoformat(),
        "ends_at": row.ends_at.isoformat() if row.ends_at else None,
    }
    return _event(purchase, kind, data)


def _event(purchase: Purchase, kind: PurchaseEvent.Type, data: dict[str, Any]) -> PurchaseEvent:
    return PurchaseEvent(
        tenant=purchase.tenant, member=purchase.member, purchase=purchase, type=kind, data=data
    )
