"""The public keys with which anyone can verify a member token."""

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from tenants import signing

MAX_AGE = int(signing.JWKS_LIFETIME.total_seconds())


@require_safe
@cache_control(public=True, max_age=MAX_AGE)
def jwks(request: HttpRequest) -> JsonResponse:
    return JsonResponse(signing.public_jwks())


@require_safe
@cache_control(public=True, max_age=MAX_AGE)
def openid_configuration(request: HttpRequest) -> JsonResponse:
    """What a JWT library needs to find the keys (OpenID Connect Discovery 1.0 §3)."""
    return JsonResponse(
        {
            "issuer": settings.ALLEGRO_URL,
            "jwks_uri": f"{settings.ALLEGRO_URL}/.well-known/jwks.json",
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "claims_supported": [
                "iss",
                "aud",
                "sub",
                "sid",
                "jti",
                "iat",
                "nbf",
                "exp",
                "authenticated",
                "products",
            ],
        }
    )
