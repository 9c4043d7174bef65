"""Which sale of ours a Checkout Session is: who sold it and what was sold.

All of it comes from our own rows. What a session says of itself is only a hint where to look,
because the owner of a connected account can write any metadata into its sessions.
"""

from dataclasses import dataclass
from typing import Any

import structlog
from django.db.models import Q

from fulfillment.facts import NIL, CheckoutSession, text
from fulfillment.models import Checkout
from fulfillment.outcomes import Held, Ignored
from fulfillment.payments import charge_of, lock_payment, locking_payment
from purchases import catalog
from purchases.models import CreditPackage, Plan, Purchase
from tenants.models import Member, PaymentAccount, Tenant

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """On whose Stripe account something happened (blank: the platform's) and who told us."""

    account_id: str
    livemode: bool
    channel: Purchase.Channel

    def lock(self, payment: str) -> Tenant | None:
        """Lock the payment; returns the tenant that connected the account, now or once.

        None for the platform's own account, and for one that no tenant has connected.
        """
        if not self.account_id:
            lock_payment(self.account_id, payment)
            return None
        accounts = PaymentAccount.objects.select_related("tenant").filter(
            stripe_account_id=self.account_id, livemode=self.livemode
        )
        account = locking_payment(accounts, self.account_id, payment).first()
        return account.tenant if account else None


def seller_of(session: CheckoutSession, origin: Origin) -> Tenant | None:
    """The tenant whose account this is, None for the platform's own; the payment is locked.

    The account decides. Its owner can write any metadata into its sessions, so metadata that
    names another tenant is a mistake or an attack, and never followed.
    """
    owner = origin.lock(session.payment_intent_id or session.id)
    if not origin.account_id:
        return None
    claimed = session.metadata.get("tenant_id")
    if claimed is None:
        if owner is None:
            raise not_ours()
        return owner
    if owner is None or claimed != str(owner.id):
        logger.warning(
            "security_tenant_mismatch",
            session_id=session.id,
            account=origin.account_id,
            account_tenant=owner and str(owner.id),
            claimed_tenant=repr(claimed)[:80],
        )
        raise Held(
            "tenant_mismatch",
            f"The account is {owner.slug if owner else 'no tenant'}'s, "
            "but metadata.tenant_id names another tenant.",
            tenant=owner,
        )
    return owner


def checkout_of(session: CheckoutSession, tenant: Tenant | None, origin: Origin) -> Checkout | None:
    """Our own row for the session, found by the session's id or by the id in its metadata.

    The latter only while the row has no session yet: we may have crashed between opening the
    session at Stripe and noting its id.
    """
    claimed = session.named_id("checkout_id")
    checkouts = (
        Checkout.objects.select_related("tenant", "member", "purchase__tenant", "purchase__member")
        .filter(account_id=origin.account_id, livemode=origin.livemode)
        .annotate(charge_id=charge_of(origin.account_id, session.payment_intent_id))
    )
    if tenant:
        checkouts = checkouts.filter(tenant=tenant)
    found = list(checkouts.filter(Q(stripe_session_id=session.id) | Q(id=claimed)))
    for checkout in found:
        if checkout.stripe_session_id == session.id:
            return checkout
    for checkout in found:
        if checkout.stripe_session_id is None:
            return checkout
    if claimed != NIL and (found or "tenant_id" in session.metadata):
        raise Held(
            "session_mismatch",
            "metadata.checkout_id names a checkout that was opened with another session, "
            "or on another account.",
            tenant=tenant,
        )
    return None


def known_purchase(
    session: CheckoutSession, checkout: Checkout | None, tenant: Tenant | None, origin: Origin
) -> Purchase | None:
    if checkout:
        return checkout.purchase
    purchases = Purchase.objects.select_related("tenant", "member").filter(
        checkout_session_id=session.id, account_id=origin.account_id
    )
    return (purchases.filter(tenant=tenant) if tenant else purchases).first()


def new_purchase(
    session: CheckoutSession, checkout: Checkout | None, tenant: Tenant | None, origin: Origin
) -> Purchase:
    """The purchase that the session makes, not saved yet and without its buyer."""
    if checkout:
        sold = _sold_by_checkout(checkout)
    elif tenant:
        sold = _sold_by_payment_link(session, tenant, origin)
    else:
        sold = _sold_as_package(session, origin)
    return Purchase(
        **sold,
        checkout_session_id=session.id,
        account_id=origin.account_id,
        livemode=origin.livemode,
        amount_subtotal=session.amount_subtotal or 0,
        amount_total=session.amount_total or 0,
        currency=session.currency,
        payment_status=Purchase.PaymentStatus.UNPAID,
    )


def _sold_by_checkout(checkout: Checkout) -> dict[str, Any]:
    return {
        "tenant": checkout.tenant,
        "member": checkout.member,
        "plan_id": checkout.plan_id,
        "package_id": checkout.package_id,
        "snapshot": checkout.snapshot,
        "charge_id": getattr(checkout, "charge_id", None) or "",
    }


def _sold_by_payment_link(
    session: CheckoutSession, tenant: Tenant, origin: Origin
) -> dict[str, Any]:
    """The plan that a session names which the tenant opened without us, as it is sold now."""
    if "tenant_id" not in session.metadata or "plan_id" not in session.metadata:
        raise not_ours()
    plans = Plan.objects.filter(id=session.named_id("plan_id"), offer__tenant=tenant)
    charge_id = charge_of(origin.account_id, session.payment_intent_id)
    rows = list(plans.annotate(charge_id=charge_id).values(*catalog.PLAN_COLUMNS, "charge_id"))
    if not rows:
        raise Held("unknown_plan", "metadata.plan_id is no plan of this tenant.", tenant=tenant)
    return {
        "tenant": tenant,
        "member": _named_member(session, tenant),
        "plan_id": rows[0]["id"],
        "snapshot": catalog.snapshot_of_rows(rows),
        "charge_id": rows[0]["charge_id"] or "",
    }


def _named_member(session: CheckoutSession, tenant: Tenant) -> Member | None:
    # A tenant may name its own member; the query is scoped, so it can name no one else's.
    if "member_id" not in session.metadata:
        return None
    return Member.objects.filter(tenant=tenant, id=session.named_id("member_id")).first()


def _sold_as_package(session: CheckoutSession, origin: Origin) -> dict[str, Any]:
    """The credit package that a session on the platform's own account names."""
    if "tenant_id" not in session.metadata or "package" not in session.metadata:
        raise not_ours()
    tenant = Tenant.objects.filter(id=session.named_id("tenant_id")).first()
    if tenant is None:
        raise Held("unknown_tenant", "metadata.tenant_id is no tenant.")
    charge_id = charge_of(origin.account_id, session.payment_intent_id)
    package = (
        CreditPackage.objects.filter(key=text(session.metadata["package"]))
        .annotate(charge_id=charge_id)
        .first()
    )
    if package is None:
        raise Held("unknown_package", "metadata.package is no credit package.", tenant=tenant)
    if session.metadata.get("credits") not in (None, str(package.credits)):
        raise Held(
            "credits_mismatch",
            f"metadata.credits is not the {package.credits} of {package.key}.",
            tenant=tenant,
        )
    return {
        "tenant": tenant,
        "package_id": package.key,
        "snapshot": catalog.snapshot_of_package(package),
        "charge_id": package.charge_id or "",
    }


def not_ours() -> Ignored:
    return Ignored(
        "not_ours",
        "The session names no checkout, plan or credit package of ours. To see a purchase, run "
        "`manage.py simulate checkout` or make a test checkout; see docs/developing.md.",
    )
