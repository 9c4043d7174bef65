"""What every call of Stripe's API has in common: key, account, parameters, idempotency, errors."""

import base64
import binascii
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from sandbox import forms, idempotency, parameters
from sandbox.errors import ApiError, no_access
from sandbox.ids import new_id
from sandbox.objects import API_VERSION, Json
from sandbox.stand_in import StandIn, stand_in
from sandbox.state import Account


@dataclass(frozen=True)
class Call:
    """One call, already allowed, on one account, its parameters checked and typed."""

    stand_in: StandIn
    account: Account
    params: Json
    path: dict[str, str]
    request_id: str
    idempotency_key: str | None

    @property
    def origin(self) -> Json:
        """How events name the request that caused them."""
        return {"id": self.request_id, "idempotency_key": self.idempotency_key}


REQUEST_ID = web.RequestKey("request_id", str)
Endpoint = Callable[[Call], Awaitable[Json]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def api(method: str, path: str, endpoint: Endpoint, declaration: type) -> web.RouteDef:
    """The route of a call that takes the parameters that a class of stripe-python declares."""

    async def handle(request: web.Request) -> web.StreamResponse:
        call = await _read_call(request, declaration)
        if method != "POST" or not call.idempotency_key:
            return answer(await endpoint(call))
        return await _once(call, request.path, endpoint)

    return web.route(method, path, handle)


@web.middleware
async def envelope(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Number the request, let faults strike, and turn refusals into Stripe's error envelope."""
    if not request.path.startswith(("/v1/", "/oauth/token", "/oauth/deauthorize")):
        return await handler(request)
    request[REQUEST_ID] = new_id("req_", 14)
    response: web.StreamResponse | None
    try:
        response = await stand_in(request).faults.strike(request.path)
        if response is None:
            response = await handler(request)
    except ApiError as error:
        response = answer(error.as_json(), status=error.status)
        if error.status == 401:
            response.headers["WWW-Authenticate"] = 'Basic realm="Stripe"'
    response.headers["Request-Id"] = request[REQUEST_ID]
    response.headers["Stripe-Version"] = request.headers.get("Stripe-Version", API_VERSION)
    return response


async def unknown_url(request: web.Request) -> web.StreamResponse:
    """The answer to a call that the sandbox does not have."""
    message = f"Unrecognized request URL ({request.method}: {request.path})."
    raise ApiError(message, status=404)


def answer(data: Json, *, status: int = 200) -> web.Response:
    """Data as Stripe writes it."""
    return web.Response(
        text=json.dumps(data, indent=2, ensure_ascii=False) + "\n",
        status=status,
        content_type="application/json",
    )


def check_key(request: web.Request, *, body: Json | None = None) -> None:
    """Refuse any secret key but the platform's; OAuth calls may send it in the body."""
    given = (body or {}).get("client_secret") or _key(request.headers.get("Authorization", ""))
    if not given:
        raise ApiError("You did not provide an API key.", status=401)
    expected = stand_in(request).config.key
    if not secrets.compare_digest(given.encode(), expected.encode()):
        hidden = "*" * max(0, len(given) - 4) + given[-4:]
        raise ApiError(f"Invalid API Key provided: {hidden}", status=401)


async def read_form(request: web.Request) -> Json:
    """The parameters of a request, nested."""
    if request.method in ("GET", "DELETE"):
        return forms.nest(request.query.items())
    try:
        text = (await request.read()).decode()
    except UnicodeDecodeError:
        raise ApiError("Invalid request: the body is not UTF-8.") from None
    return forms.nest(parse_qsl(text, keep_blank_values=True))


async def _read_call(request: web.Request, declaration: type) -> Call:
    check_key(request)
    account = _account(request)
    raw = await read_form(request)
    return Call(
        stand_in=stand_in(request),
        account=account,
        params=parameters.read(declaration, raw),
        path=dict(request.match_info),
        request_id=request[REQUEST_ID],
        idempotency_key=request.headers.get("Idempotency-Key"),
    )


def _account(request: web.Request) -> Account:
    sandbox = stand_in(request)
    account_id = request.headers.get("Stripe-Account")
    if not account_id:
        return sandbox.world.platform
    account = sandbox.world.accounts.get(account_id)
    if account is None or not account.is_connected:
        raise no_access(sandbox.config.key, account_id)
    return account


async def _once(call: Call, path: str, endpoint: Endpoint) -> web.Response:
    """Do a call with an idempotency key once; a repeat gets the first answer."""
    assert call.idempotency_key is not None
    claim = idempotency.claim(call.account, call.idempotency_key, path=path, params=call.params)
    if claim.answer is not None:
        response = answer(claim.answer)
        response.headers["Idempotent-Replayed"] = "true"
        return response
    # A refusal leaves no trace, as at Stripe: the same key may carry a corrected request.
    with claim:
        claim.answer = await endpoint(call)
    call.stand_in.world.touch()
    return answer(claim.answer)


def _key(header: str) -> str:
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def as_text(value: Any) -> str:
    """A parameter of an OAuth call, which is a string or nothing."""
    return value if isinstance(value, str) else ""
