"""Random keys and tokens, of which the database keeps only the SHA-256."""

import hashlib
import secrets

from tenants.models import ApiKey, Tenant

PREFIXES = {ApiKey.Kind.PUBLISHABLE: "pk_", ApiKey.Kind.SECRET: "sk_"}


def sha256(text: str) -> str:
    # A plain hash suffices: with 256 random bits there is nothing to guess.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def create_key(tenant: Tenant, kind: ApiKey.Kind) -> str:
    """Store a new key and return it; it can't be shown again."""
    key = PREFIXES[kind] + secrets.token_urlsafe(32)
    store_key(tenant, kind, key)
    return key


def store_key(tenant: Tenant, kind: ApiKey.Kind, key: str) -> None:
    ApiKey.objects.get_or_create(
        sha256=sha256(key), defaults={"tenant": tenant, "kind": kind, "prefix": key[:12]}
    )
