"""Which sites' scripts may read our answers: those of the tenant whose key or token they send."""

import re
import uuid
from typing import Any

import jwt
from django.conf import settings
from django.db.models import TextField
from django.db.models.functions import Cast
from django.http import HttpRequest

from tenants.keys import sha256
from tenants.models import ApiKey, Tenant
from tenants.origins import origin_of


def is_allowed(sender: Any, request: HttpRequest, **kwargs: Any) -> bool:
    """django-cors-headers asks this for every request, whatever its own settings say."""
    origin = request.headers.get("Origin", "")
    is_for_browsers = re.match(settings.CORS_URLS_REGEX, request.path_info)
    if not is_for_browsers or origin_of(origin) != origin:
        return False
    # As text, which both databases can search: an origin has no character that JSON escapes.
    tenants = Tenant.objects.annotate(origins=Cast("allowed_origins", TextField())).filter(
        origins__contains=f'"{origin}"'
    )
    # A preflight asks before the browser sends any key: any tenant's site will do.
    if request.method != "OPTIONS":
        tenants = tenants.filter(**_named_by(request))
    return tenants.exists()


def _named_by(request: HttpRequest) -> dict[str, str]:
    _, _, credential = request.headers.get("Authorization", "").partition(" ")
    if not credential:
        # A refresh carries its token in the body; there the token decides.
        return {}
    if ApiKey.objects.filter(sha256=sha256(credential)).exists():
        return {"api_keys__sha256": sha256(credential)}
    try:
        # Not verified here: this decides who may read the answer, not what it says.
        claims = jwt.decode(credential, options={"verify_signature": False})
        return {"members__id": str(uuid.UUID(claims["sub"]))}
    except (jwt.InvalidTokenError, KeyError, ValueError, TypeError, AttributeError):
        return {}
