"""Member sessions: the signed token (JWT, RFC 7519) and the refresh token behind it."""

import base64
import functools
import hmac
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any

import jwt
import structlog
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from rest_framework import status
from rest_framework.exceptions import APIException

from tenants.keys import sha256
from tenants.models import Member, MemberSession, SigningKey

logger = structlog.get_logger(__name__)

JWT_LIFETIME = timedelta(minutes=15)
SESSION_LIFETIME = timedelta(days=30)


class InvalidMemberToken(APIException):
    """The token is not one of ours, has expired or been used, or its session has ended."""

    status_code = status.HTTP_401_UNAUTHORIZED
    default_code = "invalid_member_token"
    default_detail = "This token is not valid any more. Sign the member in again."


# --- signing keys


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
        private_key_encrypted=_vault().encrypt(pem),
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


def _vault() -> MultiFernet:
    return MultiFernet(
        [Fernet(_fernet_key(key)) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    )


@functools.cache
def _fernet_key(secret: str) -> bytes:
    derived = HKDF(hashes.SHA256(), length=32, salt=None, info=b"allegro signing keys")
    return base64.urlsafe_b64encode(derived.derive(secret.encode()))


def _signing_pair() -> tuple[SigningKey, rsa.RSAPrivateKey]:
    key = current_signing_key()
    try:
        return key, _private_key(key.kid, bytes(key.private_key_encrypted))
    except InvalidToken:
        # SECRET_KEY was replaced without a fallback. The old key still verifies what it signed.
        logger.warning("signing_key_unreadable", kid=key.kid)
        key = create_signing_key()
        return key, _private_key(key.kid, bytes(key.private_key_encrypted))


@functools.lru_cache(maxsize=8)
def _private_key(kid: str, encrypted: bytes) -> rsa.RSAPrivateKey:
    # Cached: decrypting and checking an RSA key costs many times the signature itself.
    pem = _vault().decrypt(encrypted)
    key = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


# --- sessions


def open_session(
    member: Member, *, authenticated: bool, purchase_id: uuid.UUID, refresh_token: str
) -> MemberSession:
    """Sign a member in on the strength of a purchase."""
    family, secret = _split(refresh_token)
    return MemberSession.objects.create(
        member=member,
        authenticated=authenticated,
        purchase_id=purchase_id,
        refresh_family=family,
        refresh_token_sha256=sha256(secret),
        expires_at=timezone.now() + SESSION_LIFETIME,
    )


def new_refresh_token(family: uuid.UUID | None = None, secret: str = "") -> str:
    return f"{(family or uuid.uuid4()).hex}.{secret or secrets.token_urlsafe(32)}"


def rotate_refresh_token(token: str) -> tuple[MemberSession, str]:
    """Trade a refresh token for the next one, or raise `InvalidMemberToken`.

    A token of a known family that is not its current one has been used before: somebody has a
    copy, so the session ends for both (RFC 9700 §4.14.2).
    """
    family, secret = _split(token)
    with transaction.atomic():
        session = (
            MemberSession.objects.select_for_update(of=["self"])
            .select_related("member__tenant")
            .filter(refresh_family=family)
            .first()
        )
        if session is None or not _is_alive(session):
            raise InvalidMemberToken
        is_current = hmac.compare_digest(session.refresh_token_sha256, sha256(secret))
        following = new_refresh_token(family)
        if is_current:
            session.refresh_token_sha256 = sha256(_split(following)[1])
            session.expires_at = timezone.now() + SESSION_LIFETIME
        else:
            session.revoked_at = timezone.now()
        session.save(update_fields=["refresh_token_sha256", "expires_at", "revoked_at"])
    # Raised only now: inside the transaction it would undo the revocation.
    if not is_current:
        raise InvalidMemberToken
    return session, following


def _split(refresh_token: str) -> tuple[uuid.UUID, str]:
    family, _, secret = refresh_token.partition(".")
    try:
        return uuid.UUID(hex=family), secret
    except ValueError as error:
        raise InvalidMemberToken from error


def _is_alive(session: MemberSession) -> bool:
    return (
        session.revoked_at is None
        and session.expires_at > timezone.now()
        and session.member.tenant.is_active
    )


# --- tokens


def issue_jwt(
    session: MemberSession, *, products: list[str], issued_at: datetime | None = None
) -> tuple[str, datetime]:
    """Sign the session's token with the slugs it may use; returns it and when it expires (UTC).

    The same session, products and `issued_at` give the same token.
    """
    key, private = _signing_pair()
    # Whole seconds, as the claims have them.
    issued_at = (issued_at or timezone.now()).replace(microsecond=0)
    expires_at = issued_at + JWT_LIFETIME
    claims = {
        "iss": settings.ALLEGRO_URL,
        "aud": str(session.member.tenant_id),
        "sub": str(session.member_id),
        "sid": str(session.id),
        "jti": str(uuid.uuid5(session.id, f"{issued_at} {session.refresh_token_sha256}")),
        "iat": issued_at,
        "nbf": issued_at,
        "exp": expires_at,
        "authenticated": session.authenticated,
        "products": products,
    }
    return jwt.encode(claims, private, algorithm="RS256", headers={"kid": key.kid}), expires_at


def session_of(token: str) -> MemberSession:
    """The live session that a member token stands for, or `InvalidMemberToken`.

    Read from the database each time: a session that was revoked or a tenant that was disabled
    has no access from the next call on, whatever the token says.
    """
    try:
        # Looked up among the keys that there are: `kid` is the caller's text, fit for no query.
        keys = {key.kid: key.public_key for key in valid_signing_keys()}
        claims = jwt.decode(
            token,
            keys[jwt.get_unverified_header(token)["kid"]],
            algorithms=["RS256"],
            issuer=settings.ALLEGRO_URL,
            # The audience is compared below with the tenant that the session belongs to.
            options={
                "require": ["exp", "nbf", "iss", "aud", "sub", "sid"],
                "verify_aud": False,
            },
        )
        session = MemberSession.objects.select_related("member__tenant").get(id=claims["sid"])
    except (
        jwt.InvalidTokenError,
        KeyError,
        TypeError,
        ValidationError,
        MemberSession.DoesNotExist,
    ) as error:
        raise InvalidMemberToken from error
    is_ours = (claims["sub"], claims["aud"]) == (
        str(session.member_id),
        str(session.member.tenant_id),
    )
    if not is_ours or not _is_alive(session):
        raise InvalidMemberToken
    return session
