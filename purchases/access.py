"""What a member's session may see, read from the database each time."""

from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from purchases import ledger
from purchases.models import Entitlement, EntitlementQuerySet, Purchase
from tenants import tokens
from tenants.models import MemberSession


def entitlements_of(session: MemberSession) -> EntitlementQuerySet:
    """The active entitlements that the session may see.

    An unauthenticated session knows no more than an e-mail typed at Stripe, so it sees only
    what its own purchase granted.
    """
    entitlements = Entitlement.objects.active().filter(member=session.member)
    if not session.authenticated:
        entitlements = entitlements.filter(purchase=session.purchase_id)
    return entitlements.select_related("product").order_by("starts_at", "id")


def entitlements_after(session: MemberSession, purchase: Purchase) -> EntitlementQuerySet:
    """What the session may see just after the purchase: also what of it starts later."""
    mine = Entitlement.objects.filter(member=session.member).select_related("product")
    bought = Q(purchase=purchase, suspended_at=None, revoked_at=None)
    return mine.filter(bought | Q(id__in=entitlements_of(session).values("id"))).order_by(
        "starts_at", "id"
    )


def purchases_of(session: MemberSession) -> QuerySet[Purchase]:
    """The purchases that the session may see, the latest first."""
    purchases = Purchase.objects.filter(member=session.member)
    if not session.authenticated:
        purchases = purchases.filter(Q(id=session.purchase_id))
    return purchases.order_by("-created_at", "id")


def credits_of(session: MemberSession) -> int:
    """The member's balance; a session that proved nothing sees none."""
    if not session.authenticated:
        return 0
    return ledger.balance_of(session.member.tenant, session.member)


def token_fields(
    session: MemberSession, refresh_token: str, *, issued_at: datetime | None = None
) -> dict[str, Any]:
    """The part of an answer that signs a browser in; `expires_at` is the JWT's (UTC)."""
    slugs = sorted({entitlement.product.slug for entitlement in entitlements_of(session)})
    member_jwt, expires_at = tokens.issue_jwt(session, products=slugs, issued_at=issued_at)
    return {"jwt": member_jwt, "expires_at": expires_at, "refresh_token": refresh_token}
