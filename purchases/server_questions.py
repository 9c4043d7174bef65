"""What a tenant's server may ask. A `source` is the look-up that the value goes into."""

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.core.exceptions import ValidationError as InvalidId
from django.db.models import Model
from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from purchases.models import Plan, Product, Purchase, PurchaseEvent
from tenants.models import Member, Tenant

# Far above any balance, and far below what the column holds.
MAX_SPEND = 1_000_000_000
INCLUDABLE = ("entitlements", "purchases")
INCLUDED = f"({'|'.join(INCLUDABLE)})"


@extend_schema_field(str)
class Own(serializers.Field[Model, str, str, Any]):
    """Something of the tenant's by its name; whatever names nothing of it is a 404."""

    def __init__(self, find: Callable[[Tenant, str], Model], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._find = find

    def to_internal_value(self, data: object) -> Model:
        name = serializers.CharField(max_length=255).run_validation(data)
        try:
            return self._find(self.context["tenant"], name)
        except (ObjectDoesNotExist, InvalidId) as error:
            raise Http404 from error


def member_with_id(tenant: Tenant, member_id: str) -> Member:
    return tenant.members.get(id=member_id)


def member_with_email(tenant: Tenant, email: str) -> Member:
    return tenant.members.with_email(email).get()


def member_with_external_id(tenant: Tenant, external_id: str) -> Member:
    return tenant.members.get(external_id=external_id)


def product_with_slug(tenant: Tenant, slug: str) -> Product:
    return tenant.products.get(slug=slug)


def plan_with_id(tenant: Tenant, plan_id: str) -> Plan:
    return Plan.objects.get(offer__tenant=tenant, id=plan_id)


class CreatedFilters(serializers.Serializer[None]):
    created_after = serializers.DateTimeField(
        source="created_at__gte", required=False, help_text="At this instant or later."
    )
    created_before = serializers.DateTimeField(
        source="created_at__lt", required=False, help_text="Before this instant."
    )


class IncludeFilter(serializers.Serializer[None]):
    include = serializers.RegexField(
        rf"^{INCLUDED}(,{INCLUDED})*$",
        required=False,
        help_text="What to show with the member: `entitlements`, `purchases` or both, by a comma.",
    )


class MemberFilters(IncludeFilter, CreatedFilters):
    email = serializers.EmailField(
        max_length=254, required=False, help_text="The whole address, in any case."
    )
    external_id = serializers.CharField(max_length=255, required=False)
    product = Own(
        product_with_slug,
        required=False,
        help_text="The slug of a product that the member has access to now.",
    )


class PurchaseFilters(CreatedFilters):
    member = Own(member_with_id, required=False, help_text="The id of a member.")
    plan = Own(plan_with_id, required=False, help_text="The id of a plan.")
    status = serializers.ChoiceField(Purchase.Status.choices, required=False)
    checkout_session = serializers.CharField(
        source="checkout_session_id", max_length=255, required=False, help_text="`cs_…`"
    )
    payment_intent = serializers.CharField(
        source="payment_intent_id", max_length=255, required=False, help_text="`pi_…`"
    )


class EntitlementFilters(serializers.Serializer[None]):
    member = Own(member_with_id, required=False, help_text="The id of a member.")
    product = Own(product_with_slug, required=False, help_text="The slug of a product.")
    active = serializers.BooleanField(
        source="is_active", required=False, help_text="Whether it gives access now."
    )


class EventFilters(serializers.Serializer[None]):
    after = serializers.RegexField(
        r"^[0-9]{1,18}$",
        default="0",
        help_text="`next` of the last answer; 0 or absent: from the beginning.",
        error_messages={"invalid": "Send `next` of the last answer as it stands."},
    )
    limit = serializers.IntegerField(min_value=1, max_value=500, default=100)
    type = serializers.ChoiceField(PurchaseEvent.Type.choices, required=False)


class AccessQuestion(serializers.Serializer[None]):
    member = Own(member_with_id, required=False, help_text="The member's id.")
    email = Own(
        member_with_email, source="member", required=False, help_text="Or the member's e-mail."
    )
    external_id = Own(
        member_with_external_id, source="member", required=False, help_text="Or your own id."
    )
    product = Own(product_with_slug, help_text="The slug of the product.")

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        return only_one(self, asked, "member", "email", "external_id")


class GrantSerializer(serializers.Serializer[None]):
    member = Own(member_with_id, required=False, help_text="The member's id.")
    email = serializers.EmailField(
        max_length=254, required=False, help_text="Or an e-mail; whoever is new is added."
    )
    product = Own(product_with_slug, help_text="The slug of the product.")
    starts_at = serializers.DateTimeField(required=False, help_text="Absent: now.")
    ends_at = serializers.DateTimeField(
        allow_null=True, default=None, help_text="Access ends just before; absent: never."
    )
    reason = serializers.CharField(max_length=200, help_text="Why, for whoever looks later.")

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        asked.setdefault("starts_at", timezone.now())
        if asked["ends_at"] and asked["ends_at"] <= asked["starts_at"]:
            raise serializers.ValidationError({"ends_at": ["It has to be after starts_at."]})
        return only_one(self, asked, "member", "email")


class OwnerFilter(serializers.Serializer[None]):
    member = Own(
        member_with_id, required=False, help_text="The id of a member; absent: the tenant itself."
    )


class SpendSerializer(serializers.Serializer[None]):
    amount = serializers.IntegerField(min_value=1, max_value=MAX_SPEND)
    member = Own(
        member_with_id,
        allow_null=True,
        default=None,
        help_text="Whose credits; absent: the tenant's own.",
    )


class RevocationSerializer(serializers.Serializer[None]):
    reason = serializers.CharField(max_length=200, default="")


def only_one(
    serializer: serializers.Serializer[None], asked: dict[str, Any], *names: str
) -> dict[str, Any]:
    """Refuse a question that names its member twice, or not at all."""
    if len(set(names) & set(serializer.initial_data)) != 1:
        raise serializers.ValidationError({names[0]: [f"Send exactly one of {', '.join(names)}."]})
    return asked
