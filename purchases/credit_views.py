"""The credits of a tenant and of its members, for the tenant's server."""

import re

from django.db.models import QuerySet
from rest_framework import generics
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from purchases import ledger
from purchases.models import CreditEntry, CreditPackage
from purchases.serializers import CreditEntrySerializer, CreditPackageSerializer, SpendSerializer
from purchases.tenant_view import TenantView

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


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
