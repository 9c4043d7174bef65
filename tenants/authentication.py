"""Who is calling: a tenant's key or a member's token, always as `Authorization: Bearer`."""

from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any

from django.core import signing
from django.db.models import Q
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from tenants import tokens
from tenants.keys import sha256
from tenants.models import ApiKey, Member, MemberSession, Tenant

PAGE_PREFIX = "page_"
PAGE_SALT = "allegro.page"


class CredentialMissing(NotAuthenticated):
    default_detail = "Send your key or token in a header: `Authorization: Bearer …`."


class HasCredential(BasePermission):
    """Let in whoever showed a key or a token that the view accepts."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.auth is None:
            raise CredentialMissing
        return True


class BearerAuthentication(BaseAuthentication, ABC):
    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        scheme, _, credential = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not credential:
            return None
        return self.authenticate_bearer(credential)

    @abstractmethod
    def authenticate_bearer(self, credential: str) -> tuple[Any, Any]:
        """Who the credential stands for, and what `request.auth` becomes."""

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class PublishableKeyAuthentication(BearerAuthentication):
    """`request.user` is the tenant that the key is for, `request.auth` as well.

    Takes a publishable key, or what `page_key` gave to a page of ours.
    """

    def authenticate_bearer(self, credential: str) -> tuple[Tenant, Tenant]:
        tenant = _tenant_of_page(credential) or _tenant_of_key(credential, ApiKey.Kind.PUBLISHABLE)
        if tenant is None:
            raise AuthenticationFailed(
                "This is no valid publishable key. Use the one beginning with pk_."
            )
        return tenant, tenant


class SecretKeyAuthentication(BearerAuthentication):
    """`request.auth` is the tenant whose server this is."""

    def authenticate_bearer(self, credential: str) -> tuple[Tenant, Tenant]:
        tenant = _tenant_of_key(credential, ApiKey.Kind.SECRET)
        if tenant is None:
            raise AuthenticationFailed(
                "This is no valid secret key. Use one that begins with sk_, on your server only."
            )
        return tenant, tenant


def page_key(tenant: Tenant) -> str:
    """What a page that we serve ourselves uses in place of a publishable key, for a day.

    Of the keys themselves only hashes are stored, and one in an address would be logged.
    """
    return PAGE_PREFIX + signing.dumps(str(tenant.id), salt=PAGE_SALT)


def _tenant_of_page(credential: str) -> Tenant | None:
    if not credential.startswith(PAGE_PREFIX):
        return None
    try:
        tenant_id = signing.loads(
            credential.removeprefix(PAGE_PREFIX), salt=PAGE_SALT, max_age=timedelta(days=1)
        )
    except signing.BadSignature:
        return None
    return Tenant.objects.filter(id=tenant_id, is_active=True).first()


def _tenant_of_key(credential: str, kind: ApiKey.Kind) -> Tenant | None:
    key = (
        ApiKey.objects.select_related("tenant")
        .filter(
            sha256=sha256(credential),
            kind=kind,
            revoked_at=None,
            tenant__is_active=True,
        )
        .first()
    )
    if key is None:
        return None
    _note_use(key)
    return key.tenant


def _note_use(key: ApiKey) -> None:
    # To the minute: an UPDATE for each request would cost more than the request.
    now = timezone.now()
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - timedelta(minutes=1))
    if key.last_used_at is None or key.last_used_at < now - timedelta(minutes=1):
        ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=now)


class MemberAuthentication(BearerAuthentication):
    """`request.user` is the member whose token this is, `request.auth` the session."""

    def authenticate_bearer(self, credential: str) -> tuple[Member, MemberSession]:
        session = tokens.session_of(credential)
        return session.member, session
