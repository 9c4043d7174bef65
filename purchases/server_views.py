"""What a tenant's server asks about its members, what they bought, and what is on sale."""

from collections.abc import Sequence
from typing import Any

from django.db.models import Exists, OuterRef, Prefetch, QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from purchases import feed
from purchases.errors import InvalidCursor
from purchases.models import Entitlement, EntitlementQuerySet, Plan, Product, Purchase
from purchases.server_questions import (
    INCLUDABLE,
    EventFilters,
    IncludeFilter,
    MemberFilters,
    PurchaseFilters,
)
from purchases.server_serializers import (
    EVENTS,
    AudienceMemberSerializer,
    PlanSerializer,
    ProductSerializer,
    PurchaseEventSerializer,
    SaleSerializer,
)
from purchases.tenant_view import TenantView
from tenants.models import Member, MemberQuerySet


class MemberView(TenantView, generics.GenericAPIView[Member]):
    serializer_class = AudienceMemberSerializer
    included: Sequence[str] = INCLUDABLE

    def members(self, *, include: str) -> MemberQuerySet:
        """The tenant's, each relation that is included loaded for all of them at once."""
        relations = {
            "entitlements": entitlements_shown(),
            "purchases": Purchase.objects.order_by("-created_at", "id"),
        }
        self.included = [name for name in INCLUDABLE if name in include]
        return Member.objects.filter(tenant=self.tenant).prefetch_related(
            *(Prefetch(name, relations[name]) for name in self.included)
        )

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "include": self.included}


def entitlements_shown() -> EntitlementQuerySet:
    """Entitlements as a tenant sees them, the latest first."""
    with_activity = Entitlement.objects.with_activity()
    return with_activity.select_related("product").order_by("-starts_at", "id")


@extend_schema_view(get=extend_schema(parameters=[MemberFilters]))
class AudienceMembers(MemberView, generics.ListAPIView[Member]):
    """`GET /api/v1/audience-members`: your members, the latest first."""

    raises = (NotFound,)

    def get_queryset(self) -> QuerySet[Member]:
        asked = self.asked(MemberFilters)
        members = self.members(include=asked.pop("include", ""))
        if email := asked.pop("email", None):
            members = members.with_email(email)
        if product := asked.pop("product", None):
            held = Entitlement.objects.active().filter(product=product, member=OuterRef("pk"))
            members = members.filter(Exists(held), disabled_at=None)
        return members.filter(**asked).order_by("-created_at", "id")


@extend_schema_view(get=extend_schema(parameters=[IncludeFilter]))
class AudienceMember(MemberView, generics.RetrieveAPIView[Member]):
    """`GET /api/v1/audience-members/{id}`: one of your members."""

    lookup_field = "id"

    def get_queryset(self) -> QuerySet[Member]:
        return self.members(include=self.asked(IncludeFilter).get("include", ""))


@extend_schema_view(get=extend_schema(parameters=[PurchaseFilters]))
class Purchases(TenantView, generics.ListAPIView[Purchase]):
    """`GET /api/v1/purchases`: what your members bought, and you from the platform.

    The latest first. A purchase without a member is one of credits, by you.
    """

    serializer_class = SaleSerializer
    raises = (NotFound,)

    def get_queryset(self) -> QuerySet[Purchase]:
        purchases = Purchase.objects.filter(tenant=self.tenant, **self.asked(PurchaseFilters))
        return purchases.order_by("-created_at", "id")


class OnePurchase(TenantView, generics.RetrieveAPIView[Purchase]):
    """`GET /api/v1/purchases/{id}`: one purchase."""

    serializer_class = SaleSerializer
    lookup_field = "id"

    def get_queryset(self) -> QuerySet[Purchase]:
        return Purchase.objects.filter(tenant=self.tenant)


class Products(TenantView, generics.ListAPIView[Product]):
    """`GET /api/v1/products`: what a member can have access to."""

    serializer_class = ProductSerializer

    def get_queryset(self) -> QuerySet[Product]:
        return Product.objects.filter(tenant=self.tenant).order_by("slug")


class Plans(TenantView, generics.ListAPIView[Plan]):
    """`GET /api/v1/plans`: what you sell, and what is not on sale any more."""

    serializer_class = PlanSerializer

    def get_queryset(self) -> QuerySet[Plan]:
        plans = Plan.objects.filter(offer__tenant=self.tenant).select_related("offer")
        return plans.prefetch_related("products").order_by("name", "id")


class Events(TenantView):
    """`GET /api/v1/events`: everything that happened, in an order that never changes.

    Ask with `after` set to the last answer's `next`, again and again: each event comes exactly
    once. Events of the last moments may wait for a payment that is just being recorded.
    """

    raises = (InvalidCursor,)

    @extend_schema(parameters=[EventFilters], responses=EVENTS)
    def get(self, request: Request) -> Response:
        asked = self.asked(EventFilters)
        transaction_id, event_id = feed.position_of(self.tenant, int(asked["after"]))
        events = feed.events_after(
            self.tenant,
            transaction_id=transaction_id,
            event_id=event_id,
            limit=asked["limit"] + 1,
            kind=asked.get("type", ""),
        )
        shown = events[: asked["limit"]]
        position = {
            "next": str(shown[-1].id) if shown else asked["after"],
            "has_more": len(events) > len(shown),
        }
        return Response({"data": PurchaseEventSerializer(shown, many=True).data, "meta": position})
