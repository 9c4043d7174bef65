"""How often one client may call, counted in the cache that all processes share."""

import ipaddress
import math
from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import ScopedRateThrottle


class ClientThrottle(ScopedRateThrottle):
    """The rate of the view's `throttle_scope`, per client address and key.

    The address is the connection's, or as many proxies back as `PROXY_HOPS` says: a header that
    anyone can write must not make anyone a new client. Of IPv6 its first 64 bits count, as a
    client may choose the others (RFC 4291 §2.5.4).
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

    def get_ident(self, request: Request) -> str:
        written: str = super().get_ident(request)
        try:
            address = ipaddress.IPv6Address(written)
        except ValueError:
            return written
        # `::ffff:192.0.2.1` is IPv4, of which all would share the network.
        return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address), 64), strict=False))
