"""Why a checkout can't be started or a return confirmed: status, type and public text."""

from rest_framework import status
from rest_framework.exceptions import APIException

# --- starting a checkout


class PlanNotFound(APIException):
    status_code = status.HTTP_404_NOT_FOUND
    default_code = "plan_not_found"
    default_detail = "There is no such plan on sale. Plan ids stand in the admin, under Plans."


class PackageNotFound(APIException):
    status_code = status.HTTP_404_NOT_FOUND
    default_code = "package_not_found"
    default_detail = "There is no such package on sale. GET /api/v1/credit-packages lists them."


class InvalidReturnUrl(APIException):
    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "invalid_return_url"
    default_detail = "The return URL is not on one of the tenant's allowed origins."


class InvalidCheckoutUrl(InvalidReturnUrl):
    default_detail = "Send success_url and cancel_url as whole addresses, with https://."


class MemberRequired(APIException):
    status_code = status.HTTP_401_UNAUTHORIZED
    default_code = "member_required"
    default_detail = "A free plan is for signed-in members. Send the member's token."


class AlreadyClaimed(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "already_claimed"
    default_detail = "The member has this free plan already."


class NotConnected(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "not_connected"
    default_detail = "This seller can't take payments yet: no Stripe account is connected."


class ChargesDisabled(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "charges_disabled"
    default_detail = "This seller can't take payments now: Stripe has paused its account."


class StripeUnavailable(APIException):
    """Stripe could not be asked. Nothing was changed; the same request may be tried again."""

    status_code: int = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "stripe_unavailable"
    default_detail = "The payment could not be checked just now. Try again in a moment."
    wait = 4


class KeyRefused(StripeUnavailable):
    """For operators only."""

    default_detail = "Stripe refuses STRIPE_SECRET_KEY, or the key may not do this."


class CheckoutUnavailable(StripeUnavailable):
    status_code = status.HTTP_502_BAD_GATEWAY
    default_detail = "The checkout could not be opened just now. Try again in a moment."


# --- coming back from it


class InvalidToken(APIException):
    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "invalid_token"
    default_detail = "This purchase can't be confirmed here. Open it in the browser you paid with."


class MemberDisabled(APIException):
    status_code = status.HTTP_403_FORBIDDEN
    default_code = "member_disabled"
    default_detail = "The purchase is recorded, but this member is disabled and can't sign in."


class TokenUsed(APIException):
    status_code = status.HTTP_410_GONE
    default_code = "token_used"
    default_detail = "This purchase has been confirmed already."


class TokenExpired(APIException):
    status_code = status.HTTP_410_GONE
    default_code = "token_expired"
    default_detail = "This link is too old. The purchase itself is not affected."
