from typing import Any

from rest_framework import serializers

from purchases.models import CreditEntry, CreditPackage, Entitlement, Purchase


class EntitlementSerializer(serializers.ModelSerializer[Entitlement]):
    product = serializers.CharField(source="product.slug")
    product_name = serializers.CharField(source="product.name")

    class Meta:
        model = Entitlement
        fields = ["id", "product", "product_name", "purchase", "starts_at", "ends_at"]
        read_only_fields = fields


class PurchaseSerializer(serializers.ModelSerializer[Purchase]):
    name = serializers.CharField(source="snapshot.name", read_only=True)

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


class RefreshTokenSerializer(serializers.Serializer[None]):
    refresh_token = serializers.CharField(max_length=200)


class BalanceSerializer(serializers.Serializer[dict[str, int]]):
    balance = serializers.IntegerField(help_text="In credits; below zero after a refund, perhaps.")


class TokenSerializer(serializers.Serializer[dict[str, Any]]):
    jwt = serializers.CharField(help_text="The member's token, for `Authorization: Bearer`.")
    expires_at = serializers.DateTimeField(help_text="When the jwt does.")
    refresh_token = serializers.CharField(help_text="Good for one refresh.")
