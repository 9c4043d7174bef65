"""The operators' pages about what is sold."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from purchases.admin.cells import PricedAdmin
from purchases.models import CreditPackage, Offer, Plan, Product
from tenants.admin.pages import TenantsOwnAdmin
from tenants.models import Tenant


@admin.register(Product)
class ProductAdmin(TenantsOwnAdmin):
    list_display = ["name", "slug", "tenant"]
    search_fields = ["slug", "name", "tenant__slug", "tenant__name"]
    fields = ["tenant", "slug", "name"]


class PlanInline(admin.StackedInline):
    model = Plan
    fields = [
        "name", "products", ("amount", "currency"), ("duration", "credits"), "is_active",
    ]  # fmt: skip
    extra = 0
    can_delete = False
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        return super().get_queryset(request).prefetch_related("products")

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        formset = super().get_formset(request, obj, **kwargs)
        _offer_products_of(obj.tenant, form=formset.form)
        return formset


def _offer_products_of(tenant: Tenant, *, form: type[forms.ModelForm]) -> None:
    """Let a plan be made of its own tenant's products only; it could give away others'."""
    field: Any = form.base_fields.get("products")
    if field:
        field.queryset = Product.objects.filter(tenant=tenant)
        # Read once: each plan of an offer would read them again.
        field.choices = list(field.choices)


@admin.register(Offer)
class OfferAdmin(TenantsOwnAdmin):
    list_display = ["name", "slug", "tenant"]
    search_fields = ["slug", "name", "tenant__slug", "tenant__name"]
    fields = ["tenant", "slug", "name"]
    inlines = [PlanInline]

    # Which products a plan may have depends on the tenant, so that comes first.
    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return super().get_inlines(request, obj) if obj else []


@admin.register(Plan)
class PlanAdmin(PricedAdmin):
    """Plans are added on their offer's page."""

    tenant_path = "offer__tenant"
    list_display = ["name", "offer", "tenant", "price", "duration", "credits", "is_active"]
    list_filter = ["is_active", "currency"]
    list_select_related = ["offer__tenant"]
    search_fields = ["id", "name", "offer__slug", "offer__name", "offer__tenant__slug"]
    fields = [
        "id", "tenant", "offer", "name", "products", "price", "amount", "currency", "duration",
        "credits", "is_active",
    ]  # fmt: skip
    readonly_fields = ["id", "tenant", "offer", "price"]
    filter_horizontal = ["products"]

    @admin.display(ordering="offer__tenant")
    def tenant(self, plan: Plan) -> Tenant:
        return plan.offer.tenant

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        _offer_products_of(obj.offer.tenant, form=form)
        return form

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(CreditPackage)
class CreditPackageAdmin(PricedAdmin):
    tenant_path = None
    list_display = ["key", "credits", "price", "is_active"]
    list_filter = ["is_active"]
    search_fields = ["key"]
