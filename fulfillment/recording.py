"""From a Checkout Session, however we came by it, to a settled purchase."""

from fulfillment import sales
from fulfillment.facts import CheckoutSession, Malformed
from fulfillment.models import Checkout
from fulfillment.outcomes import Done, Held, Ignored
from fulfillment.sales import Origin
from purchases.ledger import lock_owner
from purchases.models import Purchase
from purchases.settling import reversals_of, settle
from purchases.targets import NO_REVERSALS, Reversals
from tenants.models import Member, Tenant

# What came later in a payment's life absorbs what came before, in whatever order we hear of it.
RANK = [
    Purchase.PaymentStatus.UNPAID,
    Purchase.PaymentStatus.FAILED,
    Purchase.PaymentStatus.PAID,
    Purchase.PaymentStatus.FREE,
]


def record_checkout(
    session: CheckoutSession, *, origin: Origin, payment_failed: bool = False
) -> Done:
    """Store what a completed Checkout Session says about its payment, and settle the purchase.

    Call it in a transaction. Safe any number of times and side by side: whoever comes second
    waits for the payment's lock and finds the purchase. Raises `Ignored`, `Held` or `Malformed`.
    """
    if session.mode != "payment":
        raise Ignored("not_a_payment", f"A session in {session.mode} mode buys nothing.")
    tenant = sales.seller_of(session, origin)
    checkout = sales.checkout_of(session, tenant, origin)
    sale = sales.sale_of(session, checkout, tenant, origin)
    purchase = sale.purchase or sales.new_purchase(session, sale, origin)
    _require_active(purchase.tenant)
    _check_money(session, purchase)
    _hold_buyer(session, purchase)
    was_fulfilled = purchase.fulfilled_at is not None
    _absorb(session, purchase, payment_failed=payment_failed)
    settle(purchase, channel=origin.channel, reversals=_reversals(session, sale, purchase))
    if checkout:
        _close(checkout, session, purchase)
    code = "already_fulfilled" if was_fulfilled else OUTCOMES.get(purchase.status, "fulfilled")
    return Done(code=code, tenant=purchase.tenant, purchase=purchase)


OUTCOMES: dict[str, str] = {
    Purchase.Status.PENDING: "pending",
    Purchase.Status.FAILED: "payment_failed",
}


def record_expiry(session: CheckoutSession, *, origin: Origin) -> Done:
    """Note that nobody paid in time. A session that was paid after all stays complete."""
    tenant = sales.seller_of(session, origin)
    checkout = sales.checkout_of(session, tenant, origin)
    if checkout is None:
        raise sales.not_ours()
    if checkout.status == Checkout.Status.OPEN:
        checkout.status = Checkout.Status.EXPIRED
        checkout.stripe_session_id = session.id
        checkout.save(update_fields=["status", "stripe_session_id"])
    return Done(code="expired", tenant=checkout.tenant)


def _require_active(tenant: Tenant) -> None:
    if not tenant.is_active:
        raise Held(
            "tenant_inactive", "The tenant is disabled; enabling it resumes this.", tenant=tenant
        )


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


def _hold_buyer(session: CheckoutSession, purchase: Purchase) -> None:
    """Find or add the member who bought, unless known; their row is locked from then on.

    What several purchases of one buyer share, periods and credits, is written one by one.
    """
    if purchase.member or "package" in purchase.snapshot:
        lock_owner(purchase.tenant, purchase.member)
    elif session.email:
        purchase.member, purchase.member_is_new = Member.objects.find_or_add(
            purchase.tenant, email=session.email, name=session.name
        )
    else:
        raise Held(
            "no_email", "The session has no e-mail to find the member by.", tenant=purchase.tenant
        )


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


def _reversals(session: CheckoutSession, sale: sales.Sale, purchase: Purchase) -> Reversals:
    # `is_reversed` was asked for the payment that the session names; nearly always it is no.
    is_same_payment = session.payment_intent_id == purchase.payment_intent_id
    if is_same_payment and not sale.is_reversed:
        return NO_REVERSALS
    return reversals_of(purchase)


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
