"""Which sale of ours a Checkout Session is: who sold it and what was sold.

All of it comes from our own rows. What a session says of itself is only a hint where to look,
because the owner of a connected account can write any metadata into its sessions.
"""

import uuid
from dataclasses import dataclass
from typing import Any

import structlog
from django.db.models import Q

from fulfillment.facts import NIL, CheckoutSession, text
from fulfillment.models import Checkout
from fulfillment.outcomes import Held, Ignored
from fulfillment.payments import known_facts, lock_payment, locking_payment
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
        .annotate(**known_facts(origin.account_id, session))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """What a session sold. `purchase` is there once the sale has been recorded.

    `is_reversed`: money may have gone back already, before we heard of the sale.
    """

    tenant: Tenant
    snapshot: dict[str, Any]
    purchase: Purchase | None = None
    plan_id: uuid.UUID | None = None
    package_id: str | None = None
    member: Member | None = None
    charge_id: str = ""
    is_reversed: bool = True


def sale_of(
    session: CheckoutSession, checkout: Checkout | None, tenant: Tenant | None, origin: Origin
) -> Sale:
    """The sale that the session is; raises `Ignored` or `Held` where it is none of ours."""
    if checkout:
        return Sale(
            tenant=checkout.tenant,
            snapshot=checkout.snapshot,
            purchase=checkout.purchase,
            plan_id=checkout.plan_id,
            package_id=checkout.package_id,
            member=checkout.member,
            **_facts(vars(checkout)),
        )
    if tenant:
        return _sale_of_payment_link(session, tenant, origin)
    return _sale_of_package(session, origin)


def _sale_of_payment_link(session: CheckoutSession, tenant: Tenant, origin: Origin) -> Sale:
    """The plan that a session names which the tenant opened without us, as it is sold now."""
    if "tenant_id" not in session.metadata or "plan_id" not in session.metadata:
        raise not_ours()
    plans = Plan.objects.filter(id=session.named_id("plan_id"), offer__tenant=tenant)
    facts = known_facts(origin.account_id, session)
    rows = list(plans.annotate(**facts).values(*catalog.PLAN_COLUMNS, *facts))
    if not rows or rows[0]["is_known"]:
        if purchase := _known_purchase(session, origin):
            return Sale(tenant=tenant, snapshot=purchase.snapshot, purchase=purchase)
        raise Held("unknown_plan", "metadata.plan_id is no plan of this tenant.", tenant=tenant)
    return Sale(
        tenant=tenant,
        snapshot=catalog.snapshot_of_rows(rows),
        plan_id=rows[0]["id"],
        member=_named_member(session, tenant),
        **_facts(rows[0]),
    )


def _named_member(session: CheckoutSession, tenant: Tenant) -> Member | None:
    # A tenant may name its own member; the query is scoped, so it can name no one else's.
    if "member_id" not in session.metadata:
        return None
    return Member.objects.filter(tenant=tenant, id=session.named_id("member_id")).first()


def _sale_of_package(session: CheckoutSession, origin: Origin) -> Sale:
    """The credit package that a session on the platform's own account names."""
    if "tenant_id" not in session.metadata or "package" not in session.metadata:
        raise not_ours()
    tenant = Tenant.objects.filter(id=session.named_id("tenant_id")).first()
    if tenant is None:
        raise Held("unknown_tenant", "metadata.tenant_id is no tenant.")
    packages = CreditPackage.objects.filter(key=text(session.metadata["package"]))
    package = packages.annotate(**known_facts(origin.account_id, session)).first()
    if package is None or vars(package)["is_known"]:
        if purchase := _known_purchase(session, origin):
            return Sale(tenant=tenant, snapshot=purchase.snapshot, purchase=purchase)
        raise Held("unknown_package", "metadata.package is no credit package.", tenant=tenant)
    if session.metadata.get("credits") not in (None, str(package.credits)):
        raise Held(
            "credits_mismatch",
            f"metadata.credits is not the {package.credits} of {package.key}.",
            tenant=tenant,
        )
    return Sale(
        tenant=tenant,
        snapshot=catalog.snapshot_of_package(package),
        package_id=package.key,
        **_facts(vars(package)),
    )


def _known_purchase(session: CheckoutSession, origin: Origin) -> Purchase | None:
    return (
        Purchase.objects.select_related("tenant", "member")
        .filter(checkout_session_id=session.id, account_id=origin.account_id)
        .first()
    )


def _facts(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: columns[name] for name in ("charge_id", "is_reversed")}


def new_purchase(session: CheckoutSession, sale: Sale, origin: Origin) -> Purchase:
    """The purchase that a sale makes, not saved yet and perhaps without its buyer."""
    return Purchase(
        tenant=sale.tenant,
        member=sale.member,
        plan_id=sale.plan_id,
        package_id=sale.package_id,
        snapshot=sale.snapshot,
        charge_id=sale.charge_id,
        checkout_session_id=session.id,
        account_id=origin.account_id,
        livemode=origin.livemode,
        amount_subtotal=session.amount_subtotal or 0,
        amount_total=session.amount_total or 0,
        currency=session.currency,
        payment_status=Purchase.PaymentStatus.UNPAID,
    )


def not_ours() -> Ignored:
    return Ignored(
        "not_ours",
        "The session names no checkout, plan or credit package of ours. To see a purchase, run "
        "`manage.py simulate checkout` or make a test checkout; see docs/developing.md.",
    )
