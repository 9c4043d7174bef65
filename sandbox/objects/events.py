"""Events: the envelope around a copy of an object."""

import copy

from sandbox.ids import new_id, now
from sandbox.objects import API_VERSION, Json


def event(
    kind: str,
    obj: Json,
    *,
    account_id: str | None,
    context: str | None = None,
    previous: Json | None = None,
    request: Json | None = None,
    pending_webhooks: int = 0,
) -> Json:
    """What happened to an object, kept as the object is now.

    `account_id` is the connected account, or None for the platform's own events.
    """
    data = {"object": copy.deepcopy(obj)}
    if previous is not None:
        data["previous_attributes"] = copy.deepcopy(previous)
    origin = {} if account_id is None else {"account": account_id, "context": context or account_id}
    return {
        "id": new_id("evt_1"),
        "object": "event",
        **origin,
        "api_version": API_VERSION,
        "created": now(),
        "data": data,
        "livemode": False,
        "pending_webhooks": pending_webhooks,
        "request": request or {"id": None, "idempotency_key": None},
        "type": kind,
    }
