"""Stripe's deliveries, the browser SDK and the hosted return page."""

import enum
import hashlib
import time
from typing import Any

import structlog
from django.conf import settings
from django.db import Error as DatabaseFault
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import etag, require_POST, require_safe

from fulfillment import inbox, quarantine, sdk, spool
from fulfillment.models import StripeEvent
from fulfillment.parsing import MAX_BYTES
from fulfillment.signatures import InvalidSignature, verify_signature
from tenants.authentication import page_key
from tenants.models import Tenant

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
        secret = verify_signature(body, request.headers.get("Stripe-Signature", ""))
    except InvalidSignature as error:
        return Verdict.NOT_GENUINE, {"reason": str(error), "kept": quarantine.keep(body, error)}
    try:
        record, is_new = inbox.receive(
            body, channel=StripeEvent.Channel.WEBHOOK, signed_by=secret.fingerprint
        )
    except Exception as error:
        # Whatever it was, an event that is genuine is not let go.
        if not isinstance(error, DatabaseFault):
            logger.exception("webhook_broken")
        return _spool(body, {"secret": secret.number, "error": type(error).__name__})
    is_malformed = record.outcome in ("unparsable", "malformed")
    is_broken = record.status == StripeEvent.Status.FAILED or record.outcome == "gave_up"
    return Verdict.MALFORMED if is_malformed else Verdict.ACCEPTED, {
        "secret": secret.number,
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
    """It can't be stored now: keep it on disk until it can."""
    details["sha256"] = hashlib.sha256(body).hexdigest()
    try:
        spool.store(body)
    except OSError as error:
        return Verdict.NOT_STORED, {**details, "spool_error": str(error)}
    return Verdict.SPOOLED, details


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
    # PostgreSQL can't be asked for a NUL.
    slug = request.GET.get("tenant", "").replace("\0", "\N{REPLACEMENT CHARACTER}")
    tenant = get_object_or_404(Tenant, slug=slug, is_active=True)
    context = {"tenant": tenant, "key": page_key(tenant), "version": sdk.VERSION}
    response = render(request, "fulfillment/return_page.html", context)
    # The address holds the token until the script has taken it out.
    response["Referrer-Policy"] = "no-referrer"
    response["Cache-Control"] = "no-store"
    return response
