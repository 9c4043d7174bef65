"""One purchase and what becomes of it, told by events; for `manage.py simulate`.

A sandbox of its own makes them in this process, so they are those that the running one sends.
"""

import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import urlsplit

from sandbox import buying, money_back
from sandbox.config import Config, Endpoint
from sandbox.delivery import Delivery, Disturbance, signed
from sandbox.ids import new_id
from sandbox.objects import Json, catalog, checkout
from sandbox.stand_in import StandIn
from sandbox.state import Account, World

RANDOM = random.SystemRandom()
ANSWER_TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Sale:
    """An open Checkout Session, and the buyer at it. `events` tells what happened so far."""

    sandbox: StandIn
    account: Account
    session: Json
    email: str

    @property
    def events(self) -> list[Json]:
        """In the order in which Stripe sends them."""
        return self.sandbox.delivery.collected

    def pay(self, method: str = "card") -> None:
        buying.pay(self.sandbox, self.account, self.session, method=method, email=self.email)

    def settle_debit(self, *, is_good: bool) -> None:
        """Let the buyer's bank pay the debit, or return it."""
        intent = self.account.get("payment_intent", self.session["payment_intent"])
        buying.settle(self.sandbox, self.account, intent, is_good=is_good)

    def refund(self, amount: int | None = None) -> Json:
        return money_back.refund(self.sandbox, self.account, self._charge(), amount=amount)

    def fail_refund(self, made: Json) -> None:
        money_back.fail_refund(self.sandbox, self.account, made)

    def dispute(self) -> Json:
        return money_back.open_dispute(self.sandbox, self.account, self._charge())

    def close_dispute(self, opened: Json, *, won: bool) -> None:
        money_back.close_dispute(self.sandbox, self.account, opened, won=won)

    def _charge(self) -> Json:
        return money_back.charge_of(self.account, self.session["payment_intent"])


def open_sale(
    params: Json, *, account_id: str, email: str, client_id: str, endpoint: Endpoint
) -> Sale:
    """Open a session on the account (blank: the platform's own) that nobody else knows of.

    `params` are those of the API, with prices inline.
    """
    config = Config(url="http://localhost", key="", client_id=client_id)
    world = World(config.platform_account)
    account = world.open_account(account_id) if account_id else world.platform
    items = [_line_item(item) for item in params["line_items"]]
    session = account.add(
        checkout.session(params, items=items, url_base=config.url, display_name=account.name)
    )
    account.drafts[session["id"]] = {
        "line_items": items,
        "payment_intent_data": params["payment_intent_data"],
    }
    delivery = Delivery(config, [endpoint], Disturbance(hold=True))
    return Sale(StandIn(config, world, delivery), account, session, email)


def _line_item(item: Json) -> Json:
    data = item["price_data"]
    return checkout.line_item(
        price=catalog.price(data, product_id=new_id("prod_", 14), active=False),
        quantity=item["quantity"],
        description=data["product_data"]["name"],
        metadata={},
    )


def _refund_half(sale: Sale) -> None:
    sale.pay()
    sale.refund(max(1, sale.session["amount_total"] // 2))


def _refund(sale: Sale) -> None:
    sale.pay()
    sale.refund()


def _refund_that_fails(sale: Sale) -> None:
    sale.pay()
    sale.fail_refund(sale.refund())


def _debit(*, is_good: bool) -> Callable[[Sale], None]:
    def tell(sale: Sale) -> None:
        sale.pay("bank_ok" if is_good else "bank_fail")
        sale.settle_debit(is_good=is_good)

    return tell


def _dispute(sale: Sale) -> None:
    sale.pay()
    sale.dispute()


def _closed_dispute(*, won: bool) -> Callable[[Sale], None]:
    def tell(sale: Sale) -> None:
        sale.pay()
        sale.close_dispute(sale.dispute(), won=won)

    return tell


STORIES: dict[str, Callable[[Sale], None]] = {
    "checkout": Sale.pay,
    "bank-debit": lambda sale: sale.pay("bank_ok"),
    "bank-debit-ok": _debit(is_good=True),
    "bank-debit-fail": _debit(is_good=False),
    "refund": _refund,
    "partial-refund": _refund_half,
    "refund-failed": _refund_that_fails,
    "dispute": _dispute,
    "dispute-won": _closed_dispute(won=True),
    "dispute-lost": _closed_dispute(won=False),
}


def in_live_mode(event: Json) -> Json:
    """The event as if its money were real."""
    obj = {**event["data"]["object"], "livemode": True}
    return {**event, "livemode": True, "data": {**event["data"], "object": obj}}


def shuffled(events: list[Json]) -> list[Json]:
    """The events in random order, every second one twice."""
    deck = [*events, *RANDOM.sample(events, len(events) // 2)]
    RANDOM.shuffle(deck)
    return deck


def deliver(event: Json, endpoint: Endpoint) -> int:
    """Post the event as Stripe does, signed at this moment; returns the answer's status.

    Raises `OSError` or `HTTPException` where no answer comes. A redirect is not followed.
    """
    body, headers = signed(event, endpoint.secret)
    address = urlsplit(endpoint.url)
    client = HTTPSConnection if address.scheme == "https" else HTTPConnection
    target = address._replace(scheme="", netloc="").geturl() or "/"
    with closing(client(address.netloc, timeout=ANSWER_TIMEOUT)) as connection:
        connection.request("POST", target, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
