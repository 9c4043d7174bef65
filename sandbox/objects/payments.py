"""PaymentIntents and Charges."""

from typing import Any, Final

from sandbox.ids import new_id, now
from sandbox.objects import Json

DECLINE: Final[Json] = {
    "code": "card_declined",
    "decline_code": "generic_decline",
    "message": "Your card was declined.",
    "type": "card_error",
}
DEBIT_FAILURE: Final[Json] = {
    "code": "payment_intent_payment_attempt_failed",
    "message": "The bank returned the debit.",
    "type": "invalid_request_error",
}


def payment_intent(session: Json, data: Json, *, application: str | None) -> Json:
    """The intent of a session's payment, made when the buyer first tries to pay."""
    intent_id = new_id("pi_3")
    return {
        "id": intent_id,
        "object": "payment_intent",
        "allowed_payment_method_types": session["allowed_payment_method_types"],
        "amount": session["amount_total"],
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": application,
        "application_fee_amount": data.get("application_fee_amount"),
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "client_secret": f"{intent_id}_secret_{new_id('')}",
        "confirmation_method": "automatic",
        "created": now(),
        "currency": session["currency"],
        "customer": None,
        "customer_account": None,
        "description": data.get("description"),
        "excluded_payment_method_types": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "managed_payments": {"enabled": False},
        "metadata": data.get("metadata", {}),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": {"id": "pmc_1Sandbox", "parent": None},
        "payment_method_options": {
            "card": {
                "installments": None,
                "mandate_options": None,
                "network": None,
                "request_three_d_secure": "automatic",
            }
        },
        "payment_method_types": session["payment_method_types"],
        "processing": None,
        "receipt_email": data.get("receipt_email"),
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "source": None,
        "statement_descriptor": data.get("statement_descriptor"),
        "statement_descriptor_suffix": data.get("statement_descriptor_suffix"),
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }


def charge(
    intent: Json, *, method: str, status: str, customer: Json, failure: Json | None = None
) -> Json:
    """One attempt to take the money of an intent: `succeeded`, `pending` or `failed`.

    `method` is `card` or `sepa_debit`; the intent's metadata is copied, as Stripe does once.
    """
    is_paid = status == "succeeded"
    is_failed = status == "failed"
    charge_id = f"ch_3{new_id('')}"
    return {
        "id": charge_id,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0 if is_failed else intent["amount"],
        "amount_refunded": 0,
        "application": intent["application"],
        "application_fee": _fee(intent) if is_paid else None,
        "application_fee_amount": intent["application_fee_amount"],
        "balance_transaction": new_id("txn_3") if is_paid else None,
        "billing_details": {
            "address": customer["address"],
            "email": customer["email"],
            "name": customer["name"],
            "phone": None,
            "tax_id": None,
        },
        "calculated_statement_descriptor": "SANDBOX",
        "captured": not is_failed,
        "created": now(),
        "currency": intent["currency"],
        "customer": None,
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": failure["code"] if failure else None,
        "failure_message": failure["message"] if failure else None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "on_behalf_of": None,
        "outcome": _outcome(status),
        "paid": is_paid,
        "payment_intent": intent["id"],
        "payment_method": new_id("pm_1"),
        "payment_method_details": _method_details(method, intent["amount"]),
        "radar_options": {},
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": status,
        "transfer_data": None,
        "transfer_group": None,
    }


def captured(charge: Json, intent: Json) -> dict[str, Any]:
    """The fields of a pending charge that change when the bank pays."""
    return {
        "status": "succeeded",
        "paid": True,
        "outcome": _outcome("succeeded"),
        "application_fee": _fee(intent),
        "balance_transaction": new_id("txn_3"),
        "amount_captured": charge["amount"],
    }


def returned() -> dict[str, Any]:
    """The fields of a pending charge that change when the bank refuses."""
    return {
        "status": "failed",
        "paid": False,
        "outcome": _outcome("failed"),
        "failure_code": "insufficient_funds",
        "failure_message": DEBIT_FAILURE["message"],
    }


def _fee(intent: Json) -> str | None:
    return new_id("fee_1") if intent["application_fee_amount"] else None


def _outcome(status: str) -> Json:
    is_failed = status == "failed"
    return {
        "advice_code": "try_again_later" if is_failed else None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network" if is_failed else "approved_by_network",
        "reason": "generic_decline" if is_failed else None,
        "risk_level": "normal",
        "risk_score": 12,
        "seller_message": "The bank declined." if is_failed else "Payment complete.",
        "type": "issuer_declined" if is_failed else "authorized",
    }


def _method_details(method: str, amount: int) -> Json:
    details = _card(amount) if method == "card" else _sepa_debit()
    return {method: details, "type": method}


def _card(amount: int) -> Json:
    return {
        "amount_authorized": amount,
        "authorization_code": None,
        "brand": "visa",
        "checks": {
            "address_line1_check": None,
            "address_postal_code_check": None,
            "cvc_check": "pass",
        },
        "country": "US",
        "exp_month": 8,
        "exp_year": 2030,
        "extended_authorization": {"status": "disabled"},
        "fingerprint": "SandboxFingerpr1",
        "funding": "credit",
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "last4": "4242",
        "mandate": None,
        "multicapture": {"status": "unavailable"},
        "network": "visa",
        "network_token": {"used": False},
        "network_transaction_id": "100000000000000",
        "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
        "regulated_status": "unregulated",
        "three_d_secure": None,
        "transaction_link_id": None,
        "wallet": None,
    }


def _sepa_debit() -> Json:
    return {
        "bank_code": "37040044",
        "branch_code": "",
        "country": "DE",
        "expected_debit_date": None,
        "fingerprint": "SandboxFingerpr2",
        "last4": "3000",
        "mandate": "mandate_1Sandbox",
    }
