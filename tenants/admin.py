"""The operators' pages about who sells and who buys."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet, URLField
from django.http import HttpRequest
from django.utils.timezone import now

from tenants.admin_scope import ScopedAdmin
from tenants.connect_admin import StripeSection
from tenants.models import (
    ConnectAttempt,
    Member,
    MemberSession,
    PaymentAccount,
    SigningKey,
    Tenant,
    TenantUser,
)


class ReadOnly:
    """Rows that only the product writes: operators look at them and act through actions."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(ReadOnly, ScopedAdmin):
    # These tables grow without end, and a search would count all of their rows each time.
    show_full_result_count = False


class ReadOnlyInline(ReadOnly, admin.TabularInline):
    extra = 0
    show_change_link = True

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields


@transaction.atomic
def note_each(
    page: admin.ModelAdmin, request: HttpRequest, rows: QuerySet, verb: str, **changes: Any
) -> None:
    """Change the rows, with a line in the history of each, and say how many there were."""
    changed = list(rows.select_for_update(of=["self"]))
    rows.model._default_manager.filter(pk__in=[row.pk for row in changed]).update(**changes)
    for row in changed:
        page.log_change(request, row, f"{verb.capitalize()}.")
    page.message_user(request, f"{len(changed)} {verb}.", messages.SUCCESS)


class WholeRowForm(forms.ModelForm):
    """Checks constraints even where they involve columns that the page doesn't let one edit.

    Django would leave those to the database, whose refusal is a crash to the operator.
    """

    def _get_validation_exclusions(self) -> set[str]:
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        columns = {field.name for field in self.instance._meta.concrete_fields}
        return excluded - (columns - set(self.fields))


class TenantsOwnAdmin(ScopedAdmin):
    """What belongs to a tenant for good: it is chosen once."""

    form = WholeRowForm
    autocomplete_fields = ["tenant"]
    list_select_related = ["tenant"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [*super().get_readonly_fields(request, obj), *(["tenant"] if obj else [])]


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


@admin.register(Member)
class MemberAdmin(ScopedAdmin):
    """Members come with their purchases; a person may correct how one is called and reached."""

    form = WholeRowForm
    list_display = ["__str__", "name", "external_id", "tenant", "id", "created_at", "disabled_at"]
    list_filter = [("disabled_at", admin.EmptyFieldListFilter)]
    list_select_related = ["tenant"]
    search_fields = ["id", "email", "external_id", "name"]
    show_full_result_count = False
    fields = ["email", "name", "tenant", "external_id", "id", "created_at", "disabled_at"]
    readonly_fields = ["tenant", "external_id", "id", "created_at", "disabled_at"]
    actions = ["disable", "enable"]

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Member]) -> None:
        """Refuse every token of the members from the next call on, until they are enabled."""
        note_each(self, request, queryset.filter(disabled_at=None), "disabled", disabled_at=now())

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Member]) -> None:
        """Let the members' sessions go on where they have not run out meanwhile."""
        note_each(self, request, queryset.exclude(disabled_at=None), "enabled", disabled_at=None)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


SESSION_COLUMNS = (
    "id", "member", "tenant", "authenticated", "created_at", "expires_at", "revoked_at",
)  # fmt: skip


@admin.register(MemberSession)
class MemberSessionAdmin(ReadOnlyAdmin):
    tenant_path = "member__tenant"
    list_display = SESSION_COLUMNS
    list_filter = ["authenticated", ("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["member__tenant"]
    search_fields = ["id", "member__id", "member__email", "member__external_id", "purchase_id"]
    fields = (*SESSION_COLUMNS, "purchase_id")

    @admin.display(ordering="member__tenant")
    def tenant(self, session: MemberSession) -> Tenant:
        return session.member.tenant


@admin.register(SigningKey)
class SigningKeyAdmin(ReadOnlyAdmin):
    tenant_path = None
    list_display = ["kid", "active_from", "retired_at"]
    search_fields = ["kid"]
    fields = ["kid", "active_from", "retired_at", "public_key"]


@admin.register(TenantUser)
class TenantUserAdmin(ScopedAdmin):
    # Whoever could leave their tenants would be taken for the platform's own.
    tenant_path = None
    list_display = ["user", "tenant", "role"]
    list_filter = ["role"]
    list_select_related = ["user", "tenant"]
    search_fields = ["user__username", "user__email", "tenant__slug", "tenant__name"]
    autocomplete_fields = ["user", "tenant"]
