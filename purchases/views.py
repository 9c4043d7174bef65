"""The member's own API."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from purchases import access
from purchases.models import Entitlement, Purchase
from purchases.serializers import (
    BalanceSerializer,
    EntitlementSerializer,
    PurchaseSerializer,
    RefreshTokenSerializer,
    TokenSerializer,
)
from tenants import tokens
from tenants.authentication import MemberAuthentication
from tenants.models import MemberSession


class MemberEntitlements(generics.ListAPIView[Entitlement]):
    """`GET /api/entitlements`: what the member has access to at this moment."""

    authentication_classes = [MemberAuthentication]
    serializer_class = EntitlementSerializer

    def get_queryset(self) -> QuerySet[Entitlement]:
        session = self.request.auth
        assert isinstance(session, MemberSession)
        return access.entitlements_of(session)


class MemberPurchases(generics.ListAPIView[Purchase]):
    """`GET /api/purchases`: what the member bought, the latest first."""

    authentication_classes = [MemberAuthentication]
    serializer_class = PurchaseSerializer

    def get_queryset(self) -> QuerySet[Purchase]:
        session = self.request.auth
        assert isinstance(session, MemberSession)
        return access.purchases_of(session)


class MemberCredits(APIView):
    """`GET /api/credits`: how many credits the member has."""

    authentication_classes = [MemberAuthentication]

    @extend_schema(responses=BalanceSerializer)
    def get(self, request: Request) -> Response:
        session = request.auth
        assert isinstance(session, MemberSession)
        return Response({"balance": access.credits_of(session)})


class TokenRefresh(APIView):
    """`POST /api/members/token/refresh`: the next member token, with products as they are now."""

    permission_classes = []
    throttle_scope = "refresh"
    raises = (tokens.InvalidMemberToken,)

    @extend_schema(request=RefreshTokenSerializer, responses=TokenSerializer)
    def post(self, request: Request) -> Response:
        body = RefreshTokenSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        session, refresh_token = tokens.rotate_refresh_token(body.validated_data["refresh_token"])
        return Response(
            access.token_fields(session, refresh_token), headers={"Cache-Control": "no-store"}
        )
