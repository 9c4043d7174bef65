"""The API's routes as the URLconf has them: a new one is tested without being named."""

import re

from django.urls import get_resolver

A_UUID = "6a1f0c9e-0000-4000-8000-000000000000"
# What anyone may call: Stripe signs, a refresh token stands in the body, documents are public.
OPEN = {"api/webhooks/stripe", "api/members/token/refresh", "api/schema", "api/docs"}
# What a browser calls for a visitor whom nobody knows yet.
PUBLISHABLE = {"api/checkout/sessions", "api/purchases/exchange"}
MEMBER = {"api/entitlements", "api/purchases", "api/credits"}


def api_routes():
    """Every address below /api/ that wants a key or a token, its parameters filled in."""
    patterns = [str(pattern.pattern) for pattern in get_resolver().url_patterns]
    addresses = {re.sub(r"<[^>]*>", A_UUID, pattern).strip("^$?/") for pattern in patterns}
    return sorted({route for route in addresses if route.startswith("api/")} - OPEN)


SECRET = [route for route in api_routes() if route not in PUBLISHABLE | MEMBER]
METHODS = ["get", "post", "put", "patch", "delete"]


def call(client, method, route, bearer=None, *, query="", **body):
    """Call the route as a browser or a server would; a body is sent where one is given."""
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    send = getattr(client, method)
    if method == "get":
        return send(f"/{route}{query}", headers=headers)
    return send(f"/{route}{query}", body, content_type="application/json", headers=headers)
