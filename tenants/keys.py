"""Random keys and tokens, of which the database keeps only the SHA-256."""

import base64
import hashlib
import secrets

from django.utils.crypto import salted_hmac

from tenants.models import ApiKey, Tenant

PREFIXES = {ApiKey.Kind.PUBLISHABLE: "pk_", ApiKey.Kind.SECRET: "sk_"}


def sha256(text: str) -> str:
    # A plain hash suffices: with 256 random bits there is nothing to guess.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def create_key(tenant: Tenant, kind: ApiKey.Kind, *, name: str = "") -> str:
    """Store a new key and return it; it can't be shown again."""
    key = PREFIXES[kind] + secrets.token_urlsafe(32)
    store_key(tenant, kind, key, name=name)
    return key


def store_key(tenant: Tenant, kind: ApiKey.Kind, key: str, *, name: str = "") -> None:
    ApiKey.objects.get_or_create(
        sha256=sha256(key),
        defaults={"tenant": tenant, "kind": kind, "prefix": prefix_of(key), "name": name},
    )


def prefix_of(key: str) -> str:
    """As much of a key as tells people which one it is."""
    return key[:12]


def key_of_form(kind: ApiKey.Kind, *content: str) -> str:
    """The one key that a form makes, however often it is sent; its content has 256 random bits.

    Keyed with SECRET_KEY, so that the form alone leads nowhere.
    """
    digest = salted_hmac("allegro.tenants.keys", "\n".join(content), algorithm="sha256").digest()
    return PREFIXES[kind] + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
