"""What happens to the money of a payment: charges, refunds and disputes.

Each is kept for its payment whether or not the purchase is known yet; once it is, it is settled
again. An object of another account names nothing of ours, whatever ids it has.
"""

from datetime import datetime
from typing import Any

from fulfillment.facts import ChargeFacts, ReversalFacts
from fulfillment.outcomes import Done, Held, Ignored
from fulfillment.sales import Origin
from purchases.ledger import lock_owner
from purchases.models import Charge, Dispute, Purchase, Refund
from purchases.settling import reversals_of, settle
from purchases.targets import DISPUTE_OVER, is_inquiry
from tenants.models import Tenant

# A refund only moves to the right: one that succeeded may fail, one that failed stays so
# (docs.stripe.com/refunds, "Failed refunds").
REFUND_PROGRESS = ["pending", "requires_action", "succeeded", "canceled", "failed"]


def record_charge(charge: ChargeFacts, *, origin: Origin) -> Done:
    """Keep a charge, and what Stripe says was refunded of it.

    A charge grants nothing: a declined card may be followed by one that works, and the session
    says when the purchase is paid.
    """
    tenant = _lock(charge.payment_intent_id, origin)
    kept, is_new = Charge.objects.get_or_create(
        id=charge.id,
        defaults={
            **_payment(charge.payment_intent_id, origin),
            "livemode": origin.livemode,
            "amount": charge.amount,
            "currency": charge.currency,
            "status": charge.status,
            "failure_code": charge.failure_code,
            "amount_refunded": charge.amount_refunded,
        },
    )
    _require_same_account(kept, tenant, origin)
    if not is_new:
        # Whatever the order of arrival, success and the highest sum have the last word.
        if charge.status == Charge.Status.SUCCEEDED:
            kept.status = charge.status
        kept.amount_refunded = max(kept.amount_refunded, charge.amount_refunded)
        kept.save(update_fields=["status", "amount_refunded"])
    purchase = _purchase(charge.payment_intent_id, origin)
    if purchase and charge.status == Charge.Status.SUCCEEDED:
        purchase.charge_id = purchase.charge_id or charge.id
        purchase.save(update_fields=["charge_id"])
    if purchase and charge.amount_refunded:
        _settle_again(purchase, origin)
    return _done("charge_recorded", tenant, purchase)


def record_refund(refund: ReversalFacts, *, origin: Origin) -> Done:
    payment = _payment_of(refund, origin)
    tenant = _lock(payment, origin)
    kept, is_new = Refund.objects.get_or_create(
        id=refund.id,
        defaults={
            **_payment(payment, origin),
            "amount": refund.amount,
            "status": refund.status,
        },
    )
    _require_same_account(kept, tenant, origin)
    if not is_new and _progress(refund.status) > _progress(kept.status):
        kept.status = refund.status
        kept.save(update_fields=["status"])
    return _reversed("refund_recorded", payment, tenant, origin)


def record_dispute(dispute: ReversalFacts, *, said_at: datetime, origin: Origin) -> Done:
    """Keep a dispute as it stood at `said_at` (UTC), unless we know how it stood later."""
    payment = _payment_of(dispute, origin)
    tenant = _lock(payment, origin)
    kept, is_new = Dispute.objects.get_or_create(
        id=dispute.id,
        defaults={
            **_payment(payment, origin),
            "amount": dispute.amount,
            "status": dispute.status,
            "status_at": said_at,
        },
    )
    _require_same_account(kept, tenant, origin)
    if not is_new and _standing(dispute.status, said_at) > _standing(kept.status, kept.status_at):
        kept.status, kept.status_at, kept.amount = dispute.status, said_at, dispute.amount
        kept.save(update_fields=["status", "status_at", "amount"])
    return _reversed("dispute_recorded", payment, tenant, origin)


def _progress(status: str) -> int:
    return REFUND_PROGRESS.index(status) if status in REFUND_PROGRESS else -1


def _standing(status: str, said_at: datetime) -> tuple[Any, ...]:
    # An end beats anything before it, whenever that arrives; else the later word counts. Stripe's
    # times are whole seconds, so the status itself decides between equal ones.
    return status in DISPUTE_OVER, said_at, not is_inquiry(status), status


def _payment_of(reversal: ReversalFacts, origin: Origin) -> str:
    if reversal.payment_intent_id:
        return reversal.payment_intent_id
    charges = Charge.objects.filter(id=reversal.charge_id, account_id=origin.account_id)
    return charges.values_list("payment_intent_id", flat=True).first() or ""


def _lock(payment_intent_id: str, origin: Origin) -> Tenant | None:
    if not payment_intent_id:
        raise Ignored("not_ours", "Without a payment intent it belongs to no checkout.")
    tenant = origin.lock(payment_intent_id)
    if origin.account_id and tenant is None:
        raise Ignored("not_ours", "No tenant has connected this account.")
    return tenant


def _require_same_account(
    kept: Charge | Refund | Dispute, tenant: Tenant | None, origin: Origin
) -> None:
    # Ids are unique across Stripe: no other account has anything to say about this one.
    if kept.account_id != origin.account_id:
        raise Held("account_mismatch", f"{kept.pk} is of another account.", tenant=tenant)


def _payment(payment_intent_id: str, origin: Origin) -> dict[str, Any]:
    return {"account_id": origin.account_id, "payment_intent_id": payment_intent_id}


def _purchase(payment_intent_id: str, origin: Origin) -> Purchase | None:
    purchases = Purchase.objects.select_related("tenant", "member")
    return purchases.filter(**_payment(payment_intent_id, origin)).first()


def _reversed(code: str, payment: str, tenant: Tenant | None, origin: Origin) -> Done:
    purchase = _purchase(payment, origin)
    if purchase:
        _settle_again(purchase, origin)
    return _done(code, tenant, purchase)


def _settle_again(purchase: Purchase, origin: Origin) -> None:
    lock_owner(purchase.tenant, purchase.member)
    settle(purchase, channel=origin.channel, reversals=reversals_of(purchase))


def _done(code: str, tenant: Tenant | None, purchase: Purchase | None) -> Done:
    return Done(code=code, tenant=purchase.tenant if purchase else tenant, purchase=purchase)
