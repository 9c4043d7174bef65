from rest_framework import serializers

from purchases.models import CreditEntry, CreditPackage, Entitlement, Purchase

# Far above any balance, and far below what the column holds.
MAX_SPEND = 1_000_000_000


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
            "refunded_amount",
            "currency",
            "created_at",
            "fulfilled_at",
        ]
        read_only_fields = fields


class CreditPackageSerializer(serializers.ModelSerializer[CreditPackage]):
    class Meta:
        model = CreditPackage
        fields = ["key", "credits", "amount", "currency"]
        read_only_fields = fields


class CreditEntrySerializer(serializers.ModelSerializer[CreditEntry]):
    class Meta:
        model = CreditEntry
        fields = [
            "id",
            "member",
            "purchase",
            "kind",
            "amount",
            "balance_after",
            "idempotency_key",
            "created_at",
        ]
        read_only_fields = fields


class SpendSerializer(serializers.Serializer[None]):
    amount = serializers.IntegerField(min_value=1, max_value=MAX_SPEND)
    member = serializers.CharField(max_length=64, required=False, allow_null=True, default=None)


class RefreshTokenSerializer(serializers.Serializer[None]):
    refresh_token = serializers.CharField(max_length=200)
