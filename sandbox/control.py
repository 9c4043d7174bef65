"""The control API: what buyers, banks and sellers do, and how deliveries and calls go wrong.

JSON or form fields in; JSON out, or for a form the way back to the control page.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields, replace
from typing import get_args
from urllib.parse import urlsplit

from aiohttp import web

from sandbox import buying, connecting, faults, money_back
from sandbox.config import Endpoint
from sandbox.control_fields import flag, number, read, seconds
from sandbox.delivery import Disturbance
from sandbox.errors import ApiError
from sandbox.ids import new_id
from sandbox.objects import Json
from sandbox.requests import Handler, answer
from sandbox.stand_in import StandIn, stand_in
from sandbox.summary import summarize

FORM_WAIT = 1.0
Control = Callable[[StandIn, str, Json], Json | Awaitable[Json]]


@web.middleware
async def loopback_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep the controls to this machine and to the sandbox's own page."""
    if request.path == "/" or request.path.startswith("/_sandbox/"):
        origin = request.headers.get("Origin", "")
        is_foreign = bool(origin) and urlsplit(origin).netloc != request.host
        if is_foreign or not _is_loopback(request.remote) or not _is_loopback(request.url.host):
            raise web.HTTPForbidden(text="The controls are for this machine only.\n")
    return await handler(request)


def control(path: str, action: Control) -> web.RouteDef:
    """The route of an action; it answers once the events that it caused were answered."""

    async def handle(request: web.Request) -> web.StreamResponse:
        sandbox = stand_in(request)
        is_form = request.content_type != "application/json"
        try:
            given = await read(request, is_form=is_form)
            result = action(sandbox, request.match_info.get("id", ""), given)
            data = result if isinstance(result, dict) else await result
        except ApiError as error:
            return answer(error.as_json(), status=error.status)
        sandbox.world.touch()
        if given.get("wait", True):
            await sandbox.delivery.answered(timeout=FORM_WAIT if is_form else None)
        if is_form:
            raise web.HTTPSeeOther("/")
        return answer(data)

    return web.post(f"/_sandbox/{path}", handle)


async def show_state(request: web.Request) -> web.StreamResponse:
    """Everything at a glance."""
    return answer(summarize(stand_in(request)))


def pay(sandbox: StandIn, session_id: str, given: Json) -> Json:
    account, session = sandbox.world.owner("checkout.session", session_id)
    buying.pay(
        sandbox,
        account,
        session,
        method=given.get("method", "card"),
        email=given.get("email"),
        name=given.get("name"),
    )
    return session


def expire(sandbox: StandIn, session_id: str, given: Json) -> Json:
    account, session = sandbox.world.owner("checkout.session", session_id)
    buying.expire(sandbox, account, session)
    return session


def settle(sandbox: StandIn, intent_id: str, given: Json) -> Json:
    account, intent = sandbox.world.owner("payment_intent", intent_id)
    buying.settle(sandbox, account, intent, is_good=flag(given, "ok", default=True))
    return intent


def refund(sandbox: StandIn, intent_id: str, given: Json) -> Json:
    account, intent = sandbox.world.owner("payment_intent", intent_id)
    charge = money_back.charge_of(account, intent["id"])
    amount = number(given, "amount")
    return money_back.refund(sandbox, account, charge, amount=amount, reason=given.get("reason"))


def fail_refund(sandbox: StandIn, refund_id: str, given: Json) -> Json:
    account, made = sandbox.world.owner("refund", refund_id)
    money_back.fail_refund(sandbox, account, made)
    return made


def dispute(sandbox: StandIn, intent_id: str, given: Json) -> Json:
    account, intent = sandbox.world.owner("payment_intent", intent_id)
    charge = money_back.charge_of(account, intent["id"])
    is_inquiry = flag(given, "inquiry", default=False)
    return money_back.open_dispute(sandbox, account, charge, is_inquiry=is_inquiry)


def close_dispute(sandbox: StandIn, dispute_id: str, given: Json) -> Json:
    account, opened = sandbox.world.owner("dispute", dispute_id)
    money_back.close_dispute(sandbox, account, opened, won=flag(given, "won", default=True))
    return opened


def create_account(sandbox: StandIn, _: str, given: Json) -> Json:
    return sandbox.world.open_account(
        given.get("id") or new_id("acct_1", 16),
        name=given.get("name", ""),
        is_connected=flag(given, "connected", default=True),
    ).details


def deauthorize(sandbox: StandIn, account_id: str, given: Json) -> Json:
    account, details = sandbox.world.owner("account", account_id)
    connecting.deauthorize(sandbox, account)
    return details


def enable(sandbox: StandIn, account_id: str, given: Json) -> Json:
    account, details = sandbox.world.owner("account", account_id)
    is_enabled = flag(given, "charges_enabled", default=True)
    connecting.enable(sandbox, account, charges_enabled=is_enabled)
    return details


def redeliver(sandbox: StandIn, event_id: str, given: Json) -> Json:
    _, event = sandbox.world.owner("event", event_id)
    sandbox.delivery.redeliver(event)
    return event


async def disturb(sandbox: StandIn, _: str, given: Json) -> Json:
    """Change some of the settings; what `hold` collected leaves when it ends."""
    before = sandbox.delivery.disturbance
    changes: Json = {
        item.name: flag(given, item.name, default=False)
        for item in fields(Disturbance)
        if item.name in given and item.name != "delay"
    }
    if "delay" in given:
        changes["delay"] = seconds(given, "delay")
    sandbox.delivery.disturbance = replace(before, **changes)
    if before.hold and not sandbox.delivery.disturbance.hold:
        await sandbox.delivery.release()
    return asdict(sandbox.delivery.disturbance)


def set_endpoints(sandbox: StandIn, _: str, given: Json) -> Json:
    """Replace the webhook endpoints."""
    try:
        endpoints = [Endpoint(**item) for item in given["endpoints"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ApiError("endpoints are {url, secret, connect?}", param="endpoints") from error
    sandbox.delivery.endpoints = endpoints
    return {"endpoints": [endpoint.url for endpoint in endpoints]}


def set_faults(sandbox: StandIn, _: str, given: Json) -> Json:
    """Let API calls meet trouble from now on."""
    kind = given.get("kind", "none")
    if kind not in get_args(faults.Kind):
        raise ApiError(f"Invalid kind: one of {', '.join(get_args(faults.Kind))}", param="kind")
    sandbox.faults = faults.Faults(
        kind=kind,
        count=number(given, "count"),
        seconds=seconds(given, "seconds", default=1),
        path=given.get("path") or "/",
    )
    return asdict(sandbox.faults)


async def wait_idle(sandbox: StandIn, _: str, given: Json) -> Json:
    """Wait until no delivery is under way."""
    is_idle = await sandbox.delivery.wait_idle(seconds(given, "timeout", default=10))
    return {"idle": is_idle}


routes = [
    web.get("/_sandbox/state", show_state),
    control("sessions/{id}/pay", pay),
    control("sessions/{id}/expire", expire),
    control("payments/{id}/settle", settle),
    control("payments/{id}/refund", refund),
    control("payments/{id}/dispute", dispute),
    control("refunds/{id}/fail", fail_refund),
    control("disputes/{id}/close", close_dispute),
    control("accounts", create_account),
    control("accounts/{id}/deauthorize", deauthorize),
    control("accounts/{id}/enable", enable),
    control("events/{id}/redeliver", redeliver),
    control("delivery", disturb),
    control("endpoints", set_endpoints),
    control("faults", set_faults),
    control("idle", wait_idle),
]


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
