"""Member sessions: the signed token (JWT, RFC 7519) and the refresh token behind it."""

import hmac
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any

import jwt
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from rest_framework import status
from rest_framework.exceptions import APIException

from tenants import signing
from tenants.keys import sha256
from tenants.models import Member, MemberSession

JWT_LIFETIME = timedelta(minutes=15)
SESSION_LIFETIME = timedelta(days=30)


class InvalidMemberToken(APIException):
    """The token is not one of ours, has expired or been used, or its session has ended."""

    status_code = status.HTTP_401_UNAUTHORIZED
    default_code = "invalid_member_token"
    default_detail = "This token is not valid any more. Sign the member in again."


class DisabledMemberToken(InvalidMemberToken):
    """The token is genuine and its member disabled. Same code: browsers sign out on it."""

    default_detail = "This member is disabled. Only who runs the site can enable them again."


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
        if session is None:
            raise InvalidMemberToken
        _check_alive(session)
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


def _check_alive(session: MemberSession) -> None:
    has_ended = session.revoked_at is not None or session.expires_at <= timezone.now()
    if has_ended or not session.member.tenant.is_active:
        raise InvalidMemberToken
    if session.member.disabled_at is not None:
        raise DisabledMemberToken


def issue_jwt(
    session: MemberSession, *, products: list[str], issued_at: datetime | None = None
) -> tuple[str, datetime]:
    """Sign the session's token with the slugs it may use; returns it and when it expires (UTC).

    The same session, products and `issued_at` give the same token.
    """
    key, private = signing.signing_pair()
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

    Read from the database each time: a session that was revoked, a member or a tenant that was
    disabled has no access from the next call on, whatever the token says.
    """
    try:
        claims = _verified_claims(token)
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
    if not is_ours:
        raise InvalidMemberToken
    _check_alive(session)
    return session


def _verified_claims(token: str) -> dict[str, Any]:
    header = jwt.get_unverified_header(token)
    # RFC 8725 §3.11: what the same key may sign one day for another use is no member token.
    if header.get("typ") != "JWT":
        raise jwt.InvalidTokenError
    # Looked up among the keys that there are: `kid` is the caller's text, fit for no query.
    keys = {key.kid: key.public_key for key in signing.accepted_keys()}
    claims: dict[str, Any] = jwt.decode(
        token,
        keys[header["kid"]],
        algorithms=["RS256"],
        issuer=settings.ALLEGRO_URL,
        # The audience is compared later with the tenant that the session belongs to.
        options={
            "require": ["exp", "nbf", "iss", "aud", "sub", "sid"],
            "verify_aud": False,
        },
    )
    return claims
