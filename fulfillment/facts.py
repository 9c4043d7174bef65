"""What we read from Stripe's objects, checked: beyond this file nothing is untyped.

Few fields, and those type-strictly: a boolean is no integer and "25000" is no amount. Text for
people has characters replaced that a database refuses; in an identifier they are an error.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from purchases.models import MAX_AMOUNT, Charge

NIL = uuid.UUID(int=0)
IDENTIFIER = re.compile("[^\x00-\x20\x7f\ud800-\udfff]{1,255}")
# RFC 5321 §4.5.3.1.3, less the angle brackets.
MAX_EMAIL = 254
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Malformed(ValueError):
    """A field has a type or a value that Stripe never sends there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event's envelope; `account_id` is blank for the platform's own account."""

    id: str
    type: str
    account_id: str
    livemode: bool
    api_version: str
    created: datetime
    object_id: str
    object: Mapping[str, Any]

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "Event":
        about = _typed(_typed(data, "data", dict), "object", dict)
        return cls(
            id=identifier(data, "id"),
            type=identifier(data, "type"),
            account_id=optional_identifier(data, "account"),
            livemode=_typed(data, "livemode", bool),
            api_version=text(data.get("api_version"))[:64],
            created=_instant(data, "created"),
            object_id=optional_identifier(about, "id"),
            object=about,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutSession:
    """A Checkout Session. Amounts are in minor units; None where Stripe gives none."""

    id: str
    mode: str
    status: str
    payment_status: str
    payment_intent_id: str
    has_failed: bool
    amount_subtotal: int | None
    amount_total: int | None
    currency: str
    email: str
    name: str
    metadata: Mapping[str, Any]

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "CheckoutSession":
        customer = optional(data, "customer_details", dict) or {}
        total = amount(data, "amount_total")
        subtotal = amount(data, "amount_subtotal")
        return cls(
            id=identifier(data, "id"),
            # Absent in events rendered at the oldest API versions, which knew only payments.
            mode=optional(data, "mode", str) or "payment",
            status=optional(data, "status", str) or "",
            payment_status=optional(data, "payment_status", str) or "",
            payment_intent_id=reference(data, "payment_intent"),
            has_failed=_payment_has_failed(data.get("payment_intent")),
            amount_subtotal=total if subtotal is None else subtotal,
            amount_total=subtotal if total is None else total,
            currency=(optional(data, "currency", str) or "").lower(),
            email=_email(customer) or _email(data, "customer_email"),
            name=text(customer.get("name"))[:200],
            metadata=optional(data, "metadata", dict) or {},
        )

    def named_id(self, key: str) -> uuid.UUID:
        """The UUID that the metadata has under the key; else the nil UUID, which no row has."""
        return uuid_or_nil(self.metadata.get(key))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeFacts:
    """One attempt to take the money of a payment."""

    id: str
    payment_intent_id: str
    amount: int
    currency: str
    status: Charge.Status
    failure_code: str
    amount_refunded: int

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "ChargeFacts":
        status = _typed(data, "status", str)
        if status not in Charge.Status:
            raise Malformed(f"status is {status!r}")
        charged = amount(data, "amount")
        if charged is None:
            raise Malformed("amount is missing")
        return cls(
            id=identifier(data, "id"),
            payment_intent_id=reference(data, "payment_intent"),
            amount=charged,
            currency=identifier(data, "currency").lower()[:3],
            status=Charge.Status(status),
            failure_code=optional_identifier(data, "failure_code"),
            amount_refunded=amount(data, "amount_refunded") or 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReversalFacts:
    """A refund or a dispute: how much, of which payment, and how it stands."""

    id: str
    payment_intent_id: str
    charge_id: str
    amount: int
    status: str

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "ReversalFacts":
        reversed_amount = amount(data, "amount")
        if reversed_amount is None:
            raise Malformed("amount is missing")
        return cls(
            id=identifier(data, "id"),
            payment_intent_id=reference(data, "payment_intent"),
            charge_id=reference(data, "charge"),
            amount=reversed_amount,
            status=identifier(data, "status")[:32],
        )


def _payment_has_failed(payment_intent: object) -> bool:
    # Only an expanded PaymentIntent tells. Back at the choice of a method after a completed
    # session means that a delayed payment was refused (docs.stripe.com/payments/paymentintents/
    # lifecycle).
    status = payment_intent.get("status") if isinstance(payment_intent, dict) else None
    return status in ("requires_payment_method", "canceled")


def uuid_or_nil(value: object) -> uuid.UUID:
    try:
        return uuid.UUID(value) if isinstance(value, str) else NIL
    except ValueError:
        return NIL


def text(value: object) -> str:
    """Text to show to people, storable in every database; blank for anything else."""
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else ""


def identifier(data: Mapping[str, Any], key: str) -> str:
    value: str = _typed(data, key, str)
    if not IDENTIFIER.fullmatch(value):
        raise Malformed(f"{key} is no identifier")
    return value


def optional_identifier(data: Mapping[str, Any], key: str) -> str:
    return "" if data.get(key) in (None, "") else identifier(data, key)


def reference(data: Mapping[str, Any], key: str) -> str:
    """The id of another object, which Stripe gives as text or, expanded, as the object."""
    value = data.get(key)
    return identifier(value, "id") if isinstance(value, dict) else optional_identifier(data, key)


def amount(data: Mapping[str, Any], key: str) -> int | None:
    value: int | None = optional(data, key, int)
    if value is not None and not 0 <= value <= MAX_AMOUNT:
        raise Malformed(f"{key} is out of range")
    return value


def optional(data: Mapping[str, Any], key: str, kind: type) -> Any:
    return None if data.get(key) is None else _typed(data, key, kind)


def _typed(data: Mapping[str, Any], key: str, kind: type) -> Any:
    value = data.get(key)
    # `type`, not `isinstance`: True is an int to Python, and no amount.
    if type(value) is not kind:
        raise Malformed(f"{key} should be {kind.__name__}, not {type(value).__name__}")
    return value


def _instant(data: Mapping[str, Any], key: str) -> datetime:
    try:
        return datetime.fromtimestamp(_typed(data, key, int), UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise Malformed(f"{key} is no time") from error


def _email(data: Mapping[str, Any], key: str = "email") -> str:
    value: str = optional(data, key, str) or ""
    if not value:
        return ""
    if len(value) > MAX_EMAIL:
        raise Malformed(f"{key} is longer than {MAX_EMAIL} characters")
    try:
        validate_email(value)
    except ValidationError as error:
        raise Malformed(f"{key} is no e-mail address") from error
    return value
