"""Why the API of a tenant's server refuses: status, type and public text."""

from typing import Any

from rest_framework import status
from rest_framework.exceptions import APIException


class InsufficientCredits(APIException):
    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "insufficient_credits"

    def __init__(self, *, balance: int, required: int) -> None:
        super().__init__(f"{required} credits are needed and {balance} are there.")
        self.details: dict[str, Any] = {"balance": balance, "required": required}


class IdempotencyConflict(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "idempotency_conflict"
    default_detail = "This Idempotency-Key was used for another spending. Use a new one."


class TooManyEndpoints(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "too_many_endpoints"
    default_detail = "There are ten notification endpoints already. Delete one first."


class GrantedByPurchase(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "granted_by_purchase"
    default_detail = "This access was bought. Refund the purchase in Stripe to take it back."


class InvalidCursor(APIException):
    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "invalid_cursor"
    default_detail = "`after` is no event of yours. Send `next` of the last answer, or 0 to begin."
