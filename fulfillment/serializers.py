"""What a browser may send and what it is answered."""

from drf_spectacular.utils import PolymorphicProxySerializer
from rest_framework import serializers

from fulfillment.checkouts import Order
from fulfillment.facts import uuid_or_nil
from purchases.serializers import EntitlementSerializer, PurchaseSerializer, TokenSerializer
from tenants.models import Member


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


# --- what it is answered


class OpenedSerializer(serializers.Serializer[None]):
    id = serializers.UUIDField()
    url = serializers.CharField(help_text="Where the member pays.")
    expires_at = serializers.DateTimeField()


class PackageCheckoutSerializer(serializers.Serializer[None]):
    checkout_url = serializers.CharField()


class BuyerSerializer(serializers.ModelSerializer[Member]):
    class Meta:
        model = Member
        fields = ["id", "email", "name"]
        read_only_fields = fields


class CompletedSerializer(TokenSerializer):
    status = serializers.ChoiceField(["completed"])
    member = BuyerSerializer()
    purchase = PurchaseSerializer()
    entitlements = EntitlementSerializer(many=True)
    credits = serializers.IntegerField()


class FailedSerializer(serializers.Serializer[None]):
    status = serializers.ChoiceField(["failed"])
    reason = serializers.ChoiceField(["expired", "payment_failed"])


class ProcessingSerializer(serializers.Serializer[None]):
    status = serializers.ChoiceField(["processing"])
    retry_after = serializers.IntegerField(help_text="In seconds.")


EXCHANGED = PolymorphicProxySerializer(
    "Exchanged", serializers=[CompletedSerializer, FailedSerializer], resource_type_field_name=None
)
