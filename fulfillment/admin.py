"""The operators' inbox: why somebody has no access, and the one verb that helps."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Max, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.formats import localize
from django.utils.safestring import SafeString

from fulfillment import inbox, quarantine
from fulfillment.facts import text
from fulfillment.models import (
    Checkout,
    Reconciliation,
    RejectedDelivery,
    StripeEvent,
    StripeEventQuerySet,
    Worker,
)
from fulfillment.parsing import Unparsable, parse_object
from purchases import amounts
from purchases.admin.cells import as_json, preformatted, shortened
from purchases.admin.owners import CreditedTenantAdmin
from purchases.admin.payment import PurchaseAdmin
from purchases.models import Purchase
from tenants.admin.pages import ReadOnlyAdmin, ReadOnlyInline
from tenants.models import Tenant

# Greedy, so that it doesn't matter how "=" is written: %3D, %253D, \u003d.
TOKEN = re.compile(r"""(allegro_purchase_token)[^\s"'<>&#]+""", re.IGNORECASE)


def readable(payload: bytes) -> str:
    """The body of an event for people, without the return-page token: it signs a buyer in."""
    try:
        body = json.dumps(parse_object(payload), indent=2, ensure_ascii=False)
    except Unparsable:
        body = repr(payload)
    return text(TOKEN.sub(r"\1=[removed]", body))


def report(request: HttpRequest, records: Sequence[StripeEvent], *, left_alone: int = 0) -> None:
    """Tell the operator what became of the records."""
    settled = sum(record.status not in StripeEvent.UNSETTLED for record in records)
    held = sum(record.status == StripeEvent.Status.HELD for record in records)
    failing = len(records) - settled - held
    counts = [f"{settled} settled", f"{held} still held", f"{failing} still failing"]
    if left_alone:
        counts.append(f"{left_alone} left alone because settled before")
    level = messages.WARNING if held or failing else messages.SUCCESS
    messages.add_message(request, level, ", ".join(counts) + ".")


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnlyAdmin):
    list_display = ["short_id", "type", "status", "outcome", "tenant", "account_id", "received_at"]
    list_filter = ["status", "outcome", "type", "channel", "livemode", "received_at"]
    list_select_related = ["tenant"]
    search_fields = [
        "id", "object_id", "account_id", "purchase__checkout_session_id",
        "purchase__payment_intent_id", "purchase__member__email",
    ]  # fmt: skip
    actions = ["process_again"]
    fieldsets = [
        (None, {"fields": [
            "status", "outcome", "error", "attempts", "next_attempt_at", "settled_at", "tenant",
            "purchase",
        ]}),
        ("At Stripe", {"fields": [
            "id", "type", "object_id", "account_id", "livemode", "api_version", "created",
        ]}),
        ("Delivery", {"fields": ["channel", "signed_by", "received_at", "body"]}),
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[StripeEvent]:
        # Up to 1 MiB each, and no list shows it.
        return super().get_queryset(request).defer("payload")

    @admin.display(ordering="id", description="id")
    def short_id(self, record: StripeEvent) -> str:
        return shortened(record.id)

    @admin.display(description="payload")
    def body(self, record: StripeEvent) -> SafeString:
        payload = bytes(record.payload)
        return preformatted(readable(payload) if payload else "Removed 90 days after it came.")

    def has_process_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("fulfillment.process_stripeevent"))

    @admin.action(description="Process again", permissions=["process"])
    def process_again(self, request: HttpRequest, queryset: StripeEventQuerySet) -> None:
        unsettled = list(queryset.unsettled().order_by("received_at").values_list("pk", flat=True))
        left_alone = queryset.count() - len(unsettled)
        records = [inbox.process_again(record_id) for record_id in unsettled]
        report(request, records, left_alone=left_alone)


