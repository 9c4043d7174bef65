"""How often one client may call, counted in the cache that all processes share."""

from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import ScopedRateThrottle


class ClientThrottle(ScopedRateThrottle):
    """The rate of the view's `throttle_scope`, per client address and key.

    The address is the connection's, or as many proxies back as `PROXY_HOPS` says: a header that
    anyone can write must not make anyone a new client.
    """

    def get_cache_key(self, request: Request, view: Any) -> str:
        key = getattr(request.auth, "pk", "")
        return f"throttle:{self.scope}:{key}:{self.get_ident(request)}"
