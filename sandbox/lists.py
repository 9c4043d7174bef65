"""Lists as Stripe pages them, newest first, and the expansion of ids into objects."""

import copy
from collections.abc import Iterable
from typing import Any

from sandbox.errors import ApiError, no_such
from sandbox.objects import Json
from sandbox.state import Account

DEFAULT_LIMIT = 10
MAX_LIMIT = 100
MAX_EXPANSION_DEPTH = 4
# The field of an object and the kind of object its id stands for.
EXPANDABLE = {"payment_intent": "payment_intent", "latest_charge": "charge", "charge": "charge"}


def page(items: Iterable[Json], params: Json, *, url: str) -> Json:
    """The part of `items`, given in the order they are listed in, that the parameters ask for."""
    limit = params.get("limit", DEFAULT_LIMIT)
    if not 1 <= limit <= MAX_LIMIT:
        raise ApiError(f"limit must be between 1 and {MAX_LIMIT}", param="limit")
    wanted = [item for item in items if _in_time(item, params.get("created"))]
    if "ending_before" in params:
        before = wanted[: _position(wanted, params["ending_before"], "ending_before")]
        data, has_more = before[-limit:], len(before) > limit
    else:
        start = 0
        if "starting_after" in params:
            start = _position(wanted, params["starting_after"], "starting_after") + 1
        data, has_more = wanted[start : start + limit], len(wanted) > start + limit
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def newest_first(account: Account, name: str, **where: Any) -> list[Json]:
    """The objects of a kind whose fields have the values given; None asks for nothing."""
    conditions = {field: value for field, value in where.items() if value is not None}
    return [
        obj
        for obj in reversed(account.table(name).values())
        if all(obj.get(field) == value for field, value in conditions.items())
    ]


def expand(account: Account, obj: Json, paths: Iterable[str]) -> Json:
    """A copy of the object in which the ids at these paths are the objects themselves."""
    expanded = copy.deepcopy(obj)
    for path in paths:
        steps = path.split(".")
        if len(steps) > MAX_EXPANSION_DEPTH:
            raise ApiError(f"Expansion goes at most {MAX_EXPANSION_DEPTH} levels deep.")
        _expand(account, expanded, steps, path)
    return expanded


def line_items(account: Account, session_id: str, params: Json) -> Json:
    """A page of the line items of a session, in the order they were given."""
    items = account.drafts[session_id]["line_items"]
    return page(items, params, url=f"/v1/checkout/sessions/{session_id}/line_items")


def _expand(account: Account, obj: Any, steps: list[str], path: str) -> None:
    if isinstance(obj, list):
        for item in obj:
            _expand(account, item, steps, path)
        return
    step, *rest = steps
    if obj.get("object") == "checkout.session" and step == "line_items":
        obj[step] = line_items(account, obj["id"], {})
    if step not in obj:
        raise ApiError(f"This property cannot be expanded ({path}).", param="expand")
    if isinstance(obj[step], str):
        obj[step] = _fetched(account, step, obj[step], path)
    if rest and obj[step] is not None:
        _expand(account, obj[step], rest, path)


def _fetched(account: Account, field: str, object_id: str, path: str) -> Json:
    if field not in EXPANDABLE:
        raise ApiError(f"This property cannot be expanded ({path}).", param="expand")
    return copy.deepcopy(account.get(EXPANDABLE[field], object_id))


def _position(items: list[Json], object_id: str, param: str) -> int:
    for position, item in enumerate(items):
        if item["id"] == object_id:
            return position
    raise no_such("object", object_id, param=param)


def _in_time(item: Json, created: Any) -> bool:
    if created is None:
        return True
    at = item["created"]
    if isinstance(created, int):
        return bool(at == created)
    tests = {"gt": at.__gt__, "gte": at.__ge__, "lt": at.__lt__, "lte": at.__le__}
    return all(tests[name](value) for name, value in created.items())
