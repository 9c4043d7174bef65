"""The operators' pages about telling tenants' servers what happened."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from purchases import endpoints
from purchases.models import NotificationDelivery, NotificationEndpoint
from tenants.admin.pages import ReadOnlyAdmin

ENDPOINT_COLUMNS = (
    "url", "tenant", "created_at", "failing_since", "disabled_at", "disabled_reason",
)  # fmt: skip


@admin.register(NotificationEndpoint)
class NotificationEndpointAdmin(ReadOnlyAdmin):
    list_display = ENDPOINT_COLUMNS
    list_filter = [
        ("disabled_at", admin.EmptyFieldListFilter),
        ("failing_since", admin.EmptyFieldListFilter),
    ]
    list_select_related = ["tenant"]
    search_fields = ["id", "url", "tenant__slug", "tenant__name"]
    fields = (*ENDPOINT_COLUMNS, "former_secret_until", "id")
    actions = ["disable", "enable"]

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("purchases.change_notificationendpoint"))

    @admin.action(description="Disable", permissions=["operate"])
    def disable(self, request: HttpRequest, queryset: QuerySet[NotificationEndpoint]) -> None:
        disabled = endpoints.disable(queryset, "An operator disabled it.")
        self.message_user(request, f"{disabled} disabled.", messages.SUCCESS)

    @admin.action(description="Enable", permissions=["operate"])
    def enable(self, request: HttpRequest, queryset: QuerySet[NotificationEndpoint]) -> None:
        enabled = endpoints.enable(queryset)
        self.message_user(
            request, f"{enabled} enabled; what they missed is sent first.", messages.SUCCESS
        )


DELIVERY_COLUMNS = (
    "id", "event", "endpoint", "status", "attempts", "next_attempt_at", "response_status", "error",
    "created_at", "delivered_at",
)  # fmt: skip


@admin.register(NotificationDelivery)
class NotificationDeliveryAdmin(ReadOnlyAdmin):
    tenant_path = "endpoint__tenant"
    list_display = fields = DELIVERY_COLUMNS
    list_filter = ["status", "response_status", "event__type", "created_at"]
    list_select_related = ["event", "endpoint"]
    search_fields = ["id", "endpoint__id", "endpoint__url", "endpoint__tenant__slug"]
    actions = ["redeliver"]

    def has_redeliver_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("purchases.change_notificationdelivery"))

    @admin.action(description="Redeliver", permissions=["redeliver"])
    def redeliver(self, request: HttpRequest, queryset: QuerySet[NotificationDelivery]) -> None:
        queued = endpoints.redeliver(queryset)
        self.message_user(request, f"{queued} queued to be sent once more.", messages.SUCCESS)
