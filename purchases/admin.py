"""The operators' pages about what is sold and what each payment left behind."""

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.timezone import now

from purchases import money
from purchases.models import (
    Charge,
    CreditPackage,
    Entitlement,
    Offer,
    Plan,
    Product,
    Purchase,
    PurchaseEvent,
)
from tenants.admin import MemberAdmin, ReadOnlyAdmin, ReadOnlyInline, TenantsOwnAdmin
from tenants.models import Member, Tenant


def preformatted(text: str) -> SafeString:
    """The text with its line breaks and indents, escaped."""
    return format_html("<pre>{}</pre>", text)


def as_json(value: Any) -> SafeString:
    return preformatted(json.dumps(value, indent=2, ensure_ascii=False))


def link_to(row: Any) -> SafeString:
    """A link to the row's own page, named as the row is."""
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_change"
    return format_html('<a href="{}">{}</a>', reverse(name, args=[quote(row.pk)]), row)


def shortened(identifier: str) -> str:
    """As much of an id as tells rows apart and leaves a list room for its other columns."""
    return Truncator(identifier).chars(30)


# --- what is sold


class PricedAdmin(admin.ModelAdmin):
    """Shows `amount` and `currency` as one price."""

    @admin.display(ordering="amount")
    def price(self, row: Any) -> str:
        return money.display(row.amount, row.currency)


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
    list_display = ["key", "credits", "price", "is_active"]
    list_filter = ["is_active"]
    search_fields = ["key"]


# --- what a payment left behind


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


class PurchaseEventInline(ReadOnlyInline):
    model = PurchaseEvent
    fields = ["type", "data", "created_at"]


class PurchaseColumns:
    @admin.display(ordering="snapshot__name")
    def sold(self, purchase: Purchase) -> str:
        return str(purchase.snapshot.get("name", ""))

    @admin.display(ordering="amount_total")
    def total(self, purchase: Purchase) -> str:
        return money.display(purchase.amount_total, purchase.currency)

    @admin.display(ordering="amount_subtotal")
    def subtotal(self, purchase: Purchase) -> str:
        return money.display(purchase.amount_subtotal, purchase.currency)

    @admin.display(ordering="refunded_amount")
    def refunded(self, purchase: Purchase) -> str:
        return money.display(purchase.refunded_amount, purchase.currency)


class PurchaseInline(PurchaseColumns, ReadOnlyInline):
    model = Purchase
    fields = ["sold", "total", "refunded", "status", "fulfilled_at", "created_at"]


@admin.register(Purchase)
class PurchaseAdmin(PurchaseColumns, ReadOnlyAdmin):
    list_display = ["session", "member", "sold", "total", "status", "tenant", "created_at"]
    list_filter = ["status", "payment_status", "fulfilled_by", "livemode", "created_at"]
    list_select_related = ["member", "tenant"]
    search_fields = [
        "id", "checkout_session_id", "payment_intent_id", "charge_id", "account_id",
        "member__email",
    ]  # fmt: skip
    fieldsets = [
        (None, {"fields": ["status", "payment_status", "fulfilled_by", "fulfilled_at"]}),
        ("Who", {"fields": ["tenant", "member", "member_is_new"]}),
        ("What", {"fields": ["sold", "plan", "package", "total", "subtotal", "refunded"]}),
        ("At Stripe", {"fields": [
            "checkout_session_id", "payment_intent_id", "charge_id", "charges", "account_id",
            "livemode",
        ]}),
        ("Record", {"fields": ["id", "created_at", "terms"]}),
    ]  # fmt: skip
    inlines = [EntitlementInline, PurchaseEventInline]

    @admin.display(ordering="checkout_session_id", description="purchase")
    def session(self, purchase: Purchase) -> str:
        return shortened(str(purchase))

    @admin.display(description="charges of this payment")
    def charges(self, purchase: Purchase) -> SafeString:
        charges = Charge.objects.filter(
            account_id=purchase.account_id, payment_intent_id=purchase.payment_intent_id
        ).exclude(payment_intent_id="")
        rows = (
            (link_to(charge), money.display(charge.amount, charge.currency), _fate_of(charge))
            for charge in charges
        )
        return format_html_join("", "{}: {}, {}<br>", rows)

    @admin.display(description="sold as")
    def terms(self, purchase: Purchase) -> SafeString:
        return as_json(purchase.snapshot)


def _fate_of(charge: Charge) -> str:
    return " ".join(filter(None, [charge.status, charge.failure_code]))


CHARGE_COLUMNS = (
    "id", "price", "status", "failure_code", "payment_intent_id", "account_id", "created_at",
)  # fmt: skip


@admin.register(Charge)
class ChargeAdmin(PricedAdmin, ReadOnlyAdmin):
    list_display = CHARGE_COLUMNS
    list_filter = ["status", "livemode"]
    search_fields = ["id", "payment_intent_id", "account_id"]
    fields = (*CHARGE_COLUMNS, "livemode", "purchase")

    def purchase(self, charge: Charge) -> SafeString | None:
        purchase = Purchase.objects.filter(
            account_id=charge.account_id, payment_intent_id=charge.payment_intent_id
        ).first()
        return link_to(purchase) if purchase else None


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


# --- the member's page, with what they bought


admin.site.unregister(Member)


@admin.register(Member)
class BuyerAdmin(MemberAdmin):
    inlines = [EntitlementInline, PurchaseInline]
