"""What a tenant's server is shown."""

from typing import Any

from drf_spectacular.utils import inline_serializer
from rest_framework import serializers

from purchases.models import Entitlement, Plan, Product, Purchase, PurchaseEvent
from purchases.server_questions import INCLUDABLE
from tenants.models import Member


class ProductSerializer(serializers.ModelSerializer[Product]):
    class Meta:
        model = Product
        fields = ["slug", "name"]
        read_only_fields = fields


class PlanSerializer(serializers.ModelSerializer[Plan]):
    offer = serializers.CharField(source="offer.slug")
    products: Any = serializers.SlugRelatedField("slug", many=True, read_only=True)

    class Meta:
        model = Plan
        fields = [
            "id", "name", "offer", "products", "amount", "currency", "duration", "credits",
            "is_active",
        ]  # fmt: skip
        read_only_fields = fields


class GrantedSerializer(serializers.ModelSerializer[Entitlement]):
    product = serializers.CharField(source="product.slug")
    product_name = serializers.CharField(source="product.name")
    active = serializers.BooleanField(source="is_active")

    class Meta:
        model = Entitlement
        fields = [
            "id", "member", "product", "product_name", "purchase", "active", "starts_at",
            "ends_at", "suspended_at", "revoked_at", "reason",
        ]  # fmt: skip
        read_only_fields = fields


class SaleSerializer(serializers.ModelSerializer[Purchase]):
    name = serializers.CharField(source="snapshot.name", read_only=True)
    products = serializers.SerializerMethodField()
    credits = serializers.IntegerField(source="snapshot.credits", read_only=True)

    class Meta:
        model = Purchase
        fields = [
            "id", "member", "name", "plan", "package", "products", "credits", "status",
            "payment_status", "amount_subtotal", "amount_total", "refunded_amount", "currency",
            "checkout_session_id", "payment_intent_id", "livemode", "created_at", "fulfilled_at",
            "fulfilled_by",
        ]  # fmt: skip
        read_only_fields = fields

    def get_products(self, purchase: Purchase) -> list[str]:
        return [product["slug"] for product in purchase.snapshot.get("products", [])]


class AudienceMemberSerializer(serializers.ModelSerializer[Member]):
    """A member, with what the call asked to include."""

    entitlements = GrantedSerializer(many=True, required=False)
    purchases = SaleSerializer(many=True, required=False)

    class Meta:
        model = Member
        fields = ["id", "email", "name", "external_id", "created_at", "disabled_at", *INCLUDABLE]
        read_only_fields = fields

    def get_fields(self) -> dict[str, Any]:
        included = self.context.get("include", INCLUDABLE)
        return {
            name: field
            for name, field in super().get_fields().items()
            if name not in INCLUDABLE or name in included
        }


class AccessSerializer(serializers.Serializer[dict[str, Any]]):
    access = serializers.BooleanField()
    member = serializers.UUIDField()
    product = serializers.CharField()
    ends_at = serializers.DateTimeField(
        allow_null=True, help_text="The latest end; null with access: for good."
    )
    entitlements = GrantedSerializer(many=True)


class PurchaseEventSerializer(serializers.ModelSerializer[PurchaseEvent]):
    class Meta:
        model = PurchaseEvent
        fields = ["id", "type", "created_at", "member", "purchase", "data"]
        read_only_fields = fields


EVENTS = inline_serializer(
    "PurchaseEvents",
    {
        "data": PurchaseEventSerializer(many=True),
        "meta": inline_serializer(
            "FeedPosition",
            {
                "next": serializers.CharField(
                    help_text="`after` of the next call, also where nothing is left now."
                ),
                "has_more": serializers.BooleanField(),
            },
        ),
    },
)
