"""/v1/products and /v1/prices: what `stripe trigger` sells."""

from stripe.params import (
    PriceCreateParams,
    PriceRetrieveParams,
    ProductCreateParams,
    ProductRetrieveParams,
)

from sandbox.api_payments import retriever
from sandbox.errors import ApiError, missing
from sandbox.objects import Json, catalog
from sandbox.requests import Call, api

UNSUPPORTED_PRICES = ("currency_options", "custom_unit_amount", "recurring", "tiers")
PRODUCTS, PRICES = "/v1/products", "/v1/prices"


async def create_product(call: Call) -> Json:
    """Keep a product."""
    return _created(call, catalog.product(call.params))


async def create_price(call: Call) -> Json:
    """Give a product, which may be made along the way, a price to be paid once."""
    params = call.params
    for name in UNSUPPORTED_PRICES:
        if name in params:
            raise ApiError(f"The sandbox does not know {name} for prices.", param=name)
    if "unit_amount" not in params:
        raise missing("unit_amount")
    return _created(call, catalog.price(params, product_id=_product_id(call)))


def _product_id(call: Call) -> str:
    if "product" in call.params:
        product = call.account.get("product", call.params["product"], param="product")
    elif "product_data" in call.params:
        product = _created(call, catalog.product(call.params["product_data"]))
    else:
        raise missing("product")
    return str(product["id"])


def _created(call: Call, obj: Json) -> Json:
    call.account.add(obj)
    call.stand_in.emit(call.account, f"{obj['object']}.created", obj, request=call.origin)
    return obj


routes = [
    api("POST", PRODUCTS, create_product, ProductCreateParams),
    api("GET", PRODUCTS + "/{id}", retriever("product"), ProductRetrieveParams),
    api("POST", PRICES, create_price, PriceCreateParams),
    api("GET", PRICES + "/{id}", retriever("price"), PriceRetrieveParams),
]
