"""Idempotency keys, per account: one effect for each, and the first answer for every repeat."""

import copy
from dataclasses import dataclass
from types import TracebackType

from sandbox.errors import ApiError
from sandbox.objects import Json
from sandbox.state import Account

MAX_KEY = 255


@dataclass
class Claim:
    """The right to do a keyed call. Within `with`, others with the key are told to wait."""

    account: Account
    key: str
    fingerprint: Json
    answer: Json | None = None

    def __enter__(self) -> None:
        self.account.replays[self.key] = {**self.fingerprint, "answer": None}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            del self.account.replays[self.key]
        else:
            self.account.replays[self.key]["answer"] = copy.deepcopy(self.answer)


def claim(account: Account, key: str, *, path: str, params: Json) -> Claim:
    """A claim without an answer for the first call; with it for a repeat; else an `ApiError`."""
    if len(key) > MAX_KEY:
        raise ApiError(f"Idempotency keys have no more than {MAX_KEY} characters.")
    fingerprint = {"path": path, "params": params}
    known = account.replays.get(key)
    if known is None:
        return Claim(account, key, fingerprint)
    if (known["path"], known["params"]) != (path, params):
        raise ApiError(
            "Keys for idempotent requests can only be used with the same parameters they were "
            f"first used with. Try a key other than '{key}' for another request.",
            kind="idempotency_error",
        )
    if known["answer"] is None:
        raise ApiError(
            f"There is currently another in-progress request using the key '{key}'.",
            code="idempotency_key_in_use",
            kind="idempotency_error",
            status=409,
        )
    return Claim(account, key, fingerprint, known["answer"])
