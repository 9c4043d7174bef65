"""Trouble on demand: too many requests, errors, slowness, nonsense."""

import asyncio
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from sandbox.errors import ApiError

Kind = Literal["none", "429", "500", "slow", "garbage"]
GARBAGE = "<html><body>upstream connect error</body></html>"


@dataclass
class Faults:
    """What the next API calls meet: `count` of them (None: all) whose path begins with `path`."""

    kind: Kind = "none"
    count: int | None = None
    seconds: float = 1
    path: str = "/"

    async def strike(self, path: str) -> web.Response | None:
        """The answer in place of the true one, if any. The call has no effect then."""
        if self.kind == "none" or self.count == 0 or not path.startswith(self.path):
            return None
        if self.count is not None:
            self.count -= 1
        if self.kind == "429":
            raise ApiError("Request rate limit exceeded.", code="rate_limit", status=429)
        if self.kind == "500":
            raise ApiError("An error occurred with our servers.", status=500, kind="api_error")
        if self.kind == "garbage":
            return web.Response(text=GARBAGE, content_type="text/html")
        await asyncio.sleep(self.seconds)
        return None
