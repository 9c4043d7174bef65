"""The part of a tenant's page about its Stripe account."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from tenants.admin_scope import ScopedAdmin
from tenants.connecting import may_connect
from tenants.models import Tenant


class StripeSection(ScopedAdmin):
    """Shows how the tenant stands with Stripe; the buttons only to who may use them."""

    stripe_fields = ["connection", "former_accounts"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        own = super().get_readonly_fields(request, obj)
        return [*own, *self.stripe_fields, "change_connection"]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        verbs = ["change_connection"] if obj and may_connect(request.user, obj) else []
        apart = [*self.stripe_fields, "change_connection"]
        own = [name for name in self.get_fields(request, obj) if name not in apart]
        section = [("Stripe", {"fields": [*self.stripe_fields, *verbs]})] if obj else []
        return [(None, {"fields": own}), *section]

    def connection(self, tenant: Tenant) -> SafeString:
        return render_to_string("tenants/connection.html", {"account": tenant.active_account})

    @admin.display(description="change")
    def change_connection(self, tenant: Tenant) -> SafeString:
        context = {"tenant": tenant, "account": tenant.active_account}
        return render_to_string("tenants/change_connection.html", context)

    def former_accounts(self, tenant: Tenant) -> SafeString:
        left = tenant.payment_accounts.exclude(disconnected_at=None).order_by("-disconnected_at")
        return render_to_string("tenants/former_accounts.html", {"accounts": left})
