"""The operators' pages about who buys: members, their sessions, and the keys that sign these."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.timezone import now

from tenants.admin.pages import ReadOnlyAdmin, WholeRowForm, note_each
from tenants.admin_scope import ScopedAdmin
from tenants.models import Member, MemberSession, SigningKey, Tenant


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
