"""The operators' pages about each payment: the purchase, and what Stripe said of the money."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from purchases import amounts
from purchases.admin.cells import PricedAdmin, as_json, link_to, shortened
from purchases.admin.holding import CreditEntryInline, EntitlementInline, PurchaseEventInline
from purchases.models import Charge, Dispute, Purchase, Refund
from tenants.admin.pages import ReadOnlyAdmin, ReadOnlyInline
from tenants.models import PaymentAccount, Tenant


class PurchaseColumns:
    @admin.display(ordering="snapshot__name")
    def sold(self, purchase: Purchase) -> str:
        return str(purchase.snapshot.get("name", ""))

    @admin.display(ordering="amount_total")
    def total(self, purchase: Purchase) -> str:
        return amounts.display(purchase.amount_total, purchase.currency)

    @admin.display(ordering="amount_subtotal")
    def subtotal(self, purchase: Purchase) -> str:
        return amounts.display(purchase.amount_subtotal, purchase.currency)

    @admin.display(ordering="refunded_amount")
    def refunded(self, purchase: Purchase) -> str:
        return amounts.display(purchase.refunded_amount, purchase.currency)


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
        (link_to(row), amounts.display(row.amount, purchase.currency), _fate_of(row))
        for row in rows
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
        return amounts.display(charge.amount_refunded, charge.currency)


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
        return amounts.display(row.amount, row.currency) if row.currency else str(row.amount)


@admin.register(Refund)
class RefundAdmin(ReversalAdmin):
    pass


@admin.register(Dispute)
class DisputeAdmin(ReversalAdmin):
    fields = [*REVERSAL_COLUMNS, "status_at", "purchase"]
