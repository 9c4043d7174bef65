"""The ways in: Stripe's deliveries and the member's return from a checkout."""

import enum
import hashlib
import time
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import etag, require_POST, require_safe
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fulfillment import gateway, inbox, sdk, spool
from fulfillment.checkouts import open_checkout, open_package_checkout
from fulfillment.exchange import exchange_token
from fulfillment.models import StripeEvent
from fulfillment.parsing import MAX_BYTES
from fulfillment.serializers import (
    CheckoutSerializer,
    CreditCheckoutSerializer,
    ExchangeSerializer,
)
from purchases.tenant_view import TenantView
from tenants import tokens
from tenants.authentication import PublishableKeyAuthentication, page_key
from tenants.models import Member, Tenant

logger = structlog.get_logger(__name__)


class Verdict(enum.StrEnum):
    """What became of a delivery."""

    ACCEPTED = enum.auto()
    SPOOLED = enum.auto()
    MALFORMED = enum.auto()
    NOT_GENUINE = enum.auto()
    TOO_LARGE = enum.auto()
    NOT_STORED = enum.auto()
    CUT_SHORT = enum.auto()


# What differs from 200. A body that was cut short was never received, so no mode acknowledges it.
RESPONSES = {
    "always_200": {Verdict.CUT_SHORT: 400},
    "store_or_503": {Verdict.CUT_SHORT: 400, Verdict.NOT_STORED: 503},
    "strict": {
        Verdict.CUT_SHORT: 400,
        Verdict.NOT_STORED: 503,
        Verdict.NOT_GENUINE: 400,
        Verdict.MALFORMED: 400,
        Verdict.TOO_LARGE: 413,
    },
}


# A plain view: the signature covers the raw body, and DRF answers 406 or 415 before a view runs.
@csrf_exempt
@require_POST
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """Take one delivery from Stripe and answer as `STRIPE_WEBHOOK_RESPONSES` says.

    The answer leaves after the commit. It says nothing of what happened inside; that is in one
    log line for each delivery and, for a genuine one, in its record.
    """
    started = time.perf_counter()
    try:
        verdict, details = _take(request)
    except Exception:
        logger.exception("webhook_broken")
        verdict, details = Verdict.NOT_STORED, {}
    milliseconds = round((time.perf_counter() - started) * 1000, 1)
    log = logger.info if verdict is Verdict.ACCEPTED else logger.warning
    log("webhook_delivery", verdict=verdict, milliseconds=milliseconds, **details)
    status = RESPONSES[settings.STRIPE_WEBHOOK_RESPONSES].get(verdict, 200)
    headers = {"Retry-After": "60"} if status == 503 else {}
    return JsonResponse({"received": status == 200}, status=status, headers=headers)


def _take(request: HttpRequest) -> tuple[Verdict, dict[str, Any]]:
    length = int(request.META.get("CONTENT_LENGTH") or 0)
    if length > MAX_BYTES:
        return Verdict.TOO_LARGE, {"bytes": length}
    body = request.read()
    if len(body) < length:
        return Verdict.CUT_SHORT, {"bytes": len(body), "content_length": length}
    try:
        secret = gateway.verify_signature(body, request.headers.get("Stripe-Signature", ""))
    except gateway.InvalidSignature as error:
        return Verdict.NOT_GENUINE, {"reason": str(error)}
    try:
        record, is_new = inbox.receive(body, channel=StripeEvent.Channel.WEBHOOK)
    except (DatabaseError, InterfaceError) as error:
        return _spool(body, {"secret": secret, "error": type(error).__name__})
    is_malformed = record.outcome in ("unparsable", "malformed")
    is_broken = record.status == StripeEvent.Status.FAILED or record.outcome == "gave_up"
    return Verdict.MALFORMED if is_malformed else Verdict.ACCEPTED, {
        "secret": secret,
        "event_id": record.id,
        "type": record.type,
        "account": record.account_id,
        "tenant": record.tenant_id and str(record.tenant_id),
        "status": record.status,
        "outcome": record.outcome,
        # An error's text may quote the row, and with it the member.
        "reason": None if is_broken else record.error,
        "repeated": not is_new,
    }


def _spool(body: bytes, details: dict[str, Any]) -> tuple[Verdict, dict[str, Any]]:
    """The database can't take it: keep it on disk until it can."""
    details["sha256"] = hashlib.sha256(body).hexdigest()
    try:
        spool.store(body)
    except OSError as error:
        return Verdict.NOT_STORED, {**details, "spool_error": str(error)}
    return Verdict.SPOOLED, details


class CheckoutSessions(APIView):
    """`POST /api/checkout/sessions`: where a member pays for a plan."""

    authentication_classes = [PublishableKeyAuthentication]
    throttle_scope = "checkout"

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

    def post(self, request: Request) -> Response:
        body = ExchangeSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        tenant = request.auth
        assert isinstance(tenant, Tenant)
        answer = exchange_token(tenant, **body.validated_data)
        return Response(answer.body, status=answer.status, headers={"Cache-Control": "no-store"})


@require_safe
@etag(lambda request: f'"{sdk.VERSION}"')
def client_js(request: HttpRequest) -> HttpResponse:
    """The browser SDK. With `?v=VERSION` it may be kept for good, without for ten minutes."""
    is_pinned = request.GET.get("v") == sdk.VERSION
    response = HttpResponse(sdk.SOURCE, content_type="text/javascript; charset=utf-8")
    response["Cache-Control"] = (
        "public, max-age=31536000, immutable" if is_pinned else "public, max-age=600"
    )
    # Any page may load it, and with `crossorigin` and `integrity` if it likes.
    response["Access-Control-Allow-Origin"] = "*"
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


@require_safe
@never_cache
def return_page(request: HttpRequest) -> HttpResponse:
    """The page after a checkout, for tenants without one of their own; `client.js` fills it."""
    tenant = get_object_or_404(Tenant, slug=request.GET.get("tenant", ""), is_active=True)
    context = {"tenant": tenant, "key": page_key(tenant), "version": sdk.VERSION}
    response = render(request, "fulfillment/return_page.html", context)
    # The address holds the token until the script has taken it out.
    response["Referrer-Policy"] = "no-referrer"
    response["Cache-Control"] = "no-store"
    return response
