"""/v1/checkout/sessions: create, retrieve, list, line_items, expire."""

import re
from urllib.parse import urlsplit

from stripe.params.checkout import (
    SessionCreateParams,
    SessionExpireParams,
    SessionListLineItemsParams,
    SessionListParams,
    SessionRetrieveParams,
)

from sandbox import buying
from sandbox.errors import ApiError, missing
from sandbox.ids import new_id, now
from sandbox.lists import expand, line_items, newest_first, page
from sandbox.objects import Json, catalog, checkout
from sandbox.requests import Call, api
from sandbox.state import Account

SESSIONS = "/v1/checkout/sessions"
MIN_LIFETIME = 30 * 60
MAX_REFERENCE = 200
MAX_URL = 5000
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
CURRENCY = re.compile(r"[a-z]{3}")


async def create(call: Call) -> Json:
    """Open a session in mode `payment` on Stripe's hosted page."""
    params = call.params
    _check(params)
    items = [
        _line_item(call.account, item, f"line_items[{index}]")
        for index, item in enumerate(params["line_items"])
    ]
    _check_money(call, items)
    session = checkout.session(
        params,
        items=items,
        url_base=call.stand_in.config.url,
        display_name=call.account.name,
    )
    call.account.add(session)
    call.account.drafts[session["id"]] = {
        "line_items": items,
        "payment_intent_data": params.get("payment_intent_data", {}),
    }
    expires_at = session["expires_at"]
    call.stand_in.plan("expire", call.account, session["id"], at=expires_at, good=True)
    call.stand_in.world.touch()
    return expand(call.account, session, params.get("expand", []))


async def retrieve(call: Call) -> Json:
    """One session of this account."""
    session = call.account.get("checkout.session", call.path["id"], param="session")
    return expand(call.account, session, call.params.get("expand", []))


async def list_sessions(call: Call) -> Json:
    """The sessions of this account, newest first."""
    sessions = newest_first(
        call.account,
        "checkout.session",
        status=call.params.get("status"),
        payment_intent=call.params.get("payment_intent"),
        customer=call.params.get("customer"),
        payment_link=call.params.get("payment_link"),
        subscription=call.params.get("subscription"),
    )
    email = call.params.get("customer_details", {}).get("email")
    if email:
        sessions = [item for item in sessions if (item["customer_details"] or {})["email"] == email]
    found = page(sessions, call.params, url=SESSIONS)
    return expand(call.account, found, call.params.get("expand", []))


async def list_line_items(call: Call) -> Json:
    """What the session sells."""
    session = call.account.get("checkout.session", call.path["id"], param="session")
    return line_items(call.account, session["id"], call.params)


async def expire(call: Call) -> Json:
    """Close an open session."""
    session = call.account.get("checkout.session", call.path["id"], param="session")
    buying.expire(call.stand_in, call.account, session, request=call.origin)
    return expand(call.account, session, call.params.get("expand", []))


routes = [
    api("POST", SESSIONS, create, SessionCreateParams),
    api("GET", SESSIONS, list_sessions, SessionListParams),
    api("GET", SESSIONS + "/{id}", retrieve, SessionRetrieveParams),
    api("GET", SESSIONS + "/{id}/line_items", list_line_items, SessionListLineItemsParams),
    api("POST", SESSIONS + "/{id}/expire", expire, SessionExpireParams),
]


def _check(params: Json) -> None:
    for name, only in (("mode", "payment"), ("ui_mode", "hosted_page")):
        if params.get(name, only) != only:
            raise ApiError(f"The sandbox has only {name}={only}.", param=name)
    for name in ("mode", "line_items", "success_url"):
        if not params.get(name):
            raise missing(name)
    for name in ("success_url", "cancel_url"):
        _check_url(params.get(name), name)
    _check_expiry(params.get("expires_at"))
    _check_amounts(params)
    _check_buyer(params)


