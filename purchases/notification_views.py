"""Where a tenant's server manages what it is notified of, and sees how that went."""

from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from purchases import endpoints
from purchases.destinations import UnacceptableUrl, destination_of
from purchases.models import NotificationDelivery, NotificationEndpoint
from purchases.views import TenantView, uuid_or_404

Status = NotificationDelivery.Status


class NewEndpointSerializer(serializers.Serializer[None]):
    url = serializers.CharField(max_length=2000)

    def validate_url(self, url: str) -> str:
        try:
            destination_of(url)
        except UnacceptableUrl as error:
            raise ValidationError(str(error)) from error
        return url


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


class EndpointView(TenantView):
    """A call about the tenant's endpoints; anybody else's is not found."""

    def endpoints(self) -> QuerySet[NotificationEndpoint]:
        return NotificationEndpoint.objects.filter(tenant=self.tenant)

    def endpoint(self, endpoint_id: object) -> NotificationEndpoint:
        return get_object_or_404(self.endpoints(), pk=uuid_or_404(endpoint_id))


def with_secret(endpoint: NotificationEndpoint, secret: str, *, status: int) -> Response:
    data = {**EndpointSerializer(endpoint).data, "secret": secret}
    return Response(data, status=status, headers={"Cache-Control": "no-store"})


class Endpoints(EndpointView, generics.ListAPIView[NotificationEndpoint]):
    """`GET /api/v1/notification-endpoints`, and `POST` to add one: ten at most."""

    serializer_class = EndpointSerializer

    def get_queryset(self) -> QuerySet[NotificationEndpoint]:
        return self.endpoints()

    @extend_schema(request=NewEndpointSerializer, responses={201: EndpointSecretSerializer})
    def post(self, request: Request) -> Response:
        body = NewEndpointSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        endpoint, secret = endpoints.create_endpoint(self.tenant, body.validated_data["url"])
        return with_secret(endpoint, secret, status=201)


class Endpoint(EndpointView):
    """`GET` and `DELETE /api/v1/notification-endpoints/{id}`."""

    @extend_schema(responses=EndpointSerializer)
    def get(self, request: Request, endpoint_id: str) -> Response:
        return Response(EndpointSerializer(self.endpoint(endpoint_id)).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, endpoint_id: str) -> Response:
        self.endpoint(endpoint_id).delete()
        return Response(status=204)


class EndpointSecret(EndpointView):
    """`POST /api/v1/notification-endpoints/{id}/rotate-secret`: a new one; the old signs on too."""

    @extend_schema(request=None, responses=EndpointSecretSerializer)
    def post(self, request: Request, endpoint_id: str) -> Response:
        endpoint = self.endpoint(endpoint_id)
        return with_secret(endpoint, endpoints.rotate_secret(endpoint), status=200)


class EndpointEnabling(EndpointView):
    """`POST /api/v1/notification-endpoints/{id}/enable`: send to it again, what it missed first."""

    @extend_schema(request=None, responses=EndpointSerializer)
    def post(self, request: Request, endpoint_id: str) -> Response:
        endpoint = self.endpoint(endpoint_id)
        endpoints.enable(self.endpoints().filter(pk=endpoint.pk))
        endpoint.refresh_from_db()
        return Response(EndpointSerializer(endpoint).data)


class Deliveries(EndpointView, generics.ListAPIView[NotificationDelivery]):
    """`GET /api/v1/notification-endpoints/{id}/deliveries[?status=]`, the latest first."""

    serializer_class = DeliverySerializer

    def get_queryset(self) -> QuerySet[NotificationDelivery]:
        endpoint = self.endpoint(self.kwargs["endpoint_id"])
        deliveries = endpoint.deliveries.select_related("event").order_by("-created_at", "-event")
        status = self.request.query_params.get("status")
        if status is None:
            return deliveries
        if status not in Status:
            raise ValidationError({"status": [f"Write one of {', '.join(Status.values)}."]})
        return deliveries.filter(status=status)


class Redelivery(TenantView):
    """`POST /api/v1/notification-deliveries/{id}/redeliver`: send it once more, soon."""

    @extend_schema(request=None, responses={202: DeliverySerializer})
    def post(self, request: Request, delivery_id: str) -> Response:
        chosen = NotificationDelivery.objects.filter(
            pk=uuid_or_404(delivery_id), endpoint__tenant=self.tenant
        ).select_related("event")
        if not endpoints.redeliver(chosen):
            raise Http404
        return Response(DeliverySerializer(chosen.get()).data, status=202)
