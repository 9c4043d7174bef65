"""The application: every route, and what runs beside the requests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from sandbox import (
    api_accounts,
    api_catalog,
    api_checkout,
    api_events,
    api_payment_pages,
    api_payments,
    api_webhook_endpoints,
    buying,
    checkout_page,
    cli,
    control,
    control_page,
    oauth,
    pages,
)
from sandbox.config import Config
from sandbox.delivery import Delivery
from sandbox.requests import envelope, unknown_url
from sandbox.stand_in import STAND_IN, StandIn
from sandbox.state import Appointment, World

MODULES = (
    api_accounts,
    api_catalog,
    api_checkout,
    api_events,
    api_payment_pages,
    api_payments,
    api_webhook_endpoints,
    checkout_page,
    cli,
    control,
    control_page,
    oauth,
    pages,
)
MAX_BODY = 1024 * 1024
TICK = 0.05


def create_app(config: Config) -> web.Application:
    """A sandbox, ready to run."""
    app = web.Application(middlewares=[control.loopback_only, envelope], client_max_size=MAX_BODY)
    world = World(config.platform_account, path=config.state_file)
    for account_id in config.accounts:
        world.open_account(account_id)
    app[STAND_IN] = StandIn(config, world, Delivery(config, list(config.endpoints)))
    for module in MODULES:
        app.add_routes(module.routes)
    app.router.add_route("*", "/v1/{rest:.*}", unknown_url)
    app.cleanup_ctx.append(_running)
    app.on_shutdown.append(_hang_up)
    return app


async def _running(app: web.Application) -> AsyncIterator[None]:
    sandbox = app[STAND_IN]
    await sandbox.delivery.open()
    clock = asyncio.create_task(_keep_appointments(sandbox))
    yield
    clock.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await clock
    await sandbox.delivery.close()
    sandbox.world.save()


async def _hang_up(app: web.Application) -> None:
    # A server that ends waits for its requests, and a listener's never ends by itself.
    for listener in list(app[STAND_IN].delivery.listeners):
        await listener.close()


async def _keep_appointments(sandbox: StandIn) -> None:
    while True:
        for appointment in sandbox.due():
            _keep(sandbox, appointment)
        await asyncio.sleep(TICK)


def _keep(sandbox: StandIn, appointment: Appointment) -> None:
    account = sandbox.world.accounts[appointment.account_id]
    if appointment.kind == "settle":
        intent = account.get("payment_intent", appointment.object_id)
        buying.settle(sandbox, account, intent, is_good=appointment.is_good)
        return
    session = account.get("checkout.session", appointment.object_id)
    if session["status"] == "open":
        buying.expire(sandbox, account, session)
