"""The operators' pages about who sells: tenants, their Stripe accounts, and who works for them."""

from typing import Any

from django.contrib import admin
from django.db.models import URLField
from django.http import HttpRequest

from tenants.admin.pages import ReadOnlyAdmin, TenantsOwnAdmin
from tenants.admin.stripe_section import StripeSection
from tenants.admin_scope import ScopedAdmin
from tenants.models import ConnectAttempt, PaymentAccount, Tenant, TenantUser


@admin.register(Tenant)
class TenantAdmin(StripeSection):
    tenant_path = "pk"
    list_display = ["name", "slug", "is_active", "timezone", "id", "created_at"]
    list_filter = ["is_active"]
    search_fields = ["id", "slug", "name", "payment_accounts__stripe_account_id"]
    readonly_fields = ["id", "created_at"]
    formfield_overrides = {URLField: {"assume_scheme": "https"}}


@admin.register(PaymentAccount)
class PaymentAccountAdmin(TenantsOwnAdmin):
    list_display = [
        "stripe_account_id", "tenant", "livemode", "display_name", "charges_enabled",
        "connected_at", "disconnected_at",
    ]  # fmt: skip
    list_filter = ["livemode", "charges_enabled", ("disconnected_at", admin.EmptyFieldListFilter)]
    search_fields = ["stripe_account_id", "display_name", "tenant__slug", "tenant__name"]
    fields = [
        "tenant", "stripe_account_id", "livemode", "display_name", "charges_enabled",
        "payouts_enabled", "details_submitted", "requirements", "disabled_reason", "facts_at",
        "connected_at", "disconnected_at",
    ]  # fmt: skip
    readonly_fields = [
        "payouts_enabled", "details_submitted", "requirements", "disabled_reason", "facts_at",
        "connected_at", "disconnected_at",
    ]  # fmt: skip

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        chosen_once = ["stripe_account_id", "livemode", "charges_enabled"] if obj else []
        return [*super().get_readonly_fields(request, obj), *chosen_once]

    # A disconnected account keeps its row: refunds and disputes of its sales still arrive.
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


CONNECT_ATTEMPT_COLUMNS = ("tenant", "user", "created_at", "expires_at", "used_at")


@admin.register(ConnectAttempt)
class ConnectAttemptAdmin(ReadOnlyAdmin):
    list_display = fields = CONNECT_ATTEMPT_COLUMNS
    list_select_related = ["tenant", "user"]
    search_fields = ["tenant__slug", "tenant__name", "user__username"]


@admin.register(TenantUser)
class TenantUserAdmin(ScopedAdmin):
    # Whoever could leave their tenants would be taken for the platform's own.
    tenant_path = None
    list_display = ["user", "tenant", "role"]
    list_filter = ["role"]
    list_select_related = ["user", "tenant"]
    search_fields = ["user__username", "user__email", "tenant__slug", "tenant__name"]
    autocomplete_fields = ["user", "tenant"]
