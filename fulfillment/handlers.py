"""From an event's type to the function that records its facts.

A handler runs in a transaction of its own making nothing but facts and their settlement; it
returns `Done`, or raises `Ignored`, `Held` or `Malformed`, and then nothing of it remains.
"""

from collections.abc import Callable

from fulfillment.facts import ChargeFacts, CheckoutSession, Event
from fulfillment.outcomes import Done, Ignored
from fulfillment.recording import record_checkout, record_expiry
from fulfillment.sales import Origin
from purchases.models import Charge, Purchase


def session_completed(event: Event, origin: Origin) -> Done:
    return record_checkout(CheckoutSession.parse(event.object), origin=origin)


def session_payment_failed(event: Event, origin: Origin) -> Done:
    session = CheckoutSession.parse(event.object)
    return record_checkout(session, origin=origin, payment_failed=True)


def session_expired(event: Event, origin: Origin) -> Done:
    return record_expiry(CheckoutSession.parse(event.object), origin=origin)


def charge_changed(event: Event, origin: Origin) -> Done:
    """Keep the charge for its payment, whether or not the purchase is known yet.

    A charge grants and takes nothing: a declined card may be followed by one that works, and
    the session says when the purchase is paid.
    """
    charge = ChargeFacts.parse(event.object)
    if not charge.payment_intent_id:
        raise Ignored("not_ours", "A charge without a payment intent is from no checkout.")
    tenant = origin.lock(charge.payment_intent_id)
    if origin.account_id and tenant is None:
        raise Ignored("not_ours", "No tenant has connected this account.")
    _keep(charge, origin)
    purchase = (
        Purchase.objects.select_related("tenant")
        .filter(account_id=origin.account_id, payment_intent_id=charge.payment_intent_id)
        .first()
    )
    if purchase and charge.status == Charge.Status.SUCCEEDED and not purchase.charge_id:
        purchase.charge_id = charge.id
        purchase.save(update_fields=["charge_id"])
    return Done(
        code="charge_recorded", tenant=purchase.tenant if purchase else tenant, purchase=purchase
    )


def _keep(charge: ChargeFacts, origin: Origin) -> None:
    kept, is_new = Charge.objects.get_or_create(
        id=charge.id,
        defaults={
            "account_id": origin.account_id,
            "payment_intent_id": charge.payment_intent_id,
            "livemode": origin.livemode,
            "amount": charge.amount,
            "currency": charge.currency,
            "status": charge.status,
            "failure_code": charge.failure_code,
        },
    )
    # Whatever the order of arrival, success has the last word.
    if not is_new and kept.status != charge.status == Charge.Status.SUCCEEDED:
        kept.status = charge.status
        kept.save(update_fields=["status"])


HANDLERS: dict[str, Callable[[Event, Origin], Done]] = {
    "checkout.session.completed": session_completed,
    "checkout.session.async_payment_succeeded": session_completed,
    "checkout.session.async_payment_failed": session_payment_failed,
    "checkout.session.expired": session_expired,
    "charge.succeeded": charge_changed,
    "charge.failed": charge_changed,
}
