"""Where a tenant's server manages what it is notified of, and sees how that went."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from purchases import endpoints
from purchases.destinations import UnacceptableUrl, destination_of
from purchases.errors import TooManyEndpoints
from purchases.models import NotificationDelivery, NotificationEndpoint
from purchases.tenant_view import TenantView


class NewEndpointSerializer(serializers.Serializer[None]):
    url = serializers.CharField(max_length=2000)

    def validate_url(self, url: str) -> str:
        try:
            destination_of(url)
        except UnacceptableUrl as error:
            raise ValidationError(str(error)) from error
        return url


class DeliveryFilters(serializers.Serializer[None]):
    status = serializers.ChoiceField(
        choices=NotificationDelivery.Status.choices, required=False, help_text="Only these."
    )


class EndpointSerializer(serializers.ModelSerializer[NotificationEndpoint]):
    class Meta:
        model = NotificationEndpoint
        fields = [
            "id", "url", "created_at", "former_secret_until", "failing_since", "disabled_at",
            "disabled_reason",
        ]  # fmt: skip
        read_only_fields = fields


class EndpointSecretSerializer(EndpointSerializer):
    """The endpoint with its secret, which this answer alone shows."""

    secret = serializers.CharField(read_only=True)

    class Meta(EndpointSerializer.Meta):
        fields = [*EndpointSerializer.Meta.fields, "secret"]
        read_only_fields = fields


class DeliverySerializer(serializers.ModelSerializer[NotificationDelivery]):
    type = serializers.CharField(source="event.type")

    class Meta:
        model = NotificationDelivery
        fields = [
            "id", "endpoint", "event", "type", "status", "attempts", "next_attempt_at",
            "response_status", "error", "created_at", "delivered_at",
        ]  # fmt: skip
        read_only_fields = fields


class EndpointView(TenantView, generics.GenericAPIView[NotificationEndpoint]):
    """A call about the tenant's endpoints; anybody else's is not found."""

    serializer_class = EndpointSerializer
    lookup_field = "id"

    def get_queryset(self) -> QuerySet[NotificationEndpoint]:
        return NotificationEndpoint.objects.filter(tenant=self.tenant)

    def with_secret(self, endpoint: NotificationEndpoint, secret: str, *, status: int) -> Response:
        data = {**self.get_serializer(endpoint).data, "secret": secret}
        return Response(data, status=status, headers={"Cache-Control": "no-store"})


class Endpoints(EndpointView, generics.ListAPIView[NotificationEndpoint]):
    """`GET /api/v1/notification-endpoints`: where you are notified, the latest first."""

    raises = (TooManyEndpoints,)

    @extend_schema(request=NewEndpointSerializer, responses={201: EndpointSecretSerializer})
    def post(self, request: Request) -> Response:
        """`POST /api/v1/notification-endpoints`: be notified at an address, from now on.

        The answer is the only one that shows the secret. There may be ten endpoints.
        """
        url = self.asked(NewEndpointSerializer, request.data)["url"]
        endpoint, secret = endpoints.create_endpoint(self.tenant, url)
        return self.with_secret(endpoint, secret, status=201)


class Endpoint(EndpointView, generics.RetrieveDestroyAPIView[NotificationEndpoint]):
    """`GET /api/v1/notification-endpoints/{id}`: one of them, and whether it works."""

    @extend_schema(responses={204: None})
    def delete(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """`DELETE /api/v1/notification-endpoints/{id}`: be notified there no more."""
        return self.destroy(request, *args, **kwargs)


class EndpointSecret(EndpointView):
    """`POST /api/v1/notification-endpoints/{id}/rotate-secret`: replace the secret.

    For 24 hours the former one signs too. The answer is the only one that shows the new one.
    """

    @extend_schema(request=None, responses=EndpointSecretSerializer)
    def post(self, request: Request, id: str) -> Response:  # noqa: A002  (the URL's name for it)
        endpoint = self.get_object()
        return self.with_secret(endpoint, endpoints.rotate_secret(endpoint), status=200)


class EndpointEnabling(EndpointView):
    """`POST /api/v1/notification-endpoints/{id}/enable`: send again, what was missed first."""

    @extend_schema(request=None)
    def post(self, request: Request, id: str) -> Response:  # noqa: A002
        endpoint = self.get_object()
        endpoints.enable(self.get_queryset().filter(pk=endpoint.pk))
        endpoint.refresh_from_db()
        return Response(self.get_serializer(endpoint).data)


@extend_schema_view(get=extend_schema(parameters=[DeliveryFilters]))
class Deliveries(TenantView, generics.ListAPIView[NotificationDelivery]):
    """`GET /api/v1/notification-endpoints/{id}/deliveries`: what was sent, the latest first."""

    serializer_class = DeliverySerializer
    raises = (NotFound,)

    def get_queryset(self) -> QuerySet[NotificationDelivery]:
        asked = self.asked(DeliveryFilters)
        endpoint = generics.get_object_or_404(
            NotificationEndpoint, tenant=self.tenant, pk=self.kwargs["id"]
        )
        deliveries = endpoint.deliveries.filter(**asked).select_related("event")
        return deliveries.order_by("-created_at", "-event")


class Redelivery(TenantView, generics.GenericAPIView[NotificationDelivery]):
    """`POST /api/v1/notification-deliveries/{id}/redeliver`: send it once more, soon."""

    serializer_class = DeliverySerializer
    lookup_field = "id"

    def get_queryset(self) -> QuerySet[NotificationDelivery]:
        deliveries = NotificationDelivery.objects.filter(endpoint__tenant=self.tenant)
        return deliveries.select_related("event")

    @extend_schema(request=None, responses={202: DeliverySerializer})
    def post(self, request: Request, id: str) -> Response:  # noqa: A002
        delivery = self.get_object()
        endpoints.redeliver(self.get_queryset().filter(pk=delivery.pk))
        delivery.refresh_from_db()
        return Response(self.get_serializer(delivery).data, status=202)
