"""The RSA keys that sign member tokens: generated here, encrypted at rest, published as JWKS."""

import functools
import secrets
from typing import Any

import jwt
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.db.models import Q, QuerySet
from django.utils import timezone

from tenants import vault
from tenants.models import SigningKey

logger = structlog.get_logger(__name__)


def valid_signing_keys() -> QuerySet[SigningKey]:
    """The keys whose signatures are accepted now, the signing one first."""
    now = timezone.now()
    return SigningKey.objects.filter(
        Q(retired_at=None) | Q(retired_at__gt=now), active_from__lte=now
    ).order_by("-active_from")


def create_signing_key() -> SigningKey:
    """Generate and store the key that signs from now on."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return SigningKey.objects.create(
        kid=secrets.token_hex(8),
        private_key_encrypted=vault.encrypt(pem),
        public_key=public.decode(),
    )


def current_signing_key() -> SigningKey:
    """The key to sign with; the first call of a new deployment makes it.

    Two first calls at once make two keys, which is harmless: both are published.
    """
    return valid_signing_keys().filter(retired_at=None).first() or create_signing_key()


def public_jwks() -> dict[str, Any]:
    """The public keys as a JSON Web Key Set (RFC 7517)."""
    return {"keys": [_public_jwk(key) for key in valid_signing_keys()]}


def _public_jwk(key: SigningKey) -> dict[str, Any]:
    public = serialization.load_pem_public_key(key.public_key.encode())
    assert isinstance(public, rsa.RSAPublicKey)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
    return {**jwk, "kid": key.kid, "use": "sig", "alg": "RS256", "key_ops": ["verify"]}


def signing_pair() -> tuple[SigningKey, rsa.RSAPrivateKey]:
    """The key to sign with, and its private half."""
    key = current_signing_key()
    try:
        return key, _private_key(key.kid, bytes(key.private_key_encrypted))
    except vault.Unreadable:
        # SECRET_KEY was replaced without a fallback. The old key still verifies what it signed.
        logger.warning("signing_key_unreadable", kid=key.kid)
        key = create_signing_key()
        return key, _private_key(key.kid, bytes(key.private_key_encrypted))


@functools.lru_cache(maxsize=8)
def _private_key(kid: str, encrypted: bytes) -> rsa.RSAPrivateKey:
    # Cached: decrypting and checking an RSA key costs many times the signature itself.
    pem = vault.decrypt(encrypted)
    key = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key
