"""The RSA keys that sign member tokens: generated here, encrypted at rest, published as JWKS."""

import functools
import secrets
from datetime import datetime, timedelta
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


# For how long others may keep a copy of the key set, as its Cache-Control tells them.
JWKS_LIFETIME = timedelta(minutes=5)


def published_keys() -> QuerySet[SigningKey]:
    """The keys for others to know: those accepted now, and those that will sign later."""
    return SigningKey.objects.filter(
        Q(retired_at=None) | Q(retired_at__gt=timezone.now())
    ).order_by("-active_from")


def accepted_keys() -> QuerySet[SigningKey]:
    """The keys whose signatures are accepted now, the signing one first."""
    return published_keys().filter(active_from__lte=timezone.now())


def new_signing_key(*, active_from: datetime) -> SigningKey:
    """Generate a key, not stored yet, that signs from then on (UTC)."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return SigningKey(
        kid=secrets.token_hex(8),
        private_key_encrypted=vault.encrypt(pem),
        public_key=public.decode(),
        active_from=active_from,
    )


def create_signing_key() -> SigningKey:
    """Generate and store the key that signs from now on."""
    key = new_signing_key(active_from=timezone.now())
    key.save(force_insert=True)
    return key


def current_signing_key() -> SigningKey:
    """The key to sign with; the first call of a new deployment makes it.

    Two first calls at once make two keys, which is harmless: both are published.
    """
    return accepted_keys().first() or create_signing_key()


def public_jwks() -> dict[str, Any]:
    """The public keys as a JSON Web Key Set (RFC 7517)."""
    return {"keys": [_public_jwk(key) for key in published_keys()]}


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


def is_readable(key: SigningKey) -> bool:
    """Whether SECRET_KEY, or one of its fallbacks, decrypts the private half."""
    try:
        vault.decrypt(bytes(key.private_key_encrypted))
    except vault.Unreadable:
        return False
    return True
