"""/v1/events: the events of one account, newest first."""

from fnmatch import fnmatchcase

from stripe.params import EventListParams, EventRetrieveParams

from sandbox.lists import newest_first, page
from sandbox.objects import Json
from sandbox.requests import Call, api

EVENTS = "/v1/events"


async def list_events(call: Call) -> Json:
    """Filtered by `type`, which may end in `*`, by `types`, and by `delivery_success`."""
    wanted = call.params.get("types") or [call.params.get("type", "*")]
    delivered = call.params.get("delivery_success")
    found = [
        event
        for event in newest_first(call.account, "event")
        if any(fnmatchcase(event["type"], kind) for kind in wanted)
        and delivered in (None, event["pending_webhooks"] == 0)
    ]
    return page(found, call.params, url=EVENTS)


async def retrieve(call: Call) -> Json:
    """One event of this account."""
    return call.account.get("event", call.path["id"])


routes = [
    api("GET", EVENTS, list_events, EventListParams),
    api("GET", EVENTS + "/{id}", retrieve, EventRetrieveParams),
]
