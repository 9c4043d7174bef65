"""/v1/payment_methods and /v1/payment_pages: how `stripe trigger` pays without a browser.

Stripe does not document payment pages; these have what the CLI sends and reads.
"""

from typing import NotRequired, TypedDict

from stripe.params import PaymentMethodCreateParams, PaymentMethodRetrieveParams

from sandbox import buying
from sandbox.api_payments import retriever
from sandbox.errors import ApiError, missing
from sandbox.objects import Json, catalog
from sandbox.requests import Call, api

METHODS, PAGES = "/v1/payment_methods", "/v1/payment_pages"
# Stripe's test values, by type and name, and what a buyer would choose for the same end.
ENDINGS = {
    ("card", "token"): {"tok_visa": "card", "tok_chargeDeclined": "declined"},
    ("sepa_debit", "iban"): {
        "AT611904300234573201": "bank_ok",
        "AT861904300235473202": "bank_fail",
        "IT60X0542811101000000123456": "bank_fail",
    },
}


class PageParams(TypedDict):
    """What a payment page is read with."""

    expand: NotRequired[list[str]]


class ConfirmParams(PageParams):
    """What a payment page is paid with."""

    payment_method: str
    expected_amount: int


async def create_method(call: Call) -> Json:
    """A card or bank account, given by one of Stripe's test values."""
    ending = _ending(call.params)
    method = call.account.add(catalog.payment_method(call.params))
    call.account.drafts[method["id"]] = {"ending": ending}
    return method


async def retrieve_page(call: Call) -> Json:
    """The page of a session."""
    return _page(call.account.get("checkout.session", call.path["id"], param="payment_page"))


async def confirm(call: Call) -> Json:
    """Pay the session, if it costs what the buyer has seen."""
    params = call.params
    session = call.account.get("checkout.session", call.path["id"], param="payment_page")
    method = call.account.get("payment_method", params["payment_method"], param="payment_method")
    if params["expected_amount"] != session["amount_total"]:
        raise ApiError(
            f"The amount is {session['amount_total']}, not {params['expected_amount']}.",
            code="checkout_amount_mismatch",
            param="expected_amount",
        )
    billing = method["billing_details"]
    buying.pay(
        call.stand_in,
        call.account,
        session,
        method=call.account.drafts[method["id"]]["ending"],
        email=billing["email"],
        name=billing["name"],
    )
    if session["status"] != "complete":
        message = "Your card was declined."
        raise ApiError(message, code="card_declined", status=402, kind="card_error")
    return _page(session)


routes = [
    api("POST", METHODS, create_method, PaymentMethodCreateParams),
    api("GET", METHODS + "/{id}", retriever("payment_method"), PaymentMethodRetrieveParams),
    api("GET", PAGES + "/{id}", retrieve_page, PageParams),
    api("POST", PAGES + "/{id}/confirm", confirm, ConfirmParams),
]


def _ending(params: Json) -> str:
    kind = params.get("type")
    for (known, name), endings in ENDINGS.items():
        if kind == known:
            given = params.get(kind, {}).get(name)
            if given not in endings:
                message = f"The sandbox knows only these: {', '.join(endings)}"
                raise ApiError(message, param=f"{kind}[{name}]")
            return endings[given]
    if kind is None:
        raise missing("type")
    raise ApiError(f"The sandbox knows no payment method of type {kind}.", param="type")


def _page(session: Json) -> Json:
    shown = ("amount_total", "currency", "livemode", "payment_intent", "payment_status", "status")
    return {
        "id": session["id"],
        "object": "payment_page",
        **{name: session[name] for name in shown},
    }
