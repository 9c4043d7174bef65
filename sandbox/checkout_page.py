"""The page on which the buyer pays, without a card."""

from typing import Any

from aiohttp import web

from sandbox import buying
from sandbox.api_checkout import EMAIL
from sandbox.errors import ApiError
from sandbox.objects import Json
from sandbox.pages import money, render
from sandbox.requests import as_text
from sandbox.stand_in import stand_in
from sandbox.state import Account


async def show(request: web.Request) -> web.StreamResponse:
    """What is sold, and the ways to pay; or that the session is over."""
    found = _find(request)
    return render("no_session.html", status=404) if found is None else _page(*found)


async def submit(request: web.Request) -> web.StreamResponse:
    """Pay, and go back to the seller once the seller's webhook has answered, or 10 s later."""
    found = _find(request)
    if found is None:
        return render("no_session.html", status=404)
    account, session = found
    if session["status"] == "open":
        problem = await _try_to_pay(request, account, session)
        if problem is not None:
            return problem
    if session["status"] == "expired":
        return _page(account, session)
    completed = account.drafts[session["id"]]["completed_event"]
    await stand_in(request).delivery.answered([completed])
    raise web.HTTPSeeOther(success_url(session))


async def _try_to_pay(request: web.Request, account: Account, session: Json) -> web.Response | None:
    """None when the session is complete, else the page again with what went wrong."""
    form = {name: as_text(value).strip() for name, value in (await request.post()).items()}
    method, email, name = (form.get(key, "") for key in ("method", "email", "name"))
    if not session["customer_email"] and not EMAIL.fullmatch(email):
        return _page(account, session, problem="Please give an e-mail address.", name=name)
    if method not in buying.METHODS:
        return _page(account, session, problem="Please choose a way to pay.", email=email)
    buying.pay(stand_in(request), account, session, method=method, email=email, name=name[:200])
    if session["status"] == "complete":
        return None
    problem = "Your card was declined. Try again, or another way to pay."
    return _page(account, session, problem=problem, email=email, name=name)


def success_url(session: Json) -> str:
    """Where the buyer goes after paying."""
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


routes = [web.get("/c/pay/{id}", show), web.post("/c/pay/{id}", submit)]


def _find(request: web.Request) -> tuple[Account, Json] | None:
    try:
        return stand_in(request).world.owner("checkout.session", request.match_info["id"])
    except ApiError:
        return None


def _page(
    account: Account, session: Json, *, problem: str = "", email: str = "", name: str = ""
) -> web.Response:
    values: dict[str, Any] = {
        "session": session,
        "seller": account.name,
        "problem": problem,
        "email": session["customer_email"] or email,
        "name": name,
        "total": money(session["amount_total"], session["currency"]),
        "items": [
            {**item, "amount": money(item["amount_total"], item["currency"])}
            for item in account.drafts[session["id"]]["line_items"]
        ],
        "return_url": success_url(session) if session["status"] == "complete" else "",
    }
    return render("checkout.html", status=422 if problem else 200, **values)
