"""The operators' pages about what is sold and what each payment left behind."""

import json
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import Model, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.timezone import now

# The admin finds modules of this name only, so this one brings the other along.
from purchases import ledger, money, notification_admin  # noqa: F401
from purchases.models import (
    Charge,
    CreditEntry,
    CreditPackage,
    Dispute,
    Entitlement,
    Offer,
    Plan,
    Product,
    Purchase,
    PurchaseEvent,
    Refund,
)
from tenants.admin import (
    MemberAdmin,
    ReadOnlyAdmin,
    ReadOnlyInline,
    TenantAdmin,
    TenantsOwnAdmin,
)
from tenants.admin_scope import ScopedAdmin
from tenants.models import Member, PaymentAccount, Tenant


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


class PricedAdmin(ScopedAdmin):
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


class CreditEntryInline(ReadOnlyInline):
    model = CreditEntry
    fields = ["kind", "amount", "balance_after", "created_at"]


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
            "checkout_session_id", "payment_intent_id", "charge_id", "charges", "refunds",
            "disputes", "account_id", "livemode",
        ]}),
        ("Record", {"fields": ["id", "created_at", "terms"]}),
    ]  # fmt: skip
    inlines = [EntitlementInline, CreditEntryInline, PurchaseEventInline]

    @admin.display(ordering="checkout_session_id", description="purchase")
    def session(self, purchase: Purchase) -> str:
        return shortened(str(purchase))

    @admin.display(description="charges of this payment")
    def charges(self, purchase: Purchase) -> SafeString:
        return _lines(purchase, Charge)

    @admin.display(description="refunds of this payment")
    def refunds(self, purchase: Purchase) -> SafeString:
        return _lines(purchase, Refund)

    @admin.display(description="disputes of this payment")
    def disputes(self, purchase: Purchase) -> SafeString:
        return _lines(purchase, Dispute)

    @admin.display(description="sold as")
    def terms(self, purchase: Purchase) -> SafeString:
        return as_json(purchase.snapshot)


def _lines(purchase: Purchase, model: type[Model]) -> SafeString:
    """What there is of that model for the purchase's payment, each with its amount and status."""
    rows: QuerySet[Any] = model._default_manager.filter(
        account_id=purchase.account_id, payment_intent_id=purchase.payment_intent_id
    ).exclude(payment_intent_id="")
    lines = (
        (link_to(row), money.display(row.amount, purchase.currency), _fate_of(row)) for row in rows
    )
    return format_html_join("", "{}: {}, {}<br>", lines)


def _fate_of(row: Charge | Refund | Dispute) -> str:
    return " ".join(filter(None, [row.status, getattr(row, "failure_code", "")]))


class OfPayment:
    """A row of Stripe's that names a payment: leads to the purchase it paid for, if any."""

    def rows_of(self, tenants: QuerySet[Tenant], rows: QuerySet[Any]) -> QuerySet[Any]:
        accounts = PaymentAccount.objects.filter(tenant__in=tenants)
        return rows.filter(account_id__in=accounts.values("stripe_account_id"))

    def purchase(self, row: Charge | Refund | Dispute) -> SafeString | None:
        purchase = Purchase.objects.filter(
            account_id=row.account_id, payment_intent_id=row.payment_intent_id
        ).first()
        return link_to(purchase) if purchase else None


CHARGE_COLUMNS = (
    "id", "price", "refunded", "status", "failure_code", "payment_intent_id", "account_id",
    "created_at",
)  # fmt: skip


@admin.register(Charge)
class ChargeAdmin(OfPayment, PricedAdmin, ReadOnlyAdmin):
    list_display = CHARGE_COLUMNS
    list_filter = ["status", "livemode"]
    search_fields = ["id", "payment_intent_id", "account_id"]
    fields = (*CHARGE_COLUMNS, "livemode", "purchase")

    @admin.display(ordering="amount_refunded")
    def refunded(self, charge: Charge) -> str:
        return money.display(charge.amount_refunded, charge.currency)


REVERSAL_COLUMNS = ("id", "value", "status", "payment_intent_id", "account_id", "created_at")


class ReversalAdmin(OfPayment, ReadOnlyAdmin):
    """Money that went back. Its currency is the purchase's; without one it is in minor units."""

    list_display = REVERSAL_COLUMNS
    list_filter = ["status", "created_at"]
    search_fields = ["id", "payment_intent_id", "account_id"]
    fields = [*REVERSAL_COLUMNS, "purchase"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        purchases = Purchase.objects.filter(
            account_id=OuterRef("account_id"), payment_intent_id=OuterRef("payment_intent_id")
        )
        rows: QuerySet[Any] = super().get_queryset(request)
        priced: QuerySet[Any] = rows.annotate(currency=Subquery(purchases.values("currency")[:1]))
        return priced

    @admin.display(ordering="amount", description="amount")
    def value(self, row: Any) -> str:
        return money.display(row.amount, row.currency) if row.currency else str(row.amount)


@admin.register(Refund)
class RefundAdmin(ReversalAdmin):
    pass


@admin.register(Dispute)
class DisputeAdmin(ReversalAdmin):
    fields = [*REVERSAL_COLUMNS, "status_at", "purchase"]


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


# --- the pages of who buys and who sells, with what they bought and have


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
