"""The sandbox on a free loopback port, in a thread of this process.

with running_sandbox(webhook_url, accounts=["acct_1Seller"]) as sandbox:
    session = sandbox.client.v1.checkout.sessions.create(...)
    sandbox.pay(session.id)
"""

import asyncio
import json
import socket
import threading
from contextlib import contextmanager
from http.client import HTTPConnection

import stripe
from aiohttp import web

from sandbox.app import create_app
from sandbox.config import Config, Endpoint

KEY = "sk_test_sandboxkey"
CLIENT_ID = "ca_sandboxclient"
SECRET = "whsec_test_sandbox_secret"
START_TIMEOUT = 10
ANSWER_TIMEOUT = 30


class SandboxRefused(Exception):
    """The control API said no."""


class SandboxServer:
    """A running sandbox. Each control returns once the events it caused were answered."""

    def __init__(self, port):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        stripe.enable_telemetry = False
        self.client = self.client_with(KEY)

    def client_with(self, key, **options):
        """A real client of Stripe's library, talking to this sandbox."""
        return stripe.StripeClient(
            key,
            client_id=CLIENT_ID,
            base_addresses={"api": self.url, "connect": self.url},
            **options,
        )

    def control(self, path, /, **fields):
        """Call the control API."""
        return self._json("POST", f"/_sandbox/{path}", fields)

    def state(self):
        """The summary of everything."""
        return self._json("GET", "/_sandbox/state")

    def attempts(self, event_id):
        """The deliveries of an event so far."""
        events = [event for account in self.state()["accounts"] for event in account["events"]]
        return next(event["attempts"] for event in events if event["id"] == event_id)

    def pay(self, session_id, method="card", **fields):
        return self.control(f"sessions/{session_id}/pay", method=method, **fields)

    def settle(self, intent_id, *, ok=True):
        return self.control(f"payments/{intent_id}/settle", ok=ok)

    def refund(self, intent_id, amount=None):
        return self.control(f"payments/{intent_id}/refund", amount=amount)

    def fail_refund(self, refund_id):
        return self.control(f"refunds/{refund_id}/fail")

    def dispute(self, intent_id, *, inquiry=False):
        return self.control(f"payments/{intent_id}/dispute", inquiry=inquiry)

    def close_dispute(self, dispute_id, *, won):
        return self.control(f"disputes/{dispute_id}/close", won=won)

    def deauthorize(self, account_id):
        return self.control(f"accounts/{account_id}/deauthorize")

    def enable(self, account_id, *, charges_enabled):
        return self.control(f"accounts/{account_id}/enable", charges_enabled=charges_enabled)

    def redeliver(self, event_id):
        return self.control(f"events/{event_id}/redeliver")

    def disturb(self, **settings):
        return self.control("delivery", **settings)

    def fault(self, kind, **settings):
        return self.control("faults", kind=kind, **settings)

    def set_endpoints(self, *endpoints):
        """Send events to these, each `{url, secret, connect?}`, from now on."""
        return self.control("endpoints", endpoints=endpoints)

    def wait_idle(self, timeout=10):
        """Return once no delivery is under way, retries included."""
        assert self.control("idle", timeout=timeout, wait=False)["idle"], "still delivering"

    def request(self, method, path, body=None, **headers):
        """A plain request: `(status, headers, text)`. A dict of form fields is encoded."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_TIMEOUT)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def _json(self, method, path, fields=None):
        body = None if fields is None else json.dumps(fields)
        headers = {"Content-Type": "application/json"}
        status, _, text = self.request(method, path, body, **headers)
        if status != 200:
            raise SandboxRefused(f"{status} {text}")
        return json.loads(text)


@contextmanager
def running_sandbox(webhook_url=None, secret=SECRET, accounts=(), **config):
    """Run it for as long as the block does; `config` are further fields of `Config`."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    endpoints = (Endpoint(webhook_url, secret),) if webhook_url else ()
    settings = {
        "url": f"http://127.0.0.1:{port}",
        "key": KEY,
        "client_id": CLIENT_ID,
        "endpoints": endpoints,
        "accounts": tuple(accounts),
        **config,
    }
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    has_started = threading.Event()
    serving = _serve(Config(**settings), listener, has_started, stop)
    thread = threading.Thread(target=_run, args=(loop, serving), daemon=True)
    thread.start()
    assert has_started.wait(START_TIMEOUT), "the sandbox did not start"
    try:
        yield SandboxServer(port)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _run(loop, serving):
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(serving)
    finally:
        loop.close()


async def _serve(config, listener, has_started, stop):
    runner = web.AppRunner(create_app(config), access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    has_started.set()
    await stop.wait()
    await runner.cleanup()
