"""What every JSON answer of the API has in common: the error envelope and the list envelope."""

from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views import defaults
from rest_framework import exceptions, status
from rest_framework.pagination import PageNumberPagination
from rest_framework.response import Response
from rest_framework.views import set_rollback


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an expected error in the API's envelope; leave the others to Django's 500."""
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if not isinstance(error, exceptions.APIException):
        return None
    set_rollback()
    return Response(envelope(error), status=error.status_code, headers=headers_of(error))


def envelope(error: exceptions.APIException) -> dict[str, Any]:
    kind: Any = error.get_codes()
    message = str(error.detail)
    details: Any = getattr(error, "details", {})
    if isinstance(error, exceptions.ValidationError):
        kind, message, details = "invalid_request", "The request is not valid.", error.detail
    return {
        "error": {
            "code": error.status_code,
            "type": kind,
            "message": message,
            "details": details,
        },
        "meta": {
            "request_id": structlog.contextvars.get_contextvars().get("request_id"),
            "timestamp": timezone.now(),
        },
    }


def headers_of(error: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if error.status_code == status.HTTP_401_UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait) + 1)
    return headers


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """What Django refuses by itself, such as 1,001 parameters or a host that is not ours."""
    if not request.path_info.startswith("/api/"):
        return defaults.bad_request(request, exception)
    return JsonResponse(envelope(exceptions.ParseError()), status=400)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """A wrong address: in the envelope below /api/, else as a page."""
    if not request.path_info.startswith("/api/"):
        return defaults.page_not_found(request, exception)
    no_address = exceptions.NotFound("No call has this address. /api/docs lists those there are.")
    return JsonResponse(envelope(no_address), status=404)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """An error of ours, without a word about it; the log has the rest under the request id."""
    if not request.path_info.startswith("/api/"):
        return defaults.server_error(request)
    return JsonResponse(envelope(exceptions.APIException()), status=500)


class Pagination(PageNumberPagination):
    page_size = 20
    page_size_query_param = "per_page"
    max_page_size = 100

    def get_paginated_response(self, data: Any) -> Response:
        assert self.page is not None
        pages = self.page.paginator
        return Response(
            {
                "data": data,
                "meta": {
                    "pagination": {
                        "current_page": self.page.number,
                        "per_page": pages.per_page,
                        "total": pages.count,
                        "total_pages": pages.num_pages,
                        "has_next": self.page.has_next(),
                        "has_prev": self.page.has_previous(),
                    }
                },
            }
        )

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The list envelope, as OpenAPI describes it."""
        numbers = ("current_page", "per_page", "total", "total_pages")
        pagination = _object(
            **{name: {"type": "integer"} for name in numbers},
            **{name: {"type": "boolean"} for name in ("has_next", "has_prev")},
        )
        return _object(data=schema, meta=_object(pagination=pagination))


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}
