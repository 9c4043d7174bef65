"""Why a return-page token can't be exchanged."""

from rest_framework import status
from rest_framework.exceptions import APIException


class InvalidToken(APIException):
    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "invalid_token"
    default_detail = "This purchase can't be confirmed here. Open it in the browser you paid with."


class TokenUsed(APIException):
    status_code = status.HTTP_410_GONE
    default_code = "token_used"
    default_detail = "This purchase has been confirmed already."


class TokenExpired(APIException):
    status_code = status.HTTP_410_GONE
    default_code = "token_expired"
    default_detail = "This link is too old. The purchase itself is not affected."
