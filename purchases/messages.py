"""What a notification says and how it is signed: Standard Webhooks 1.0, HMAC-SHA256 (`v1`)."""

from dataclasses import dataclass

from django.utils import timezone
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer
from standardwebhooks import Webhook

from purchases.endpoints import secrets_of
from purchases.models import NotificationDelivery, PurchaseEvent


class NotifiedEventSerializer(serializers.ModelSerializer[PurchaseEvent]):
    """The event as `GET /api/v1/events` has it, and how the member is known to the tenant."""

    email = serializers.EmailField(source="member.email", default=None)
    external_id = serializers.CharField(source="member.external_id", default=None)

    class Meta:
        model = PurchaseEvent
        fields = [
            "id", "type", "created_at", "member", "purchase", "data", "email", "external_id",
        ]  # fmt: skip
        read_only_fields = fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    body: bytes
    headers: dict[str, str]


def message_of(delivery: NotificationDelivery) -> Message:
    """The signed message. Its `webhook-id` is the event's, the same however often it is sent.

    Raises `vault.Unreadable`. Asks the database nothing if endpoint, event and member are loaded.
    """
    event = NotifiedEventSerializer(delivery.event).data
    body: bytes = JSONRenderer().render(
        {"type": event["type"], "timestamp": event["created_at"], "data": event}
    )
    message_id, moment = f"msg_{delivery.event_id}", timezone.now()
    signatures = [
        Webhook(secret).sign(message_id, moment, body.decode())
        for secret in secrets_of(delivery.endpoint)
    ]
    return Message(
        body=body,
        headers={
            "Content-Type": "application/json",
            "User-Agent": "Allegro/1",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": " ".join(signatures),
        },
    )
