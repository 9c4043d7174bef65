"""The credits of a tenant and of its members, for the tenant's server."""

import re

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import generics
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from purchases import ledger
from purchases.errors import IdempotencyConflict, InsufficientCredits
from purchases.models import CreditEntry, CreditPackage
from purchases.serializers import (
    BalanceSerializer,
    CreditEntrySerializer,
    CreditPackageSerializer,
)
from purchases.server_questions import OwnerFilter, SpendSerializer
from purchases.tenant_view import TenantView

VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    location=OpenApiParameter.HEADER,
    required=True,
    pattern="^[!-~]{1,255}$",
    description="Your own name for this spending, such as an order number.",
)


class CreditPackages(TenantView, generics.ListAPIView[CreditPackage]):
    """`GET /api/v1/credit-packages`: what the platform sells."""

    serializer_class = CreditPackageSerializer

    def get_queryset(self) -> QuerySet[CreditPackage]:
        return CreditPackage.objects.filter(is_active=True)


class Credits(TenantView):
    """`GET /api/v1/credits`: the balance of the tenant, or of one of its members."""

    raises = (NotFound,)

    @extend_schema(parameters=[OwnerFilter], responses=BalanceSerializer)
    def get(self, request: Request) -> Response:
        member = self.asked(OwnerFilter).get("member")
        return Response({"balance": ledger.balance_of(self.tenant, member)})


@extend_schema_view(get=extend_schema(parameters=[OwnerFilter]))
class CreditEntries(TenantView, generics.ListAPIView[CreditEntry]):
    """`GET /api/v1/credits/entries`: the lines that make the balance, the latest first."""

    serializer_class = CreditEntrySerializer
    raises = (NotFound,)

    def get_queryset(self) -> QuerySet[CreditEntry]:
        return ledger.entries_of(self.tenant, self.asked(OwnerFilter).get("member"))


class CreditSpending(TenantView):
    """`POST /api/v1/credits/spend`: take credits, once for each `Idempotency-Key`.

    A repeat of a key answers as the first call did and takes nothing.
    """

    raises = (NotFound, InsufficientCredits, IdempotencyConflict)

    @extend_schema(
        parameters=[IDEMPOTENCY_KEY],
        request=SpendSerializer,
        responses={201: CreditEntrySerializer},
    )
    def post(self, request: Request) -> Response:
        asked = self.asked(SpendSerializer, request.data)
        key = request.headers.get("Idempotency-Key", "")
        if not VISIBLE.fullmatch(key):
            raise ValidationError(
                {"Idempotency-Key": ["Send this header: 1 to 255 visible ASCII characters."]}
            )
        entry = ledger.spend(
            self.tenant, asked["member"], amount=asked["amount"], idempotency_key=key
        )
        return Response(CreditEntrySerializer(entry).data, status=201)
