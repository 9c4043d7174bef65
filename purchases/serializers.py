from rest_framework import serializers

from purchases.models import Entitlement, Purchase


class EntitlementSerializer(serializers.ModelSerializer[Entitlement]):
    product = serializers.CharField(source="product.slug")
    product_name = serializers.CharField(source="product.name")

    class Meta:
        model = Entitlement
        fields = ["id", "product", "product_name", "purchase", "starts_at", "ends_at"]
        read_only_fields = fields


class PurchaseSerializer(serializers.ModelSerializer[Purchase]):
    name = serializers.CharField(source="snapshot.name")

    class Meta:
        model = Purchase
        fields = [
            "id",
            "name",
            "plan",
            "status",
            "amount_subtotal",
            "amount_total",
            "currency",
            "created_at",
            "fulfilled_at",
        ]
        read_only_fields = fields


class RefreshTokenSerializer(serializers.Serializer[None]):
    refresh_token = serializers.CharField(max_length=200)
