"""Products and prices, and the payment methods that buy them."""

from sandbox.ids import new_id, now
from sandbox.objects import Json


def product(params: Json) -> Json:
    """Something to sell."""
    created = now()
    return {
        "id": params.get("id") or new_id("prod_", 14),
        "object": "product",
        "active": params.get("active", True),
        "created": created,
        "default_price": None,
        "description": params.get("description"),
        "images": params.get("images", []),
        "livemode": False,
        "marketing_features": params.get("marketing_features", []),
        "metadata": params.get("metadata", {}),
        "name": params["name"],
        "package_dimensions": None,
        "shippable": params.get("shippable"),
        "statement_descriptor": params.get("statement_descriptor"),
        "tax_code": None,
        "type": "service",
        "unit_label": params.get("unit_label"),
        "updated": created,
        "url": params.get("url"),
    }


def price(params: Json, *, product_id: str, active: bool = True) -> Json:
    """What one of a product costs, once."""
    return {
        "id": new_id("price_1"),
        "object": "price",
        "active": params.get("active", active),
        "billing_scheme": "per_unit",
        "created": now(),
        "currency": params["currency"].lower(),
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": params.get("lookup_key"),
        "metadata": params.get("metadata", {}),
        "nickname": params.get("nickname"),
        "product": product_id,
        "recurring": None,
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "one_time",
        "unit_amount": params["unit_amount"],
        "unit_amount_decimal": str(params["unit_amount"]),
    }


def payment_method(params: Json) -> Json:
    """A buyer's card or bank account."""
    billing = params.get("billing_details") or {}
    kind = params["type"]
    return {
        "id": new_id("pm_1"),
        "object": "payment_method",
        "billing_details": {
            "address": _address(billing.get("address")),
            "email": billing.get("email"),
            "name": billing.get("name"),
            "phone": billing.get("phone"),
            "tax_id": None,
        },
        kind: _card() if kind == "card" else _sepa_debit(),
        "created": now(),
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": params.get("metadata", {}),
        "type": kind,
    }


def _address(given: Json | None) -> Json:
    names = ("city", "country", "line1", "line2", "postal_code", "state")
    return {name: (given or {}).get(name) for name in names}


def _card() -> Json:
    return {
        "brand": "visa",
        "checks": {
            "address_line1_check": None,
            "address_postal_code_check": None,
            "cvc_check": "pass",
        },
        "country": "US",
        "display_brand": "visa",
        "exp_month": 8,
        "exp_year": 2030,
        "fingerprint": "SandboxFingerpr1",
        "funding": "credit",
        "generated_from": None,
        "last4": "4242",
        "networks": {"available": ["visa"], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def _sepa_debit() -> Json:
    return {
        "bank_code": "37040044",
        "branch_code": "",
        "country": "DE",
        "fingerprint": "SandboxFingerpr2",
        "generated_from": {"charge": None, "setup_attempt": None},
        "last4": "3000",
    }
