"""The parameters that a call takes, read from stripe-python's own declarations."""

import functools
import sys
import types
from typing import (
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from stripe import RequestOptions

from sandbox.errors import ApiError, missing
from sandbox.objects import Json

MAX_METADATA_KEYS = 50
MAX_METADATA_KEY = 40
MAX_METADATA_VALUE = 500


def read(declaration: type, values: Json, *, at: str = "") -> Json:
    """The values with their declared types; any other is an `ApiError`."""
    known = _fields(declaration)
    unknown = [_join(at, name) for name in values if name not in known]
    if unknown:
        raise ApiError(
            f"Received unknown parameter{'s' if unknown[1:] else ''}: {', '.join(unknown)}",
            code="parameter_unknown",
            param=unknown[0],
        )
    for name, kind in known.items():
        if get_origin(kind) is not NotRequired and name not in values:
            raise missing(_join(at, name))
    return {name: _value(known[name], value, _join(at, name)) for name, value in values.items()}


@functools.cache
def _fields(declaration: type) -> dict[str, Any]:
    """The names and types of a `TypedDict`, without the options of a request."""
    own = {
        name: kind
        for name, kind in declaration.__annotations__.items()
        if name not in RequestOptions.__annotations__
    }
    holder = types.SimpleNamespace(__annotations__=own)
    namespace = vars(sys.modules[declaration.__module__])
    return get_type_hints(holder, namespace, include_extras=True)


def _value(kind: Any, value: Any, at: str) -> Any:
    origin = get_origin(kind)
    if origin is NotRequired:
        return _value(get_args(kind)[0], value, at)
    if origin in (Union, types.UnionType):
        return _one_of(get_args(kind), value, at)
    if origin is Literal:
        return _choice(get_args(kind), value, at)
    if origin is list:
        return _list(get_args(kind)[0], value, at)
    if origin is dict:
        return metadata(value, at)
    if hasattr(kind, "__required_keys__"):
        if not isinstance(value, dict):
            raise ApiError("Invalid object", code="parameter_invalid", param=at)
        return read(kind, value, at=at)
    return _scalar(kind, value, at)


def _one_of(kinds: tuple[Any, ...], value: Any, at: str) -> Any:
    """A nested value takes the kind that nests; `Literal[...] | str` keeps to its choices."""
    if value == "" and any(get_args(kind) == ("",) for kind in kinds):
        return ""
    kinds = tuple(kind for kind in kinds if get_args(kind) != ("",))
    if isinstance(value, dict):
        nested = [kind for kind in kinds if kind not in (str, int, bool)]
        return _value(nested[0] if nested else str, value, at)
    choices = [kind for kind in kinds if get_origin(kind) is Literal]
    plain = [kind for kind in kinds if kind in (str, int, bool)]
    return _value((choices or plain or list(kinds))[0], value, at)


def _choice(choices: tuple[str, ...], value: Any, at: str) -> str:
    if value in choices:
        return str(value)
    raise ApiError(f"Invalid {at}: must be one of {', '.join(choices)}", param=at)


def _list(kind: Any, value: Any, at: str) -> list[Any]:
    if not isinstance(value, dict) or not all(name.isdecimal() for name in value):
        raise ApiError("Invalid array", code="parameter_invalid", param=at)
    return [_value(kind, value[name], _join(at, name)) for name in sorted(value, key=int)]


def _scalar(kind: Any, value: Any, at: str) -> Any:
    if not isinstance(value, str):
        raise ApiError(f"Invalid string: {at} is a hash or an array.", param=at)
    if kind is int:
        return _integer(value, at)
    if kind is bool:
        if value not in ("true", "false"):
            raise ApiError(f"Invalid boolean: {value}", param=at)
        return value == "true"
    if value == "":
        raise ApiError(
            f"You passed an empty string for '{at}'. We assume empty values are an attempt to "
            "unset a parameter; however this one cannot be unset.",
            code="parameter_invalid_empty",
            param=at,
        )
    return value


def _integer(value: str, at: str) -> int:
    digits = value.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= 18:
        return int(value)
    raise ApiError(f"Invalid integer: {value}", code="parameter_invalid_integer", param=at)


def metadata(value: Any, at: str = "metadata") -> dict[str, str]:
    """Stripe's limits: 50 keys, 40 characters in a key, 500 in a value."""
    if not isinstance(value, dict):
        raise ApiError("Invalid object", param=at)
    if len(value) > MAX_METADATA_KEYS:
        raise ApiError(f"Metadata can have at most {MAX_METADATA_KEYS} keys.", param=at)
    for name, text in value.items():
        if len(name) > MAX_METADATA_KEY:
            limit = f"no more than {MAX_METADATA_KEY} characters"
            raise ApiError(f"Metadata keys have {limit}: {name}", param=at)
        if not isinstance(text, str) or len(text) > MAX_METADATA_VALUE:
            limit = f"strings of no more than {MAX_METADATA_VALUE} characters"
            raise ApiError(f"Metadata values are {limit}.", param=f"{at}[{name}]")
    return {name: text for name, text in value.items() if text}


def _join(at: str, name: str) -> str:
    return f"{at}[{name}]" if at else name
