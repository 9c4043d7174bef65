"""Money going back to the buyer: refunds, which may fail later, and disputes."""

from sandbox.errors import ApiError
from sandbox.objects import Json, reversals
from sandbox.stand_in import StandIn
from sandbox.state import Account

RECEIPT = "1000-0001"
TERMINAL = ("won", "lost", "warning_closed")


def refund(
    sandbox: StandIn,
    account: Account,
    charge: Json,
    *,
    amount: int | None = None,
    reason: str | None = None,
    metadata: Json | None = None,
    request: Json | None = None,
) -> Json:
    """Refund a charge, wholly unless an amount is given, and at most what is left of it."""
    left = charge["amount"] - charge["amount_refunded"]
    amount = left if amount is None else amount
    _check_refund(account, charge, amount=amount, left=left)
    made = reversals.refund(charge, amount=amount, reason=reason, metadata=metadata or {})
    account.add(made)
    sandbox.emit(account, "refund.created", made, request=request)
    sandbox.change(
        account,
        "charge.refunded",
        charge,
        request=request,
        amount_refunded=charge["amount_refunded"] + amount,
        refunded=amount == left,
    )
    sandbox.change(account, "refund.updated", made, request=request, receipt_number=RECEIPT)
    return made


def fail_refund(sandbox: StandIn, account: Account, made: Json) -> None:
    """The buyer's bank sends a refund back: the seller has the money again."""
    if made["status"] == "failed":
        raise ApiError(f"Refund {made['id']} has failed before.")
    fields = {
        "status": "failed",
        "failure_reason": "expired_or_canceled_card",
        "failure_balance_transaction": "txn_1SandboxRefundFailure",
    }
    previous = {name: made.get(name) for name in fields}
    made.update(fields)
    charge = account.get("charge", made["charge"])
    rest = charge["amount_refunded"] - made["amount"]
    charge.update(amount_refunded=rest, refunded=False)
    sandbox.emit(account, "refund.failed", made, previous=previous)
    sandbox.emit(account, "charge.refund.updated", made, previous=previous)


def open_dispute(
    sandbox: StandIn, account: Account, charge: Json, *, is_inquiry: bool = False
) -> Json:
    """The buyer's bank takes the payment back, or (an inquiry) only asks about it."""
    if charge["disputed"] or not charge["paid"]:
        raise ApiError(f"Charge {charge['id']} cannot be disputed.")
    dispute = account.add(reversals.dispute(charge, is_inquiry=is_inquiry))
    charge["disputed"] = True
    sandbox.emit(account, "charge.dispute.created", dispute)
    if not is_inquiry:
        _move(sandbox, account, dispute, is_withdrawal=True)
    return dispute


def close_dispute(sandbox: StandIn, account: Account, dispute: Json, *, won: bool) -> None:
    """The bank decides, once. An inquiry just closes when it is won, and no money moves."""
    if dispute["status"] in TERMINAL:
        raise ApiError(f"Dispute {dispute['id']} is closed.")
    is_inquiry = dispute["status"].startswith("warning_")
    if is_inquiry and not won:
        raise ApiError("An inquiry cannot be lost.")
    status = "warning_closed" if is_inquiry else "won" if won else "lost"
    sandbox.change(account, "charge.dispute.closed", dispute, status=status)
    if won and not is_inquiry:
        _move(sandbox, account, dispute, is_withdrawal=False)


def charge_of(account: Account, intent_id: str) -> Json:
    """The latest charge of a PaymentIntent."""
    intent = account.get("payment_intent", intent_id, param="payment_intent")
    if intent["latest_charge"] is None:
        raise ApiError(f"The PaymentIntent {intent_id} has no charge.", param="payment_intent")
    return account.get("charge", intent["latest_charge"])


def _check_refund(account: Account, charge: Json, *, amount: int, left: int) -> None:
    if not charge["paid"]:
        raise ApiError(f"Charge {charge['id']} has not succeeded.", param="charge")
    if is_blocked(account, charge):
        raise ApiError(f"Charge {charge['id']} is disputed.", code="charge_disputed")
    if left == 0:
        raise ApiError(
            f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded"
        )
    if amount < 1:
        raise ApiError("Invalid positive integer", code="parameter_invalid_integer", param="amount")
    if amount > left:
        raise ApiError(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
            code="amount_too_large",
            param="amount",
        )


def is_blocked(account: Account, charge: Json) -> bool:
    """Whether a dispute forbids refunds of the charge."""
    return any(_blocks_refund(dispute, charge) for dispute in account.table("dispute").values())


def _blocks_refund(dispute: Json, charge: Json) -> bool:
    is_about_it = dispute["charge"] == charge["id"]
    return is_about_it and dispute["status"] != "won" and not dispute["is_charge_refundable"]


def _move(sandbox: StandIn, account: Account, dispute: Json, *, is_withdrawal: bool) -> None:
    movement = reversals.movement(dispute, is_withdrawal=is_withdrawal)
    word = "withdrawn" if is_withdrawal else "reinstated"
    sandbox.change(
        account,
        f"charge.dispute.funds_{word}",
        dispute,
        balance_transactions=[*dispute["balance_transactions"], movement],
    )
