"""/v1/events: the events of one account, newest first."""

from fnmatch import fnmatchcase
from typing import NotRequired, TypedDict

from stripe.params import EventListParams, EventRetrieveParams

from sandbox.lists import newest_first, page
from sandbox.objects import Json
from sandbox.requests import Call, api

EVENTS = "/v1/events"


class RetryParams(TypedDict):
    """What `stripe events resend` sends; Stripe does not document the call."""

    account: NotRequired[str]
    for_stripecli: NotRequired[bool]


async def list_events(call: Call) -> Json:
    """Filtered by `type`, which may end in `*`, by `types`, and by `delivery_success`.

    Without `account`, which only deliveries have: who asks for an account knows which.
    """
    wanted = call.params.get("types") or [call.params.get("type", "*")]
    delivered = call.params.get("delivery_success")
    found = [
        {field: value for field, value in event.items() if field != "account"}
        for event in newest_first(call.account, "event")
        if any(fnmatchcase(event["type"], kind) for kind in wanted)
        and delivered in (None, event["pending_webhooks"] == 0)
    ]
    return page(found, call.params, url=EVENTS)


async def retrieve(call: Call) -> Json:
    """One event of this account."""
    return call.account.get("event", call.path["id"])


async def retry(call: Call) -> Json:
    """Deliver an event once more: to the CLI alone, or to everybody."""
    world = call.stand_in.world
    account = world.accounts.get(call.params.get("account", ""), call.account)
    event = account.get("event", call.path["id"])
    if call.params.get("for_stripecli"):
        call.stand_in.delivery.tell_listeners(event)
    else:
        call.stand_in.delivery.redeliver(event)
    return event


routes = [
    api("GET", EVENTS, list_events, EventListParams),
    api("GET", EVENTS + "/{id}", retrieve, EventRetrieveParams),
    api("POST", EVENTS + "/{id}/retry", retry, RetryParams),
]
