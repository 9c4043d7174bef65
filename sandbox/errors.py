"""Stripe's refusals, each with the status and the envelope it is sent in."""

from typing import Any


class ApiError(Exception):
    """A request that Stripe refuses; `as_json` is the body of the answer."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        status: int = 400,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        optional = {"code": code, "param": param}
        self._fields = {"message": message, "type": kind}
        self._fields |= {name: value for name, value in optional.items() if value is not None}

    def as_json(self) -> dict[str, Any]:
        """The envelope."""
        return {"error": self._fields}


def no_such(what: str, object_id: str, *, param: str = "id") -> ApiError:
    """The answer for an object that does not exist, or belongs to another account."""
    return ApiError(
        f"No such {what}: '{object_id}'", code="resource_missing", param=param, status=404
    )


def missing(param: str) -> ApiError:
    """A parameter that the call cannot do without."""
    return ApiError(f"Missing required param: {param}.", code="parameter_missing", param=param)


def no_access(key: str, account_id: str) -> ApiError:
    """The account is unknown, or has withdrawn its consent."""
    hidden = f"{key[:8]}***{key[-4:]}"
    return ApiError(
        f"The provided key '{hidden}' does not have access to account '{account_id}' (or that "
        "account does not exist). Application access may have been revoked.",
        code="account_invalid",
        status=403,
    )
