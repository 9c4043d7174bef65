"""The fields of a control, read from JSON or from a form."""

from typing import Any

from aiohttp import web

from sandbox.errors import ApiError
from sandbox.objects import Json


async def read(request: web.Request, *, is_form: bool) -> Json:
    """The fields as given; an empty one of a form counts as left out."""
    if is_form:
        return {name: value for name, value in (await request.post()).items() if value != ""}
    try:
        data: Any = await request.json()
    except ValueError:
        raise ApiError("The body is not JSON.") from None
    if not isinstance(data, dict):
        raise ApiError("The body is not an object.")
    return data


def flag(given: Json, name: str, *, default: bool) -> bool:
    """True or false, from JSON or from a form."""
    value = given.get(name, default)
    if value in (True, "true", "on"):
        return True
    if value in (False, "false"):
        return False
    raise ApiError(f"{name} is true or false", param=name)


def number(given: Json, name: str) -> int | None:
    """A whole number, or None if it is left out."""
    value = given.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    raise ApiError(f"{name} is a whole number", param=name)


def seconds(given: Json, name: str, *, default: float = 0) -> float:
    """A time span of at most an hour."""
    try:
        value = float(given.get(name, default))
    except (TypeError, ValueError):
        value = -1
    if not 0 <= value <= 3600:
        raise ApiError(f"{name} is a number of seconds up to an hour", param=name)
    return value
