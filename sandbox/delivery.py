"""Webhooks on their way: signed for each attempt, retried, and disturbed on demand."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp

from sandbox.config import Config, Endpoint
from sandbox.ids import now
from sandbox.objects import Json

KEPT_ATTEMPTS = 5000
RANDOM = random.SystemRandom()


@dataclass(frozen=True)
class Attempt:
    """One POST of an event; `status` is 0 when there was no HTTP answer."""

    event_id: str
    url: str
    at: int
    status: int
    seconds: float
    error: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the endpoint took the event; a redirect is a refusal."""
        return not self.error and 200 <= self.status < 300


class Listener(Protocol):
    """Somebody connected who gets every event; nothing is sent to them again."""

    async def send(self, event: Json) -> None:
        """Pass an event on, unless the connection is gone."""

    async def close(self) -> None:
        """End the connection."""


@dataclass
class Disturbance:
    """How deliveries differ from prompt ones, each once, in any order."""

    hold: bool = False
    delay: float = 0
    duplicate: bool = False
    shuffle: bool = False
    drop: bool = False


@dataclass
class Delivery:
    """Sends events to endpoints and listeners. All methods belong to the event loop's thread."""

    config: Config
    endpoints: list[Endpoint] = field(default_factory=list)
    disturbance: Disturbance = field(default_factory=Disturbance)
    attempts: list[Attempt] = field(default_factory=list)
    collected: list[Json] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    listeners: list[Listener] = field(default_factory=list)
    _client: aiohttp.ClientSession | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _first: dict[str, list[asyncio.Task[bool]]] = field(default_factory=dict)

    async def open(self) -> None:
        """Get ready to send; needs the running loop."""
        # No connection is kept: a server that restarts must not cost an attempt.
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        jar = aiohttp.DummyCookieJar()
        self._client = aiohttp.ClientSession(connector=connector, cookie_jar=jar)

    def send(self, event: Json) -> None:
        """Deliver the event as the settings say."""
        if self.disturbance.drop:
            self.dropped.add(event["id"])
        elif self.disturbance.hold:
            self.collected.append(event)
        elif self.disturbance.shuffle:
            self.collected.append(event)
            if len(self.collected) == 1:
                self._start(self._release_soon())
        else:
            self._dispatch(event)

    def redeliver(self, event: Json) -> None:
        """Deliver once more, now, whatever the settings say."""
        self.tell_listeners(event)
        self._send_to_endpoints(event, delay=0)

    def tell_listeners(self, event: Json, *, delay: float = 0) -> None:
        """Send to those who are connected, and to no endpoint."""
        for listener in self.listeners:
            self._start(self._tell(listener, event, delay))

    def note(self, attempt: Attempt) -> None:
        """Remember how an attempt went."""
        self.attempts.append(attempt)
        del self.attempts[:-KEPT_ATTEMPTS]

    async def release(self) -> None:
        """Let the collected events go: in random order if `shuffle` is on, else as they came."""
        events, self.collected = self.collected, []
        if self.disturbance.shuffle:
            RANDOM.shuffle(events)
        for event in events:
            self._dispatch(event)
            # One after the other, so that the order is the one that arrives.
            await self.answered([event["id"]])

    async def answered(
        self, event_ids: Iterable[str] | None = None, *, timeout: float | None = None
    ) -> None:
        """Wait until these events' (default: all) first attempts were answered, at most 10 s.

        Events that are held or dropped have no attempt to wait for.
        """
        wanted = list(self._first) if event_ids is None else event_ids
        tasks = [task for event_id in wanted for task in self._first.get(event_id, [])]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout or self.config.redirect_wait)

    async def wait_idle(self, timeout: float) -> bool:
        """Whether nothing is under way any more, retries and delays included."""
        deadline = time.monotonic() + timeout
        while self._tasks and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left)
        return not self._tasks

    async def close(self) -> None:
        """Stop everything that is under way."""
        under_way = [*self._tasks, *(task for tasks in self._first.values() for task in tasks)]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def _dispatch(self, event: Json) -> None:
        for _ in range(2 if self.disturbance.duplicate else 1):
            self.tell_listeners(event, delay=self.disturbance.delay)
            self._send_to_endpoints(event, delay=self.disturbance.delay)

    def _send_to_endpoints(self, event: Json, *, delay: float) -> None:
        for endpoint in self.endpoints:
            if endpoint.wants(event.get("account")):
                first = asyncio.create_task(self._post(event, endpoint, delay))
                self._first.setdefault(event["id"], []).append(first)
                self._start(self._deliver(event, endpoint, first))

    async def _tell(self, listener: Listener, event: Json, delay: float) -> None:
        await asyncio.sleep(delay)
        await listener.send(event)

    async def _release_soon(self) -> None:
        await asyncio.sleep(self.config.shuffle_window)
        if not self.disturbance.hold:
            await self.release()

    async def _deliver(self, event: Json, endpoint: Endpoint, first: asyncio.Task[bool]) -> None:
        try:
            is_done = await first
        finally:
            self._forget(event["id"], first)
        for gap in self.config.retry_gaps:
            if is_done:
                break
            is_done = await self._post(event, endpoint, gap)
        if is_done:
            event["pending_webhooks"] = max(0, event["pending_webhooks"] - 1)

    def _forget(self, event_id: str, first: asyncio.Task[bool]) -> None:
        tasks = self._first.get(event_id, [])
        with contextlib.suppress(ValueError):
            tasks.remove(first)
        if not tasks:
            self._first.pop(event_id, None)

    async def _post(self, event: Json, endpoint: Endpoint, delay: float) -> bool:
        """One attempt after `delay` seconds; True for a 2xx. Redirects are not followed."""
        await asyncio.sleep(delay)
        body, headers = signed(event, endpoint.secret)
        assert self._client is not None
        started, status, error = time.monotonic(), 0, ""
        try:
            async with self._client.post(
                endpoint.url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self.config.answer_timeout),
            ) as response:
                status = response.status
                await response.read()
        except (aiohttp.ClientError, TimeoutError) as problem:
            error = type(problem).__name__
        seconds = round(time.monotonic() - started, 3)
        attempt = Attempt(event["id"], endpoint.url, now(), status, seconds, error)
        self.note(attempt)
        return attempt.is_good

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def signed(event: Json, secret: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers of one attempt, signed for now."""
    body = json.dumps(event, indent=2, ensure_ascii=False).encode()
    return body, {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        "Stripe-Signature": signature(body, secret, timestamp=now()),
    }


def signature(body: bytes, secret: str, *, timestamp: int) -> str:
    """The `Stripe-Signature` header of a body."""
    signed = b"%d.%s" % (timestamp, body)
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"
