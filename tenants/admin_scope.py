"""Whose rows an operator's pages show: who belongs to tenants sees no other tenant's."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import AnonymousUser, User
from django.db.models import QuerySet
from django.http import HttpRequest

from tenants.models import Tenant


def tenants_of(user: User | AnonymousUser) -> QuerySet[Tenant] | None:
    """The tenants that the user belongs to (`TenantUser`), or None for the platform's own people.

    Those are superusers, and staff who belong to no tenant.
    """
    if user.is_superuser or user.pk is None:
        return None
    tenants = Tenant.objects.filter(users__user_id=user.pk)
    return tenants if tenants.exists() else None


class ScopedAdmin(admin.ModelAdmin):
    """Pages on which a tenant's user meets no other tenant's row, not even as a choice in a form.

    `tenant_path` leads from a row to its tenant; None: the rows are the platform's alone.
    """

    tenant_path: str | None = "tenant"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        tenants = tenants_of(request.user)
        return rows if tenants is None else self.rows_of(tenants, rows)

    def rows_of(self, tenants: QuerySet[Tenant], rows: QuerySet[Any]) -> QuerySet[Any]:
        if self.tenant_path is None:
            return rows.none()
        return rows.filter(**{f"{self.tenant_path}__in": tenants})

    def get_field_queryset(self, db: Any, db_field: Any, request: HttpRequest) -> QuerySet[Any]:
        # What the pages of that model show.
        pages = self.admin_site.get_model_admin(db_field.remote_field.model)
        return pages.get_queryset(request)
