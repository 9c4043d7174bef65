"""The operators' pages about who buys and who sells, with what they bought and have."""

from urllib.parse import urlencode

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from purchases import ledger
from purchases.admin.holding import EntitlementInline
from purchases.admin.payment import PurchaseInline
from tenants.admin.members import MemberAdmin
from tenants.admin.selling import TenantAdmin
from tenants.models import Member, Tenant


def balance(tenant: Tenant, member: Member | None) -> SafeString:
    """The owner's credits, as a link to the lines that make them."""
    owner = {"member__id__exact": member.pk} if member else {"member__isnull": True}
    return format_html(
        '<a href="{}?{}">{}</a>',
        reverse("admin:purchases_creditentry_changelist"),
        urlencode({"tenant__id__exact": tenant.pk, **owner}),
        ledger.balance_of(tenant, member),
    )


admin.site.unregister([Member, Tenant])


@admin.register(Member)
class BuyerAdmin(MemberAdmin):
    fields = [*MemberAdmin.fields, "credits"]
    readonly_fields = [*MemberAdmin.readonly_fields, "credits"]
    inlines = [EntitlementInline, PurchaseInline]

    def credits(self, member: Member) -> SafeString:
        return balance(member.tenant, member)


@admin.register(Tenant)
class CreditedTenantAdmin(TenantAdmin):
    readonly_fields = [*TenantAdmin.readonly_fields, "credits"]

    @admin.display(description="credits of its own")
    def credits(self, tenant: Tenant) -> SafeString:
        return balance(tenant, None)
