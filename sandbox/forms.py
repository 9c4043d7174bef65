"""Form bodies with brackets, as Stripe's clients send them, turned into nested values."""

import re
from collections.abc import Iterable
from typing import Any

from sandbox.errors import ApiError

KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
MAX_DEPTH = 10


def nest(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """`a[b][0]=1` becomes `{"a": {"b": {"0": "1"}}}`; `a[]=1` takes the next number.

    Arrays stay numbered: only a parameter's type tells them from a hash with such keys.
    """
    tree: dict[str, Any] = {}
    for key, value in pairs:
        path = _path(key)
        if len(path) > MAX_DEPTH:
            raise ApiError("Invalid request: the parameters are nested too deep.")
        _put(tree, path, value, key)
    return tree


def _path(key: str) -> list[str]:
    match = KEY.fullmatch(key)
    if match is None:
        return [key]
    return [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]


def _put(tree: dict[str, Any], path: list[str], value: str, key: str) -> None:
    head, *rest = path
    if not rest:
        tree[head or str(len(tree))] = value
        return
    branch = tree.setdefault(head or _open_item(tree, rest), {})
    if not isinstance(branch, dict):
        raise ApiError(f"Invalid request: {key} is both a value and a hash.", param=key)
    _put(branch, rest, value, key)


def _open_item(tree: dict[str, Any], path: list[str]) -> str:
    """The item that `a[][b][c]` speaks of: the last one, or the next if that has a `[b][c]`."""
    last = str(len(tree) - 1)
    node: Any = tree.get(last, "")
    for name in path:
        if not isinstance(node, dict):
            break
        if name not in node:
            return last
        node = node[name]
    return str(len(tree))