@admin.register(Checkout)
class CheckoutAdmin(ReadOnlyAdmin):
    list_display = [
        "session", "member", "sold", "price", "status", "tenant", "created_at", "expires_at",
    ]  # fmt: skip
    list_filter = ["status", "livemode", "created_at"]
    list_select_related = ["member", "tenant"]
    search_fields = [
        "id", "stripe_session_id", "account_id", "member__email", "purchase__payment_intent_id",
    ]  # fmt: skip
    fieldsets = [
        (None, {"fields": ["status", "purchase", "created_at", "expires_at", "exchanged_at"]}),
        ("Who", {"fields": ["tenant", "member", "member_session"]}),
        ("What", {"fields": ["sold", "plan", "package", "price", "terms"]}),
        ("At Stripe", {"fields": ["stripe_session_id", "account_id", "livemode", "return_url"]}),
        ("Record", {"fields": ["id"]}),
    ]

    @admin.display(ordering="stripe_session_id", description="checkout")
    def session(self, checkout: Checkout) -> str:
        return shortened(str(checkout))

    def sold(self, checkout: Checkout) -> str:
        return str(checkout.snapshot["name"])

    def price(self, checkout: Checkout) -> str:
        return amounts.display(checkout.snapshot["amount"], checkout.snapshot["currency"])

    @admin.display(description="offered as")
    def terms(self, checkout: Checkout) -> SafeString:
        return as_json(checkout.snapshot)


STILL_REJECTED_HINT = (
    "What is still rejected was signed with a secret that STRIPE_WEBHOOK_SECRET does not have, or "
    "not by Stripe at all; the oldest make room for new ones by themselves."
)


@admin.register(RejectedDelivery)
class RejectedDeliveryAdmin(ReadOnlyAdmin):
    tenant_path = None
    list_display = ["received_at", "reason"]
    search_fields = ["reason"]
    actions = ["verify_again"]
    fields = ["received_at", "reason", "payload"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[RejectedDelivery]:
        return super().get_queryset(request).defer("body")

    def payload(self, delivery: RejectedDelivery) -> SafeString:
        return preformatted(readable(bytes(delivery.body)))

    def has_process_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("fulfillment.process_stripeevent"))

    @admin.action(description="Verify again", permissions=["process"])
    def verify_again(self, request: HttpRequest, queryset: QuerySet[RejectedDelivery]) -> None:
        """What `manage.py reverify` does, with those that were ticked."""
        ticked = list(queryset.order_by("received_at", "pk").values_list("pk", flat=True))
        results = [quarantine.verify_again(delivery_id) for delivery_id in ticked]
        records = [record for _, record in results if record]
        if records:
            report(request, records)
        if others := Counter(verdict for verdict, record in results if not record):
            counts = ", ".join(f"{count} {verdict}" for verdict, count in others.items())
            self.message_user(request, f"{counts}. {STILL_REJECTED_HINT}", messages.WARNING)


RECONCILIATION_COLUMNS = (
    "__str__", "livemode", "finished_at", "events_seen", "events_missing", "missing_total",
    "error", "due_at", "deep_due_at",
)  # fmt: skip


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnlyAdmin):
    tenant_path = None
    list_display = fields = RECONCILIATION_COLUMNS
    search_fields = ["account_id"]


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    tenant_path = None
    list_display = fields = ("name", "started_at", "seen_at")
    search_fields = ["name"]


# --- pages of the layers below, with what only this one knows


class CheckoutInline(ReadOnlyInline):
    model = Checkout
    fields = ["status", "created_at", "expires_at", "exchanged_at"]
    verbose_name_plural = "Checkout"


class StripeEventInline(ReadOnlyInline):
    model = StripeEvent
    fields = ["type", "status", "outcome", "channel", "received_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[StripeEvent]:
        return super().get_queryset(request).defer("payload")


admin.site.unregister(Purchase)


@admin.register(Purchase)
class FulfilledPurchaseAdmin(PurchaseAdmin):
    inlines = [*PurchaseAdmin.inlines, StripeEventInline, CheckoutInline]


admin.site.unregister(Tenant)


@admin.register(Tenant)
class ResumingTenantAdmin(CreditedTenantAdmin):
    stripe_fields = [*CreditedTenantAdmin.stripe_fields, "last_event"]

    @admin.display(description="last event received")
    def last_event(self, tenant: Tenant) -> str:
        of_account = StripeEvent.objects.filter(
            account_id=OuterRef("stripe_account_id"), livemode=OuterRef("livemode")
        ).order_by("-received_at")
        accounts = tenant.payment_accounts.annotate(
            last=Subquery(of_account.values("received_at")[:1])
        )
        last: datetime | None = accounts.aggregate(Max("last"))["last__max"]
        return str(localize(last)) if last else "none"

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        """Enabling a tenant again resumes what was held for it meanwhile."""
        super().save_model(request, obj, form, change)
        if change and obj.is_active and "is_active" in form.changed_data:
            transaction.on_commit(lambda: self._resume(request, obj))

    def _resume(self, request: HttpRequest, tenant: Tenant) -> None:
        if records := inbox.resume_held(tenant):
            report(request, records)