def _check_amounts(params: Json) -> None:
    # Accepted in silence, these would make the amounts wrong.
    for name in ("discounts", "shipping_options"):
        if params.get(name):
            raise ApiError(f"The sandbox does not know {name}.", param=name)
    if params.get("automatic_tax", {}).get("enabled"):
        raise ApiError("The sandbox knows no taxes.", param="automatic_tax[enabled]")


def _check_buyer(params: Json) -> None:
    for name in ("customer", "customer_account"):
        if name in params:
            message = f"No such customer: '{params[name]}'"
            raise ApiError(message, code="resource_missing", param=name)
    email = params.get("customer_email")
    if email is not None and not EMAIL.fullmatch(email):
        message = f"Invalid email address: {email}"
        raise ApiError(message, code="email_invalid", param="customer_email")
    if len(params.get("client_reference_id", "")) > MAX_REFERENCE:
        message = f"Invalid string: must be at most {MAX_REFERENCE} characters"
        raise ApiError(message, param="client_reference_id")


def _check_url(url: str | None, name: str) -> None:
    if url is None:
        return
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_good = False
    if not is_good or len(url) > MAX_URL:
        raise ApiError("Not a valid URL", code="url_invalid", param=name)


def _check_expiry(expires_at: int | None) -> None:
    # A minute of grace: the clock moved on since the client computed the time.
    if expires_at is None or MIN_LIFETIME - 60 <= expires_at - now() <= checkout.DAY + 60:
        return
    raise ApiError(
        "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout "
        "Session creation.",
        param="expires_at",
    )


def _line_item(account: Account, item: Json, at: str) -> Json:
    if "quantity" not in item:
        raise missing(f"{at}[quantity]")
    price, description = _price(account, item, at)
    return checkout.line_item(
        price=price,
        quantity=item["quantity"],
        description=description,
        metadata=item.get("metadata", {}),
    )


def _price(account: Account, item: Json, at: str) -> tuple[Json, str | None]:
    """The price of an item, given by id or inline, and what the buyer reads beside it."""
    if "price" in item:
        price = account.get("price", item["price"], param=f"{at}[price]")
        product = account.table("product").get(price["product"], {})
        return price, product.get("name")
    if "price_data" not in item:
        raise missing(f"{at}[price_data]")
    data = item["price_data"]
    if "unit_amount" not in data:
        raise missing(f"{at}[price_data][unit_amount]")
    if "product" not in data and "product_data" not in data:
        raise missing(f"{at}[price_data][product_data]")
    currency = data["currency"].lower()
    if not CURRENCY.fullmatch(currency):
        raise ApiError(f"Invalid currency: {currency}", param=f"{at}[price_data][currency]")
    product_id = data.get("product") or new_id("prod_", 14)
    # Inactive: a price that came with a session is never offered again.
    price = catalog.price(data, product_id=product_id, active=False)
    return price, data.get("product_data", {}).get("name")


def _check_money(call: Call, items: list[Json]) -> None:
    for index, item in enumerate(items):
        if item["price"]["unit_amount"] < 0 or item["quantity"] < 1:
            raise ApiError(
                "Invalid non-negative integer",
                code="parameter_invalid_integer",
                param=f"line_items[{index}]",
            )
    if len({item["currency"] for item in items}) > 1:
        raise ApiError("All line items must have the same currency.", param="line_items")
    if not call.account.details["charges_enabled"]:
        raise ApiError("Your account cannot currently make charges.", code="account_invalid")
    fee = call.params.get("payment_intent_data", {}).get("application_fee_amount")
    if fee is None:
        return
    at = "payment_intent_data[application_fee_amount]"
    if call.stand_in.world.is_platform(call.account):
        raise ApiError("Only a connected account's payment can have an application fee.", param=at)
    if not 0 <= fee <= sum(item["amount_total"] for item in items):
        raise ApiError("The application fee must not exceed the amount.", param=at)
