"""Who may see what: asked, granted and revoked by a tenant's server."""

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from purchases.errors import GrantedByPurchase
from purchases.granting import grant, revoke
from purchases.models import Entitlement
from purchases.server_questions import (
    AccessQuestion,
    EntitlementFilters,
    GrantSerializer,
    RevocationSerializer,
)
from purchases.server_serializers import AccessSerializer, GrantedSerializer
from purchases.server_views import entitlements_shown
from purchases.tenant_view import TenantView
from tenants.models import Member


@extend_schema_view(get=extend_schema(parameters=[EntitlementFilters]))
class Entitlements(TenantView, generics.ListAPIView[Entitlement]):
    """`GET /api/v1/entitlements`: what your members have access to, or had, the latest first."""

    serializer_class = GrantedSerializer
    raises = (NotFound,)

    def get_queryset(self) -> QuerySet[Entitlement]:
        asked = self.asked(EntitlementFilters)
        return entitlements_shown().filter(tenant=self.tenant, **asked)

    @extend_schema(request=GrantSerializer, responses={201: GrantedSerializer})
    def post(self, request: Request) -> Response:
        """`POST /api/v1/entitlements`: give a member access by hand.

        Each call makes an entitlement; what was bought stays as it is beside it.
        """
        asked = self.asked(GrantSerializer, request.data)
        email = asked.pop("email", None)
        with transaction.atomic():
            if email:
                asked["member"], _ = Member.objects.find_or_add(self.tenant, email=email, name="")
            made = grant(**asked)
        shown = entitlements_shown().get(id=made.id)
        return Response(GrantedSerializer(shown).data, status=201)


class OneEntitlement(TenantView, generics.DestroyAPIView[Entitlement]):
    """`DELETE /api/v1/entitlements/{id}`: take back what was granted by hand.

    Doing it twice is doing it once. What was bought is taken back by a refund in Stripe.
    """

    lookup_field = "id"
    raises = (GrantedByPurchase,)

    def get_queryset(self) -> QuerySet[Entitlement]:
        entitlements = Entitlement.objects.filter(tenant=self.tenant)
        return entitlements.select_related("tenant", "member", "product")

    @extend_schema(parameters=[RevocationSerializer], responses={204: None})
    def delete(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.destroy(request, *args, **kwargs)

    def perform_destroy(self, instance: Entitlement) -> None:
        data = {**self.request.query_params.dict(), **self.request.data}
        revoke(instance, **self.asked(RevocationSerializer, data))


class Access(TenantView):
    """`GET /api/v1/access`: whether a member may see a product at this moment.

    A member whom you don't have is a 404, as is a product. A disabled member has no access.
    """

    raises = (NotFound,)

    @extend_schema(parameters=[AccessQuestion], responses=AccessSerializer)
    def get(self, request: Request) -> Response:
        asked = self.asked(AccessQuestion)
        member, product = asked["member"], asked["product"]
        active = entitlements_shown().active().filter(member=member, product=product)
        entitlements = [] if member.disabled_at else list(active)
        ends = [entitlement.ends_at for entitlement in entitlements]
        answer = {
            "access": bool(entitlements),
            "member": member.id,
            "product": product.slug,
            "ends_at": max((end for end in ends if end), default=None) if all(ends) else None,
            "entitlements": entitlements,
        }
        return Response(AccessSerializer(answer).data)
