"""The operators' pages about what a purchase leaves a member with, and our log of it."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.timezone import now

from purchases.models import CreditEntry, Entitlement, PurchaseEvent
from tenants.admin.pages import ReadOnlyAdmin, ReadOnlyInline


class EntitlementState:
    @admin.display
    def state(self, entitlement: Entitlement) -> str:
        """Why the entitlement gives access now, or doesn't."""
        if entitlement.revoked_at:
            return "revoked"
        if entitlement.suspended_at:
            return "suspended"
        if entitlement.ends_at and entitlement.ends_at <= now():
            return "ended"
        return "starts later" if entitlement.starts_at > now() else "active"


class EntitlementInline(EntitlementState, ReadOnlyInline):
    model = Entitlement
    fields = ["product", "state", "starts_at", "ends_at", "suspended_at", "revoked_at", "reason"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Entitlement]:
        return super().get_queryset(request).select_related("product", "member")


ENTITLEMENT_COLUMNS = (
    "product", "member", "state", "starts_at", "ends_at", "tenant", "purchase", "reason",
)  # fmt: skip


@admin.register(Entitlement)
class EntitlementAdmin(EntitlementState, ReadOnlyAdmin):
    list_display = ENTITLEMENT_COLUMNS
    list_filter = [
        ("revoked_at", admin.EmptyFieldListFilter),
        ("suspended_at", admin.EmptyFieldListFilter),
    ]
    list_select_related = ["product", "member", "tenant", "purchase"]
    search_fields = [
        "id", "product__slug", "member__id", "member__email", "member__external_id",
        "purchase__id", "purchase__checkout_session_id", "purchase__payment_intent_id",
    ]  # fmt: skip
    fields = (*ENTITLEMENT_COLUMNS, "suspended_at", "revoked_at", "id")


class CreditEntryInline(ReadOnlyInline):
    model = CreditEntry
    fields = ["kind", "amount", "balance_after", "created_at"]


CREDIT_ENTRY_COLUMNS = (
    "id", "kind", "amount", "balance_after", "tenant", "member", "purchase", "created_at",
)  # fmt: skip


@admin.register(CreditEntry)
class CreditEntryAdmin(ReadOnlyAdmin):
    list_display = CREDIT_ENTRY_COLUMNS
    list_filter = ["kind", ("member", admin.EmptyFieldListFilter), "created_at"]
    list_select_related = ["tenant", "member", "purchase"]
    search_fields = [
        "purchase__id", "purchase__checkout_session_id", "purchase__payment_intent_id",
        "member__id", "member__email", "tenant__slug", "idempotency_key",
    ]  # fmt: skip
    fields = (*CREDIT_ENTRY_COLUMNS, "idempotency_key")


class PurchaseEventInline(ReadOnlyInline):
    model = PurchaseEvent
    fields = ["type", "data", "created_at"]


PURCHASE_EVENT_COLUMNS = ("id", "type", "tenant", "member", "purchase", "created_at")


@admin.register(PurchaseEvent)
class PurchaseEventAdmin(ReadOnlyAdmin):
    list_display = PURCHASE_EVENT_COLUMNS
    list_filter = ["type", "created_at"]
    list_select_related = ["tenant", "member", "purchase"]
    search_fields = [
        "purchase__id", "purchase__checkout_session_id", "purchase__payment_intent_id",
        "member__email",
    ]  # fmt: skip
    fields = (*PURCHASE_EVENT_COLUMNS, "data")
