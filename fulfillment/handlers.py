"""From an event's type to the function that records its facts.

A handler makes nothing but facts and their settlement; it returns `Done`, or raises `Ignored`,
`Held` or `Malformed`, and then nothing of it remains.
"""

from collections.abc import Callable

from fulfillment.accounts import note_authorization, record_account, record_revocation
from fulfillment.facts import ChargeFacts, CheckoutSession, Event, Malformed, ReversalFacts
from fulfillment.money import record_charge, record_dispute, record_refund
from fulfillment.outcomes import Done
from fulfillment.recording import record_checkout, record_expiry
from fulfillment.sales import Origin
from tenants.accounts import AccountFacts


def session_completed(event: Event, origin: Origin) -> Done:
    return record_checkout(CheckoutSession.parse(event.object), origin=origin)


def session_payment_failed(event: Event, origin: Origin) -> Done:
    session = CheckoutSession.parse(event.object)
    return record_checkout(session, origin=origin, payment_failed=True)


def session_expired(event: Event, origin: Origin) -> Done:
    return record_expiry(CheckoutSession.parse(event.object), origin=origin)


def charge_changed(event: Event, origin: Origin) -> Done:
    return record_charge(ChargeFacts.parse(event.object), origin=origin)


def refund_changed(event: Event, origin: Origin) -> Done:
    return record_refund(ReversalFacts.parse(event.object), origin=origin)


def dispute_changed(event: Event, origin: Origin) -> Done:
    dispute = ReversalFacts.parse(event.object)
    return record_dispute(dispute, said_at=event.created, origin=origin)


def account_changed(event: Event, origin: Origin) -> Done:
    try:
        facts = AccountFacts.parse(event.object)
    except ValueError as error:
        raise Malformed(str(error)) from error
    return record_account(facts, said_at=event.created, origin=origin)


def account_left(event: Event, origin: Origin) -> Done:
    return record_revocation(said_at=event.created, origin=origin)


def account_joined(event: Event, origin: Origin) -> Done:
    return note_authorization(origin)


HANDLERS: dict[str, Callable[[Event, Origin], Done]] = {
    "checkout.session.completed": session_completed,
    "checkout.session.async_payment_succeeded": session_completed,
    "checkout.session.async_payment_failed": session_payment_failed,
    "checkout.session.expired": session_expired,
    "charge.succeeded": charge_changed,
    "charge.failed": charge_changed,
    "charge.refunded": charge_changed,
    "charge.refund.updated": refund_changed,
    "refund.created": refund_changed,
    "refund.updated": refund_changed,
    "refund.failed": refund_changed,
    "charge.dispute.created": dispute_changed,
    "charge.dispute.updated": dispute_changed,
    "charge.dispute.closed": dispute_changed,
    "charge.dispute.funds_withdrawn": dispute_changed,
    "charge.dispute.funds_reinstated": dispute_changed,
    "account.updated": account_changed,
    "account.application.authorized": account_joined,
    "account.application.deauthorized": account_left,
}
