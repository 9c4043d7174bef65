"""OAuth: the page on which a seller allows the platform in, and the calls around it."""

from typing import Any
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from sandbox.connecting import connect, deauthorize
from sandbox.ids import new_id, now
from sandbox.objects import Json, accounts
from sandbox.pages import render
from sandbox.requests import Handler, answer, as_text, check_key, read_form
from sandbox.stand_in import StandIn, stand_in

CODE_LIFETIME = 5 * 60
SCOPES = ("read_write", "read_only")
NEW_ACCOUNT = "new"


class OAuthError(Exception):
    """A refusal as OAuth spells it: a plain string and a description."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(description)
        self.answer = answer({"error": error, "error_description": description}, status=status)


async def show_consent(request: web.Request) -> web.StreamResponse:
    """Ask the seller, or show what is wrong with the platform's request."""
    asked = _read_request(stand_in(request), dict(request.query))
    world = stand_in(request).world
    sellers = [account for account in world.accounts.values() if not world.is_platform(account)]
    return render("authorize.html", asked=asked, sellers=sellers, new_account=NEW_ACCOUNT)


async def decide(request: web.Request) -> web.StreamResponse:
    """Send the seller back with a code, or with `access_denied`."""
    sandbox = stand_in(request)
    form = {name: as_text(value) for name, value in (await request.post()).items()}
    asked = _read_request(sandbox, form)
    if form.get("decision") != "allow":
        denial = {"error": "access_denied", "error_description": "The user denied your request"}
        raise _back(asked, denial)
    code = _new_code(sandbox, _chosen(sandbox, form), asked["scope"])
    raise _back(asked, {"scope": asked["scope"], "code": code})


async def token(request: web.Request) -> web.StreamResponse:
    """Trade a code for an account, once; a second time also disconnects the account."""
    form = await read_form(request)
    check_key(request, body=form)
    return answer(_redeem(stand_in(request), form))


async def disconnect(request: web.Request) -> web.StreamResponse:
    """The platform lets go of an account."""
    form = await read_form(request)
    check_key(request, body=form)
    sandbox = stand_in(request)
    account_id = as_text(form.get("stripe_user_id"))
    account = sandbox.world.accounts.get(account_id)
    if not account_id:
        raise OAuthError("invalid_request", "No stripe_user_id provided")
    is_ours = form.get("client_id") == sandbox.config.client_id
    if account is None or not account.is_connected or not is_ours:
        message = f"This application is not connected to {account_id}"
        raise OAuthError("invalid_client", message, status=401)
    deauthorize(sandbox, account)
    return answer({"stripe_user_id": account_id})


def refusing(handler: Handler) -> Handler:
    """The handler, with what it refuses answered as OAuth does."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except OAuthError as error:
            return error.answer

    return handle


routes = [
    web.get("/oauth/authorize", refusing(show_consent)),
    web.post("/oauth/authorize", refusing(decide)),
    web.post("/oauth/token", refusing(token)),
    web.post("/oauth/deauthorize", refusing(disconnect)),
]


def _read_request(sandbox: StandIn, values: dict[str, Any]) -> dict[str, str]:
    """What the platform asks for, complete and allowed, or an `OAuthError`."""
    if values.get("client_id") != sandbox.config.client_id:
        raise OAuthError("invalid_client", f"No application matches {values.get('client_id')}")
    if values.get("response_type", "code") != "code":
        raise OAuthError("unsupported_response_type", "Only response_type=code is supported")
    scope = values.get("scope") or "read_only"
    if scope not in SCOPES:
        raise OAuthError("invalid_scope", f"Invalid scope provided: {scope}")
    return {
        "client_id": sandbox.config.client_id,
        "response_type": "code",
        "scope": scope,
        "state": values.get("state", ""),
        "redirect_uri": _redirect_uri(sandbox, values.get("redirect_uri", "")),
    }


def _redirect_uri(sandbox: StandIn, given: str) -> str:
    registered = sandbox.config.redirect_uris
    if registered and given in ("", *registered):
        return given or registered[0]
    # Nothing registered: a sandbox takes any web address.
    if not registered and urlsplit(given).scheme in ("http", "https") and urlsplit(given).netloc:
        return given
    raise OAuthError("invalid_redirect_uri", f"Invalid redirect URI '{given}'")


def _chosen(sandbox: StandIn, form: dict[str, str]) -> str:
    chosen = form.get("account", NEW_ACCOUNT)
    world = sandbox.world
    if chosen in world.accounts and chosen != world.platform_id:
        return chosen
    name = form.get("name", "").strip()[:80]
    return world.open_account(new_id("acct_1", 16), name=name, is_connected=False).id


def _new_code(sandbox: StandIn, account_id: str, scope: str) -> str:
    code = new_id("ac_", 32)
    sandbox.world.codes[code] = {
        "account_id": account_id,
        "scope": scope,
        "expires_at": now() + CODE_LIFETIME,
        "is_used": False,
    }
    return code


def _back(asked: dict[str, str], values: dict[str, str]) -> web.HTTPFound:
    if asked["state"]:
        values["state"] = asked["state"]
    uri = asked["redirect_uri"]
    return web.HTTPFound(f"{uri}{'&' if '?' in uri else '?'}{urlencode(values)}")


def _redeem(sandbox: StandIn, form: Json) -> Json:
    if form.get("grant_type") != "authorization_code":
        raise OAuthError("unsupported_grant_type", "Only authorization_code is supported")
    code = as_text(form.get("code"))
    if not code:
        raise OAuthError("invalid_request", "No authorization code provided")
    grant = sandbox.world.codes.get(code)
    if grant is None or grant["expires_at"] < now():
        raise OAuthError("invalid_grant", f"Authorization code does not exist: {code}")
    account = sandbox.world.accounts[grant["account_id"]]
    if grant["is_used"]:
        deauthorize(sandbox, account)
        raise OAuthError("invalid_grant", f"This authorization code has already been used: {code}")
    grant["is_used"] = True
    connect(sandbox, account)
    return accounts.oauth_token(account.id, scope=grant["scope"])
