"""What a buyer does on the checkout page, and what the bank does about it later."""

import time

from sandbox.errors import ApiError
from sandbox.objects import Json, checkout, payments
from sandbox.stand_in import StandIn
from sandbox.state import Account

METHODS = ("card", "bank_ok", "bank_fail", "declined")


def pay(
    sandbox: StandIn,
    account: Account,
    session: Json,
    *,
    method: str,
    email: str | None = None,
    name: str | None = None,
) -> None:
    """Try to pay an open session. On a complete one nothing happens: clicking twice is harmless."""
    if method not in METHODS:
        raise ApiError(f"Invalid method: must be one of {', '.join(METHODS)}", param="method")
    if session["status"] == "expired":
        raise ApiError("This Checkout Session has expired.")
    if session["status"] == "complete":
        return
    customer = checkout.customer_details(
        email=session["customer_email"] or email or "buyer@example.com",
        name=name or "Test Buyer",
    )
    if session["amount_total"] == 0:
        _complete(sandbox, account, session, customer, payment_status="no_payment_required")
        return
    intent = _intent(sandbox, account, session)
    if method == "declined":
        _decline(sandbox, account, intent, customer)
    elif method == "card":
        _charge_card(sandbox, account, session, intent, customer)
    else:
        _debit(sandbox, account, session, intent, customer, is_good=method == "bank_ok")


def settle(sandbox: StandIn, account: Account, intent: Json, *, is_good: bool) -> None:
    """The bank's answer to a debit. Once given it stands; a card payment has none."""
    if intent["status"] != "processing":
        return
    charge = account.get("charge", intent["latest_charge"])
    session = _session_of(account, intent)
    if is_good:
        sandbox.change(account, "charge.succeeded", charge, **payments.captured(charge, intent))
        _succeed(sandbox, account, intent)
        sandbox.change(
            account, "checkout.session.async_payment_succeeded", session, payment_status="paid"
        )
        return
    sandbox.change(account, "charge.failed", charge, **payments.returned())
    _fail(sandbox, account, intent, payments.DEBIT_FAILURE, charge)
    sandbox.emit(account, "checkout.session.async_payment_failed", session)


def expire(
    sandbox: StandIn, account: Account, session: Json, *, request: Json | None = None
) -> None:
    """Close an open session for good."""
    if session["status"] != "open":
        raise ApiError(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout '
            f"Session has a status of {session['status']}."
        )
    session.update(status="expired", url=None)
    sandbox.emit(account, "checkout.session.expired", session, request=request)


def _intent(sandbox: StandIn, account: Account, session: Json) -> Json:
    """The session's PaymentIntent, made at the first try and kept for the next ones."""
    if session["payment_intent"]:
        return account.get("payment_intent", session["payment_intent"])
    data = account.drafts[session["id"]]["payment_intent_data"]
    is_own = sandbox.world.is_platform(account)
    application = None if is_own else sandbox.config.client_id
    intent = account.add(payments.payment_intent(session, data, application=application))
    session["payment_intent"] = intent["id"]
    return intent


def _charge_card(
    sandbox: StandIn, account: Account, session: Json, intent: Json, customer: Json
) -> None:
    charge = payments.charge(intent, method="card", status="succeeded", customer=customer)
    _attach(account, intent, charge)
    sandbox.emit(account, "charge.succeeded", charge)
    _succeed(sandbox, account, intent)
    _complete(sandbox, account, session, customer, payment_status="paid")


def _debit(
    sandbox: StandIn,
    account: Account,
    session: Json,
    intent: Json,
    customer: Json,
    *,
    is_good: bool,
) -> None:
    charge = payments.charge(intent, method="sepa_debit", status="pending", customer=customer)
    _attach(account, intent, charge)
    intent.update(status="processing", last_payment_error=None)
    _complete(sandbox, account, session, customer, payment_status="unpaid")
    at = time.time() + sandbox.config.bank_debit_delay
    sandbox.plan("settle", account, intent["id"], at=at, good=is_good)


def _decline(sandbox: StandIn, account: Account, intent: Json, customer: Json) -> None:
    charge = payments.charge(
        intent, method="card", status="failed", customer=customer, failure=payments.DECLINE
    )
    _attach(account, intent, charge)
    sandbox.emit(account, "charge.failed", charge)
    _fail(sandbox, account, intent, payments.DECLINE, charge)


def _attach(account: Account, intent: Json, charge: Json) -> None:
    account.add(charge)
    intent.update(latest_charge=charge["id"], payment_method=charge["payment_method"])


def _succeed(sandbox: StandIn, account: Account, intent: Json) -> None:
    intent.update(status="succeeded", amount_received=intent["amount"], last_payment_error=None)
    sandbox.emit(account, "payment_intent.succeeded", intent)


def _fail(sandbox: StandIn, account: Account, intent: Json, failure: Json, charge: Json) -> None:
    error = {**failure, "charge": charge["id"]}
    intent.update(status="requires_payment_method", last_payment_error=error, payment_method=None)
    sandbox.emit(account, "payment_intent.payment_failed", intent)


def _complete(
    sandbox: StandIn, account: Account, session: Json, customer: Json, *, payment_status: str
) -> None:
    session.update(
        status="complete", payment_status=payment_status, customer_details=customer, url=None
    )
    event_id = sandbox.emit(account, "checkout.session.completed", session)
    account.drafts[session["id"]]["completed_event"] = event_id


def _session_of(account: Account, intent: Json) -> Json:
    for session in reversed(account.table("checkout.session").values()):
        if session["payment_intent"] == intent["id"]:
            return session
    raise AssertionError(f"{intent['id']} belongs to no session")
