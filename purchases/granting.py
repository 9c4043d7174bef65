"""Access that a tenant gives and takes by hand, beside what its members bought."""

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from purchases import ledger
from purchases.errors import GrantedByPurchase
from purchases.models import Entitlement, Product, PurchaseEvent
from tenants.models import Member

Type = PurchaseEvent.Type


@transaction.atomic
def grant(
    member: Member, product: Product, *, starts_at: datetime, ends_at: datetime | None, reason: str
) -> Entitlement:
    """Give the member the product. Periods that were bought run on beside it, unmoved."""
    ledger.lock_owner(member.tenant, member)
    entitlement = Entitlement.objects.create(
        tenant=member.tenant,
        member=member,
        product=product,
        starts_at=starts_at,
        ends_at=ends_at,
        reason=reason,
    )
    _log(Type.ENTITLEMENT_GRANTED, entitlement)
    return entitlement


@transaction.atomic
def revoke(entitlement: Entitlement, *, reason: str) -> None:
    """Take back what was granted by hand; a second time changes nothing.

    Raises `GrantedByPurchase` for what was bought: the next news of its payment would give it
    back.
    """
    if entitlement.purchase_id:
        raise GrantedByPurchase
    ledger.lock_owner(entitlement.tenant, entitlement.member)
    entitlement.refresh_from_db(fields=["revoked_at"])
    if entitlement.revoked_at:
        return
    entitlement.revoked_at = timezone.now()
    entitlement.reason = reason
    entitlement.save(update_fields=["revoked_at", "reason"])
    _log(Type.ENTITLEMENT_REVOKED, entitlement)


def _log(kind: PurchaseEvent.Type, entitlement: Entitlement) -> None:
    PurchaseEvent.objects.create(
        tenant=entitlement.tenant,
        member=entitlement.member,
        type=kind,
        data={
            "product": entitlement.product.slug,
            "starts_at": entitlement.starts_at.isoformat(),
            "ends_at": entitlement.ends_at.isoformat() if entitlement.ends_at else None,
            "reason": entitlement.reason,
            "by": "api",
        },
    )
