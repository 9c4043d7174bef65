"""The control page: the control API as forms."""

from typing import get_args

from aiohttp import web

from sandbox import faults
from sandbox.pages import render
from sandbox.stand_in import stand_in
from sandbox.summary import summarize


async def show(request: web.Request) -> web.StreamResponse:
    """Accounts, payments and events, and what can be done to them."""
    sandbox = stand_in(request)
    state = summarize(sandbox)
    switches = [
        {"name": name, "is_on": state["delivery"][name]}
        for name in ("hold", "shuffle", "duplicate", "drop")
    ]
    return render("control.html", **state, switches=switches, fault_kinds=get_args(faults.Kind))


routes = [web.get("/", show)]
