"""The member's own API, and the credits of a tenant's server."""

import re
import uuid

from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from rest_framework import generics
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from purchases import access, ledger
from purchases.models import CreditEntry, CreditPackage, Entitlement, Purchase
from purchases.serializers import (
    CreditEntrySerializer,
    CreditPackageSerializer,
    EntitlementSerializer,
    PurchaseSerializer,
    RefreshTokenSerializer,
    SpendSerializer,
)
from tenants import tokens
from tenants.authentication import MemberAuthentication, SecretKeyAuthentication
from tenants.models import Member, MemberSession, Tenant

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


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

    def get(self, request: Request) -> Response:
        session = request.auth
        assert isinstance(session, MemberSession)
        return Response({"balance": access.credits_of(session)})


class TokenRefresh(APIView):
    """`POST /api/members/token/refresh`: the next member token, with products as they are now."""

    permission_classes = []
    throttle_scope = "refresh"

    def post(self, request: Request) -> Response:
        body = RefreshTokenSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        session, refresh_token = tokens.rotate_refresh_token(body.validated_data["refresh_token"])
        return Response(
            access.token_fields(session, refresh_token), headers={"Cache-Control": "no-store"}
        )


class TenantView(APIView):
    """A call of a tenant's server; everything in it is the tenant's own."""

    authentication_classes = [SecretKeyAuthentication]
    throttle_scope = "server"

    @property
    def tenant(self) -> Tenant:
        tenant = self.request.auth
        assert isinstance(tenant, Tenant)
        return tenant

    def owner(self, member_id: object) -> Member | None:
        """The member of that id, or None for the tenant itself; 404 for anybody else's."""
        if not member_id:
            return None
        return get_object_or_404(Member, tenant=self.tenant, id=uuid_or_404(member_id))


class CreditPackages(TenantView, generics.ListAPIView[CreditPackage]):
    """`GET /api/v1/credit-packages`: what the platform sells."""

    serializer_class = CreditPackageSerializer

    def get_queryset(self) -> QuerySet[CreditPackage]:
        return CreditPackage.objects.filter(is_active=True)


class Credits(TenantView):
    """`GET /api/v1/credits[?member=]`: the balance of the tenant, or of one of its members."""

    def get(self, request: Request) -> Response:
        member = self.owner(request.query_params.get("member"))
        return Response({"balance": ledger.balance_of(self.tenant, member)})


class CreditEntries(TenantView, generics.ListAPIView[CreditEntry]):
    """`GET /api/v1/credits/entries[?member=]`: the lines that make the balance, latest first."""

    serializer_class = CreditEntrySerializer

    def get_queryset(self) -> QuerySet[CreditEntry]:
        return ledger.entries_of(self.tenant, self.owner(self.request.query_params.get("member")))


class CreditSpending(TenantView):
    """`POST /api/v1/credits/spend`: take credits, once for each `Idempotency-Key`."""

    def post(self, request: Request) -> Response:
        body = SpendSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        key = request.headers.get("Idempotency-Key", "")
        if not IDEMPOTENCY_KEY.fullmatch(key):
            raise ValidationError(
                {"Idempotency-Key": ["Send this header: 1 to 255 visible ASCII characters."]}
            )
        entry = ledger.spend(
            self.tenant,
            self.owner(body.validated_data["member"]),
            amount=body.validated_data["amount"],
            idempotency_key=key,
        )
        return Response(CreditEntrySerializer(entry).data, status=201)


def uuid_or_404(value: object) -> uuid.UUID:
    try:
        return uuid.UUID(str(value))
    except ValueError as error:
        raise Http404 from error
