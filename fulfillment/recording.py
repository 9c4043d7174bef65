"""From a Checkout Session, however we came by it, to a settled purchase."""

from dataclasses import dataclass
from typing import Any

import structlog
from django.db.models import Q

from fulfillment.facts import NIL, CheckoutSession, Malformed, text
from fulfillment.models import Checkout
from fulfillment.outcomes import Done, Held, Ignored
from fulfillment.payments import charge_of, lock_payment
from purchases import catalog
from purchases.models import CreditPackage, Plan, Purchase
from purchases.settling import settle
from tenants.models import Member, PaymentAccount, Tenant

logger = structlog.get_logger(__name__)

# What came later in a payment's life absorbs what came before, in whatever order we hear of it.
RANK = [
    Purchase.PaymentStatus.UNPAID,
    Purchase.PaymentStatus.FAILED,
    Purchase.PaymentStatus.PAID,
    Purchase.PaymentStatus.FREE,
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """On whose Stripe account something happened (blank: the platform's) and who told us."""

    account_id: str
    livemode: bool
    channel: Purchase.Channel

    def owner(self) -> Tenant | None:
        """The tenant that connected the account, now or once; None if there is none."""
        account = (
            PaymentAccount.objects.select_related("tenant")
            .filter(stripe_account_id=self.account_id, livemode=self.livemode)
            .first()
        )
        return account.tenant if account else None


def record_checkout(
    session: CheckoutSession, *, origin: Origin, payment_failed: bool = False
) -> Done:
    """Store what a completed Checkout Session says about its payment, and settle the purchase.

    Call it in a transaction. Safe any number of times and side by side: whoever comes second
    waits for the payment's lock and finds the purchase. Raises `Ignored`, `Held` or `Malformed`.
    """
    if session.mode != "payment":
        raise Ignored("not_a_payment", f"A session in {session.mode} mode buys nothing.")
    tenant = _seller(session, origin)
    lock_payment(origin.account_id, session.payment_intent_id or session.id)
    checkout = _checkout_of(session, tenant, origin)
    purchase = _known_purchase(session, checkout, tenant, origin)
    if purchase is None:
        purchase = _new_purchase(session, checkout, tenant, origin)
    _require_active(purchase.tenant)
    _check_money(session, purchase)
    if purchase.member is None and "package" not in purchase.snapshot:
        purchase.member, purchase.member_is_new = _buyer(session, purchase.tenant)
    was_fulfilled = purchase.fulfilled_at is not None
    _absorb(session, purchase, payment_failed=payment_failed)
    settle(purchase, channel=origin.channel)
    if checkout:
        _close(checkout, session, purchase)
    code = "already_fulfilled" if was_fulfilled else OUTCOMES[Purchase.Status(purchase.status)]
    return Done(code=code, tenant=purchase.tenant, purchase=purchase)


OUTCOMES = {
    Purchase.Status.PENDING: "pending",
    Purchase.Status.FAILED: "payment_failed",
    Purchase.Status.PAID: "fulfilled",
}


def record_expiry(session: CheckoutSession, *, origin: Origin) -> Done:
    """Note that nobody paid in time. A session that was paid after all stays complete."""
    tenant = _seller(session, origin)
    lock_payment(origin.account_id, session.id)
    checkout = _checkout_of(session, tenant, origin)
    if checkout is None and "tenant_id" not in session.metadata:
        raise _not_ours()
    if checkout and checkout.status == Checkout.Status.OPEN:
        checkout.status = Checkout.Status.EXPIRED
        checkout.stripe_session_id = session.id
        checkout.save(update_fields=["status", "stripe_session_id"])
    return Done(code="expired", tenant=checkout.tenant if checkout else tenant)


# --- who sold it


def _seller(session: CheckoutSession, origin: Origin) -> Tenant | None:
    """The tenant whose account this is; None for the platform's own.

    The account decides. Its owner can write any metadata into its sessions, so metadata that
    names another tenant is a mistake or an attack, and never followed.
    """
    if not origin.account_id:
        return None
    owner = origin.owner()
    claimed = session.metadata.get("tenant_id")
    if claimed is None:
        if owner is None:
            raise _not_ours()
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


def _require_active(tenant: Tenant) -> None:
    if not tenant.is_active:
        raise Held(
            "tenant_inactive", "The tenant is disabled; enabling it resumes this.", tenant=tenant
        )


# --- what was sold


def _checkout_of(
    session: CheckoutSession, tenant: Tenant | None, origin: Origin
) -> Checkout | None:
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


def _known_purchase(
    session: CheckoutSession, checkout: Checkout | None, tenant: Tenant | None, origin: Origin
) -> Purchase | None:
    if checkout:
        return checkout.purchase
    purchases = Purchase.objects.select_related("tenant", "member").filter(
        checkout_session_id=session.id, account_id=origin.account_id
    )
    return (purchases.filter(tenant=tenant) if tenant else purchases).first()


def _new_purchase(
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
        raise _not_ours()
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
        raise _not_ours()
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


def _not_ours() -> Ignored:
    return Ignored(
        "not_ours",
        "The session names no checkout, plan or credit package of ours. To see a purchase, run "
        "`manage.py simulate checkout` or make a test checkout; see docs/developing.md.",
    )


# --- for how much, to whom


def _check_money(session: CheckoutSession, purchase: Purchase) -> None:
    """Raise `Held` unless the price is the one agreed on; tax may come on top of it."""
    price, currency = purchase.snapshot["amount"], purchase.snapshot["currency"]
    is_right = (session.amount_subtotal, session.currency) == (price, currency)
    if not is_right or (session.payment_status == "no_payment_required" and price != 0):
        raise Held(
            "amount_mismatch",
            f"Agreed on {price} {currency}, but the session says {session.amount_subtotal} "
            f"{session.currency}, {session.payment_status}.",
            tenant=purchase.tenant,
        )


def _buyer(session: CheckoutSession, tenant: Tenant) -> tuple[Member, bool]:
    """The member with the e-mail that the buyer gave Stripe, and whether they are new to us."""
    if not session.email:
        raise Held("no_email", "The session has no e-mail to find the member by.", tenant=tenant)
    return Member.objects.find_or_add(tenant, email=session.email, name=session.name)


def _absorb(session: CheckoutSession, purchase: Purchase, *, payment_failed: bool) -> None:
    """Add what the session says to the facts that the purchase has already."""
    said = _payment_status(session, payment_failed=payment_failed)
    known = Purchase.PaymentStatus(purchase.payment_status)
    purchase.payment_status = max(known, said, key=RANK.index)
    purchase.payment_intent_id = purchase.payment_intent_id or session.payment_intent_id


def _payment_status(session: CheckoutSession, *, payment_failed: bool) -> Purchase.PaymentStatus:
    match session.payment_status:
        case "paid" | "no_payment_required" if session.amount_total == 0:
            return Purchase.PaymentStatus.FREE
        case "paid":
            return Purchase.PaymentStatus.PAID
        case "unpaid" if payment_failed or session.has_failed:
            return Purchase.PaymentStatus.FAILED
        case "unpaid":
            return Purchase.PaymentStatus.UNPAID
    raise Malformed(f"payment_status is {session.payment_status!r}")


def _close(checkout: Checkout, session: CheckoutSession, purchase: Purchase) -> None:
    """Note at the checkout what became of it, once."""
    status = (
        Checkout.Status.FAILED
        if purchase.status == Purchase.Status.FAILED
        else Checkout.Status.COMPLETE
    )
    if (checkout.status, checkout.purchase_id) != (status, purchase.id):
        checkout.status = status
        checkout.stripe_session_id = session.id
        checkout.purchase = purchase
        checkout.save(update_fields=["status", "stripe_session_id", "purchase"])
