"""What is sold and what a payment leaves behind."""

from purchases.models.holding import CreditEntry, Entitlement, EntitlementQuerySet, PurchaseEvent
from purchases.models.notifying import NotificationDelivery, NotificationEndpoint
from purchases.models.offering import MAX_AMOUNT, CreditPackage, Offer, Plan, Product
from purchases.models.payment import Charge, Dispute, Purchase, Refund

__all__ = [
    "MAX_AMOUNT",
    "Charge",
    "CreditEntry",
    "CreditPackage",
    "Dispute",
    "Entitlement",
    "EntitlementQuerySet",
    "NotificationDelivery",
    "NotificationEndpoint",
    "Offer",
    "Plan",
    "Product",
    "Purchase",
    "PurchaseEvent",
    "Refund",
]
