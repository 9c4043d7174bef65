"""The one JSON parser for everything that comes from outside: stricter than JSON (RFC 8259).

Two parsers that read one body differently are how a check is passed by one value and acted on
with another, so webhook, replay and API all read through `parse_object`.
"""

import json
import math
import re
from typing import Any, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_DIGITS = 30

# A string counts as one token, so that brackets inside it are no structure. One that never ends
# runs to the end of the text: trying again at each of its quotes would take quadratic time.
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)|[\[{\]}]', re.DOTALL)


class Unparsable(ValueError):
    """The body is not one JSON object that every reader would read alike."""


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in the body, or raise `Unparsable` saying what is wrong with it."""
    if len(body) > MAX_BYTES:
        raise Unparsable(f"the body is larger than {MAX_BYTES} bytes")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unparsable("the body is not UTF-8") from error
    _check_depth(text)
    try:
        data = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise Unparsable(f"not JSON: {error}") from error
    if not isinstance(data, dict):
        raise Unparsable("the JSON is not an object")
    return data


def _check_depth(text: str) -> None:
    # Before parsing: how deep the parser itself may go depends on the Python release.
    depth = 0
    for token in TOKEN.finditer(text):
        match token[0]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
        if depth > MAX_DEPTH:
            raise Unparsable(f"nested deeper than {MAX_DEPTH} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise Unparsable("a key stands twice in one object")
    return data


def _integer(digits: str) -> int:
    _check_length(digits)
    return int(digits)


def _float(digits: str) -> float:
    _check_length(digits)
    number = float(digits)
    if not math.isfinite(number):
        raise Unparsable("a number is too large")
    return number


def _constant(name: str) -> NoReturn:
    raise Unparsable(f"{name} is no JSON number")


def _check_length(number: str) -> None:
    if sum(map(str.isdigit, number)) > MAX_DIGITS:
        raise Unparsable(f"a number has more than {MAX_DIGITS} digits")


class StrictJSONParser(BaseParser):
    """`parse_object` for the API: what it refuses is a 400 that says why."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        try:
            return parse_object(stream.read(MAX_BYTES + 1))
        except Unparsable as error:
            raise ParseError(f"The body can't be read: {error}.") from error
