"""/v1/account and /v1/accounts/{id}: the caller's own account and the connected ones."""

from stripe.params import AccountRetrieveCurrentParams, AccountRetrieveParams

from sandbox.errors import no_access
from sandbox.objects import Json
from sandbox.requests import Call, api


async def retrieve_current(call: Call) -> Json:
    """The account that the call is made for."""
    return call.account.details


async def retrieve(call: Call) -> Json:
    """An account that the platform may see: itself, or one that is connected."""
    account_id = call.path["id"]
    account = call.stand_in.world.accounts.get(account_id)
    is_hidden = call.account.id not in (account_id, call.stand_in.world.platform_id)
    if account is None or not account.is_connected or is_hidden:
        raise no_access(call.stand_in.config.key, account_id)
    return account.details


routes = [
    api("GET", "/v1/account", retrieve_current, AccountRetrieveCurrentParams),
    api("GET", "/v1/accounts/{id}", retrieve, AccountRetrieveParams),
]
