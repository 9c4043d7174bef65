"""How often one client may call, counted in the cache that all processes share."""

import math
from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import ScopedRateThrottle


class ClientThrottle(ScopedRateThrottle):
    """The rate of the view's `throttle_scope`, per client address and key.

    The address is the connection's, or as many proxies back as `PROXY_HOPS` says: a header that
    anyone can write must not make anyone a new client.
    """

    num_requests: int
    duration: int

    def headers(self) -> list[tuple[str, str]]:
        """How much is left after the call that was just counted, and the seconds until more is.

        The three headers of draft-ietf-httpapi-ratelimit-headers, in their older form.
        """
        if self.rate is None:
            return []
        oldest = self.history[-1] if self.history else self.now
        return [
            ("RateLimit-Limit", str(self.num_requests)),
            ("RateLimit-Remaining", str(max(self.num_requests - len(self.history), 0))),
            ("RateLimit-Reset", str(math.ceil(oldest + self.duration - self.now))),
        ]

    def get_cache_key(self, request: Request, view: Any) -> str:
        key = getattr(request.auth, "pk", "")
        return f"throttle:{self.scope}:{key}:{self.get_ident(request)}"
