"""What a browser may send."""

from rest_framework import serializers

from fulfillment.checkouts import Order
from fulfillment.facts import uuid_or_nil


class CheckoutSerializer(serializers.Serializer[None]):
    plan = serializers.CharField(max_length=64)
    return_url = serializers.CharField(max_length=2000, required=False, default="")
    email = serializers.EmailField(max_length=254, required=False, default="", allow_blank=True)
    verifier_sha256 = serializers.RegexField(
        r"^[0-9a-f]{64}$", required=False, default="", allow_blank=True
    )

    def order(self) -> Order:
        asked = self.validated_data
        return Order(
            plan_id=uuid_or_nil(asked["plan"]),
            return_url=asked["return_url"],
            email=asked["email"],
            verifier_sha256=asked["verifier_sha256"],
        )


class CreditCheckoutSerializer(serializers.Serializer[None]):
    package = serializers.CharField(max_length=64)
    success_url = serializers.CharField(max_length=2000)
    cancel_url = serializers.CharField(max_length=2000)


class ExchangeSerializer(serializers.Serializer[None]):
    token = serializers.CharField(max_length=200)
    verifier = serializers.CharField(max_length=200, required=False, default="", allow_blank=True)
