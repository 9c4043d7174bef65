"""The official CLI's connection: `stripe listen` gets events through a websocket and forwards them.

It reports the answers. A bad one has no consequence: as at Stripe, only `stripe events resend`
sends an event again.
"""

import contextlib
import hashlib
import json
import secrets
import time
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from sandbox.config import Config
from sandbox.delivery import Attempt, Delivery, signed
from sandbox.errors import ApiError
from sandbox.ids import new_id, now
from sandbox.objects import API_VERSION, Json
from sandbox.requests import answer, check_key
from sandbox.stand_in import stand_in

SESSIONS = "/v1/stripecli/sessions"
SOCKET = "/v1/stripecli/socket"
PROTOCOL = "stripecli-devproxy-v1"
DAY = 24 * 60 * 60


@dataclass(eq=False)
class Connection:
    """One `stripe listen`; `sent` has when each event that is not answered yet left."""

    socket: web.WebSocketResponse
    delivery: Delivery
    secret: str
    sent: dict[str, float] = field(default_factory=dict)

    async def send(self, event: Json) -> None:
        """Pass an event on, unless the connection is gone."""
        body, headers = signed(event, self.secret)
        message = {
            "type": "webhook_event",
            "event_payload": body.decode(),
            "http_headers": headers,
            "webhook_conversation_id": new_id("wc_"),
            "webhook_id": event["id"],
        }
        self.sent[event["id"]] = time.monotonic()
        with contextlib.suppress(ConnectionError):
            # The CLI drops one of the two: with --latest the account's own version, which is null.
            for version in (None, API_VERSION):
                await self.socket.send_json({**message, "endpoint": {"api_version": version}})

    def receive(self, message: Json) -> None:
        """Note what became of an event; that it arrived at all is not of interest."""
        if message.get("type") != "webhook_response":
            return
        started = self.sent.pop(message["webhook_id"], time.monotonic())
        self.delivery.note(
            Attempt(
                event_id=message["webhook_id"],
                url=message["forward_url"],
                at=now(),
                status=message["status"],
                seconds=round(time.monotonic() - started, 3),
            )
        )

    async def close(self) -> None:
        """End the connection."""
        await self.socket.close()


async def open_session(request: web.Request) -> web.StreamResponse:
    """Tell the CLI where to connect, and the secret that what it forwards is signed with."""
    check_key(request)
    config = stand_in(request).config
    return answer(
        {
            "default_version": API_VERSION,
            "latest_version": API_VERSION,
            "display_connect_filter_warning": False,
            "reconnect_delay": DAY,
            "secret": listen_secret(config),
            "websocket_authorized_feature": "webhooks",
            "websocket_id": _socket_id(config),
            "websocket_url": f"ws://{request.host}{SOCKET}",
        }
    )


async def connect(request: web.Request) -> web.StreamResponse:
    """Send events for as long as the CLI stays."""
    sandbox = stand_in(request)
    given = request.headers.get("Websocket-Id", "")
    if not secrets.compare_digest(given.encode(), _socket_id(sandbox.config).encode()):
        # The text that makes the CLI ask for a new session.
        raise ApiError("Unknown WebSocket ID.", status=404)
    socket = web.WebSocketResponse(protocols=[PROTOCOL])
    await socket.prepare(request)
    connection = Connection(socket, sandbox.delivery, listen_secret(sandbox.config))
    sandbox.delivery.listeners.append(connection)
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                connection.receive(json.loads(message.data))
    finally:
        sandbox.delivery.listeners.remove(connection)
    return socket


def listen_secret(config: Config) -> str:
    """The first endpoint's secret, so that the product needs no second one; else the key's own."""
    if config.endpoints:
        return config.endpoints[0].secret
    return f"whsec_{_derived(config, 'secret')}"


routes = [web.post(SESSIONS, open_session), web.get(SOCKET, connect)]


def _socket_id(config: Config) -> str:
    return f"cliws_{_derived(config, 'socket')}"


def _derived(config: Config, purpose: str) -> str:
    # Both outlive a restart of the sandbox, so the CLI finds back by itself.
    return hashlib.sha256(f"{purpose} {config.key}".encode()).hexdigest()
