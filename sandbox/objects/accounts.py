"""Accounts, the platform's application, and what OAuth hands out."""

from sandbox.ids import new_id, now
from sandbox.objects import Json


def account(account_id: str, *, name: str) -> Json:
    """A Standard account that may charge and be paid out."""
    return {
        "id": account_id,
        "object": "account",
        "business_profile": _business_profile(name),
        "business_type": "company",
        "capabilities": {
            "card_payments": "active",
            "sepa_debit_payments": "active",
            "transfers": "active",
        },
        "charges_enabled": True,
        "controller": {"type": "account"},
        "country": "DE",
        "created": now(),
        "default_currency": "eur",
        "details_submitted": True,
        "email": "owner@seller.example",
        "future_requirements": _no_requirements(),
        "metadata": {},
        "payouts_enabled": True,
        "requirements": _no_requirements(),
        "settings": _settings(name),
        "tos_acceptance": {"date": None, "ip": None, "user_agent": None},
        "type": "standard",
    }


def application(client_id: str) -> Json:
    """The platform, as `account.application.*` events name it."""
    return {"id": client_id, "object": "application", "name": "Allegro"}


def oauth_token(account_id: str, *, scope: str) -> Json:
    """The answer to a code; its keys are of no use, as the platform keeps using its own."""
    return {
        "access_token": new_id("sk_test_"),
        "livemode": False,
        "refresh_token": new_id("rt_"),
        "scope": scope,
        "stripe_publishable_key": new_id("pk_test_"),
        "stripe_user_id": account_id,
        "token_type": "bearer",
    }


def _business_profile(name: str) -> Json:
    return {
        "annual_revenue": None,
        "estimated_worker_count": None,
        "mcc": "5815",
        "minority_owned_business_designation": None,
        "name": name,
        "product_description": None,
        "support_address": None,
        "support_email": None,
        "support_phone": None,
        "support_url": None,
        "url": "https://seller.example",
    }


def _no_requirements() -> Json:
    return {
        "alternatives": [],
        "current_deadline": None,
        "currently_due": [],
        "disabled_reason": None,
        "errors": [],
        "eventually_due": [],
        "past_due": [],
        "pending_verification": [],
    }


def _settings(name: str) -> Json:
    return {
        "bacs_debit_payments": {"display_name": None, "service_user_number": None},
        "branding": {"icon": None, "logo": None, "primary_color": None, "secondary_color": None},
        "card_issuing": {"tos_acceptance": {"date": None, "ip": None}},
        "card_payments": {
            "decline_on": {"avs_failure": True, "cvc_failure": True},
            "statement_descriptor_prefix": None,
            "statement_descriptor_prefix_kana": None,
            "statement_descriptor_prefix_kanji": None,
        },
        "dashboard": {"display_name": name, "timezone": "Europe/Berlin"},
        "invoices": {"default_account_tax_ids": None, "hosted_payment_method_save": None},
        "payments": {
            "statement_descriptor": None,
            "statement_descriptor_kana": None,
            "statement_descriptor_kanji": None,
            "statement_descriptor_prefix_kana": None,
            "statement_descriptor_prefix_kanji": None,
        },
        "payouts": {
            "debit_negative_balances": True,
            "schedule": {"delay_days": 2, "interval": "daily"},
            "statement_descriptor": None,
        },
        "sepa_debit_payments": {},
    }
