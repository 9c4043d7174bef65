"""Where a member is sent after a checkout."""

from urllib.parse import urlencode, urlsplit

from tenants.models import Tenant
from tenants.origins import origin_of

TOKEN = "allegro_purchase_token"  # noqa: S105  (the name of a parameter)
CANCELED = "allegro_purchase_canceled"


def is_allowed(url: str, tenant: Tenant) -> bool:
    """Whether the URL has exactly one of the origins that the tenant sells from."""
    origin = origin_of(url)
    return origin is not None and origin in tenant.allowed_origins


def with_parameter(url: str, name: str, value: str) -> str:
    """The URL with one of our parameters, in place of any that an earlier checkout left."""
    parts = urlsplit(url)
    others = [
        pair
        for pair in parts.query.split("&")
        if pair and pair.partition("=")[0] not in (TOKEN, CANCELED)
    ]
    return parts._replace(query="&".join([*others, urlencode({name: value})])).geturl()
