"""/v1/payment_intents, /v1/charges and /v1/refunds."""

from stripe.params import (
    ChargeListParams,
    ChargeRetrieveParams,
    PaymentIntentListParams,
    PaymentIntentRetrieveParams,
    RefundCreateParams,
    RefundListParams,
    RefundRetrieveParams,
)

from sandbox import money_back
from sandbox.errors import ApiError, missing
from sandbox.lists import expand, newest_first, page
from sandbox.objects import Json
from sandbox.requests import Call, Endpoint, api

UNSUPPORTED_REFUNDS = ("currency", "customer", "instructions_email", "origin", "reverse_transfer")


def retriever(name: str) -> Endpoint:
    """The call that returns one object of a kind."""

    async def retrieve(call: Call) -> Json:
        obj = call.account.get(name, call.path["id"], param=name)
        return expand(call.account, obj, call.params.get("expand", []))

    return retrieve


def lister(name: str, url: str, *filters: str) -> Endpoint:
    """The call that lists the objects of a kind; `filters` are fields to compare."""

    async def list_objects(call: Call) -> Json:
        where = {field: call.params.get(field) for field in filters}
        found = page(newest_first(call.account, name, **where), call.params, url=url)
        return expand(call.account, found, call.params.get("expand", []))

    return list_objects


async def create_refund(call: Call) -> Json:
    """Refund a charge, or the charge of a PaymentIntent, wholly or in part."""
    params = call.params
    for name in UNSUPPORTED_REFUNDS:
        if name in params:
            raise ApiError(f"The sandbox does not know {name} for refunds.", param=name)
    made = money_back.refund(
        call.stand_in,
        call.account,
        _charge(call),
        amount=params.get("amount"),
        reason=params.get("reason"),
        metadata=params.get("metadata") or {},
        request=call.origin,
    )
    return expand(call.account, made, params.get("expand", []))


def _charge(call: Call) -> Json:
    if "charge" in call.params:
        return call.account.get("charge", call.params["charge"], param="charge")
    if "payment_intent" in call.params:
        return money_back.charge_of(call.account, call.params["payment_intent"])
    raise missing("payment_intent")


INTENTS, CHARGES, REFUNDS = "/v1/payment_intents", "/v1/charges", "/v1/refunds"

routes = [
    api("GET", INTENTS, lister("payment_intent", INTENTS, "customer"), PaymentIntentListParams),
    api("GET", INTENTS + "/{id}", retriever("payment_intent"), PaymentIntentRetrieveParams),
    api("GET", CHARGES, lister("charge", CHARGES, "payment_intent", "customer"), ChargeListParams),
    api("GET", CHARGES + "/{id}", retriever("charge"), ChargeRetrieveParams),
    api("POST", REFUNDS, create_refund, RefundCreateParams),
    api("GET", REFUNDS, lister("refund", REFUNDS, "payment_intent", "charge"), RefundListParams),
    api("GET", REFUNDS + "/{id}", retriever("refund"), RefundRetrieveParams),
]
