"""Stripe's API on loopback: the Checkout Sessions that a test put there, and faults on demand.

with stripe_stand_in() as stripe:
    stripe.add(event)
    with running_server(env={"STRIPE_API_BASE": stripe.url}) as server:
        ...
"""

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from tests.loopback import serving

SESSIONS = "/v1/checkout/sessions/"
ENDPOINTS = "/v1/webhook_endpoints"


@dataclass(frozen=True)
class Call:
    """A request that arrived, `account_id` being the account it was made for."""

    method: str
    path: str
    account_id: str


class StripeStandIn:
    """`sessions` by `(account_id, session_id)`, as Stripe would send them now, and `endpoints`.

    `status`, unless it is 200, is the answer to every call; each waits `delay` seconds first.
    """

    def __init__(self, url):
        self.url = url
        self.sessions = {}
        self.endpoints = []
        self.status = 200
        self.delay = 0
        self.calls = []
        self.has_ended = threading.Event()

    def add(self, event, **fields):
        """Let Stripe have the session that an event is about, with other values where given."""
        session = {**event["data"]["object"], **fields}
        self.sessions[event.get("account", ""), session["id"]] = session

    def answer(self, call):
        self.calls.append(call)
        # No plain sleep: the end of the test must not wait for it.
        self.has_ended.wait(self.delay)
        if self.status != 200:
            return self.status, _error("api_error", None)
        if call.path == ENDPOINTS:
            return 200, {"object": "list", "data": self.endpoints, "has_more": False}
        session = self.sessions.get((call.account_id, call.path.removeprefix(SESSIONS)))
        if session is None or call.method != "GET":
            return 404, _error("invalid_request_error", "resource_missing")
        return 200, _expanded(session)


@contextmanager
def stripe_stand_in():
    """Answer on a port of our own for as long as the block runs."""
    with serving(_Handler) as server:
        server.stripe = StripeStandIn(f"http://127.0.0.1:{server.server_port}")
        try:
            yield server.stripe
        finally:
            server.stripe.has_ended.set()


class _Handler(BaseHTTPRequestHandler):
    def _answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        call = Call(self.command, path, self.headers.get("Stripe-Account", ""))
        status, data = self.server.stripe.answer(call)
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815  (the names that http.server calls)

    def log_message(self, *arguments):
        """Say nothing: the calls are kept."""


def _error(kind, code):
    return {"error": {"type": kind, "code": code, "message": "The stand-in says no."}}


def _expanded(session):
    """The session with its PaymentIntent as an object, which is how the product asks for it."""
    intent = session.get("payment_intent")
    if not isinstance(intent, str):
        return session
    status = "succeeded" if session["payment_status"] == "paid" else "processing"
    return {
        **session,
        "payment_intent": {"id": intent, "object": "payment_intent", "status": status},
    }
