"""What a browser asks of us around a checkout, and a tenant's server that buys credits."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fulfillment import errors
from fulfillment.checkouts import open_checkout, open_package_checkout
from fulfillment.exchange import exchange_token
from fulfillment.serializers import (
    EXCHANGED,
    CheckoutSerializer,
    CreditCheckoutSerializer,
    ExchangeSerializer,
    OpenedSerializer,
    PackageCheckoutSerializer,
    ProcessingSerializer,
)
from purchases.tenant_view import TenantView
from tenants import tokens
from tenants.authentication import PublishableKeyAuthentication
from tenants.models import Member, Tenant

MEMBER = OpenApiParameter(
    "Allegro-Member",
    location=OpenApiParameter.HEADER,
    description="The token of the member who buys, where one is signed in.",
)


class CheckoutSessions(APIView):
    """`POST /api/checkout/sessions`: where a member pays for a plan."""

    authentication_classes = [PublishableKeyAuthentication]
    throttle_scope = "checkout"
    raises = (
        errors.PlanNotFound,
        errors.InvalidReturnUrl,
        errors.MemberRequired,
        tokens.InvalidMemberToken,
        errors.AlreadyClaimed,
        errors.NotConnected,
        errors.ChargesDisabled,
        errors.CheckoutUnavailable,
    )

    @extend_schema(
        parameters=[MEMBER], request=CheckoutSerializer, responses={201: OpenedSerializer}
    )
    def post(self, request: Request) -> Response:
        body = CheckoutSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        tenant = request.auth
        assert isinstance(tenant, Tenant)
        opened = open_checkout(tenant, body.order(), member=_signed_in_member(request, tenant))
        return Response(
            {"id": opened.id, "url": opened.url, "expires_at": opened.expires_at}, status=201
        )


class CreditCheckout(TenantView):
    """`POST /api/v1/credits/checkout`: where a tenant pays for a credit package."""

    raises = (
        errors.PackageNotFound,
        errors.InvalidCheckoutUrl,
        errors.NotConnected,
        errors.CheckoutUnavailable,
    )

    @extend_schema(request=CreditCheckoutSerializer, responses={201: PackageCheckoutSerializer})
    def post(self, request: Request) -> Response:
        body = CreditCheckoutSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        url = open_package_checkout(
            self.tenant,
            asked["package"],
            success_url=asked["success_url"],
            cancel_url=asked["cancel_url"],
        )
        return Response({"checkout_url": url}, status=201)


def _signed_in_member(request: Request, tenant: Tenant) -> Member | None:
    """The member whose token came along. A session that proved nothing is nobody's."""
    token = request.headers.get("Allegro-Member", "")
    if not token:
        return None
    session = tokens.session_of(token)
    if session.member.tenant_id != tenant.id:
        raise tokens.InvalidMemberToken
    return session.member if session.authenticated else None


class TokenExchange(APIView):
    """`POST /api/purchases/exchange`: the return-page token for what was bought."""

    authentication_classes = [PublishableKeyAuthentication]
    throttle_scope = "exchange"
    raises = (
        errors.InvalidToken,
        errors.MemberDisabled,
        errors.TokenUsed,
        errors.TokenExpired,
        errors.StripeUnavailable,
    )

    @extend_schema(
        request=ExchangeSerializer, responses={200: EXCHANGED, 202: ProcessingSerializer}
    )
    def post(self, request: Request) -> Response:
        body = ExchangeSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        tenant = request.auth
        assert isinstance(tenant, Tenant)
        answer = exchange_token(tenant, **body.validated_data)
        return Response(answer.body, status=answer.status, headers={"Cache-Control": "no-store"})
