"""Refunds and Disputes, and the balance transactions that a dispute carries."""

from sandbox.ids import new_id, now
from sandbox.objects import Json

DAY = 24 * 60 * 60
DISPUTE_FEE = 1500
EVIDENCE = (
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
)


def refund(charge: Json, *, amount: int, reason: str | None, metadata: Json) -> Json:
    """A refund of a charge, which succeeds at once and may still fail later."""
    kind = charge["payment_method_details"]["type"]
    return {
        "id": new_id("re_3"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": new_id("txn_3"),
        "charge": charge["id"],
        "created": now(),
        "currency": charge["currency"],
        "customer": None,
        "customer_account": None,
        "destination_details": _destination(kind),
        "metadata": metadata,
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }


def dispute(charge: Json, *, is_inquiry: bool) -> Json:
    """A dispute that waits for the seller's answer; an inquiry takes no money."""
    evidence = dict.fromkeys(EVIDENCE)
    billing = charge["billing_details"]
    kind = charge["payment_method_details"]["type"]
    return {
        "id": new_id("du_1"),
        "object": "dispute",
        "amount": charge["amount"],
        "balance_transactions": [],
        "charge": charge["id"],
        "created": now(),
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {
            **evidence,
            "customer_email_address": billing["email"],
            "customer_name": billing["name"],
            "enhanced_evidence": {},
        },
        "evidence_details": {
            "due_by": now() + 9 * DAY,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "intended_submission_method": "manual",
        "is_charge_refundable": is_inquiry,
        "livemode": False,
        "metadata": {},
        "network_reason_code": "10.4",
        "payment_intent": charge["payment_intent"],
        "payment_method_details": _disputed_method(kind, is_inquiry=is_inquiry),
        "reason": "fraudulent",
        "status": "warning_needs_response" if is_inquiry else "needs_response",
    }


def movement(dispute: Json, *, is_withdrawal: bool) -> Json:
    """The money of a dispute leaving the seller's balance, or coming back to it."""
    sign = -1 if is_withdrawal else 1
    fee = -sign * DISPUTE_FEE
    return {
        "id": new_id("txn_1"),
        "object": "balance_transaction",
        "amount": sign * dispute["amount"],
        "available_on": now() + DAY,
        "balance_type": "payments",
        "created": now(),
        "currency": dispute["currency"],
        "description": "Dispute" if is_withdrawal else "Dispute won",
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [
            {
                "amount": fee,
                "application": None,
                "currency": dispute["currency"],
                "description": "Dispute fee",
                "type": "stripe_fee",
            }
        ],
        "net": sign * (dispute["amount"] + DISPUTE_FEE),
        "reporting_category": "dispute" if is_withdrawal else "dispute_reversal",
        "source": dispute["id"],
        "status": "pending",
        "type": "adjustment",
    }


def _destination(kind: str) -> Json:
    if kind != "card":
        return {"type": kind}
    reference = {"reference_status": "pending", "reference_type": "acquirer_reference_number"}
    return {"card": {**reference, "type": "refund"}, "type": "card"}


def _disputed_method(kind: str, *, is_inquiry: bool) -> Json:
    if kind != "card":
        return {"type": kind}
    case = "inquiry" if is_inquiry else "chargeback"
    card = {"brand": "visa", "case_type": case, "network": "visa", "network_reason_code": "10.4"}
    return {"card": card, "type": "card"}
