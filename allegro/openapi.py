"""The description of the API (OpenAPI 3.0), written from the views themselves.

A view's docstring is what the reader sees, its `raises` what else it may answer.
"""

import functools
import re
from collections import defaultdict
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from drf_spectacular.authentication import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from rest_framework import exceptions

from tenants.authentication import CredentialMissing
from tenants.tokens import InvalidMemberToken

# The docstring of a view begins with the call that it answers.
ADDRESS = re.compile(r"^`[A-Z]+ [^`]+`: ")
PREFIXES = {"secretKey": "sk_…", "publishableKey": "pk_…", "memberToken": "JWT"}
TAGS = {"secretKey": "Your server", "publishableKey": "Your site", "memberToken": "Your members"}
BODY_ERRORS = (
    exceptions.ValidationError,
    exceptions.ParseError,
    exceptions.UnsupportedMediaType,
)
ERROR_SCHEMA = {
    "type": "object",
    "required": ["error", "meta"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "type", "message", "details"],
            "properties": {
                "code": {"type": "integer", "description": "The HTTP status."},
                "type": {"type": "string", "description": "Stable; for programs to act on."},
                "message": {"type": "string", "description": "For people to read."},
                "details": {
                    "type": "object",
                    "description": "With `invalid_request`: what is wrong, by field.",
                },
            },
        },
        "meta": {
            "type": "object",
            "required": ["request_id", "timestamp"],
            "properties": {
                "request_id": {"type": "string"},
                "timestamp": {"type": "string", "format": "date-time"},
            },
        },
    },
}

ERROR = ResolvedComponent("Error", ResolvedComponent.SCHEMA, ERROR_SCHEMA, "Error")


class BearerScheme(OpenApiAuthenticationExtension):
    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": PREFIXES[self.name]}


class SecretKey(BearerScheme):
    target_class = "tenants.authentication.SecretKeyAuthentication"
    name = "secretKey"


class PublishableKey(BearerScheme):
    target_class = "tenants.authentication.PublishableKeyAuthentication"
    name = "publishableKey"


class MemberToken(BearerScheme):
    target_class = "tenants.authentication.MemberAuthentication"
    name = "memberToken"


class ApiSchema(AutoSchema):
    def get_operation(self, *args: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*args)
        if operation:
            self.registry.register_on_missing(ERROR)
            operation["responses"] |= self._error_responses(operation)
        return operation

    def get_tags(self) -> list[str]:
        schemes = [name for auth in self.get_auth() for name in auth]
        return [TAGS[schemes[0] if schemes else "memberToken"]]

    def get_summary(self) -> str:
        return self._text().partition("\n")[0].rstrip(".")

    def get_description(self) -> str:
        _, _, more = self._text().partition("\n")
        return more.strip() or self.get_summary() + "."

    def _text(self) -> str:
        text = ADDRESS.sub("", super().get_description())
        return text[:1].upper() + text[1:]

    def _error_responses(self, operation: dict[str, Any]) -> dict[str, Any]:
        """What can go wrong, by status: in any call, in one of this shape, and in this one."""
        errors = [*self._usual_errors(operation), *getattr(self.view, "raises", ())]
        by_status = defaultdict(list)
        for error in errors:
            by_status[str(error.status_code)].append(error)
        return {status: _response(kinds) for status, kinds in sorted(by_status.items())}

    def _usual_errors(self, operation: dict[str, Any]) -> list[type[exceptions.APIException]]:
        parameters = {
            parameter["in"]
            for parameter in operation.get("parameters", ())
            # Of these every value is taken for some page.
            if parameter["name"] not in ("page", "per_page")
        }
        errors: list[type[exceptions.APIException]] = []
        if "requestBody" in operation:
            errors += BODY_ERRORS
        elif "query" in parameters:
            errors.append(exceptions.ValidationError)
        if operation.get("security"):
            errors += [CredentialMissing, exceptions.AuthenticationFailed]
        if any("memberToken" in scheme for scheme in operation.get("security", ())):
            errors.append(InvalidMemberToken)
        if "path" in parameters or self._is_list_view():
            errors.append(exceptions.NotFound)
        if getattr(self.view, "throttle_scope", None):
            errors.append(exceptions.Throttled)
        return [*errors, exceptions.NotAcceptable, exceptions.APIException]


def _response(errors: list[type[exceptions.APIException]]) -> dict[str, Any]:
    texts = {_type_of(error): str(error.default_detail) for error in errors}
    kinds = {"type": "object", "properties": {"type": {"enum": sorted(texts)}}}
    narrowed = {"type": "object", "properties": {"error": kinds}}
    schema = {"allOf": [ERROR.ref, narrowed]}
    response: dict[str, Any] = {
        "description": "\n".join(f"- `{kind}`: {text}" for kind, text in sorted(texts.items())),
        "content": {"application/json": {"schema": schema}},
    }
    if "throttled" in texts:
        seconds = {"description": "In seconds.", "schema": {"type": "integer"}}
        response["headers"] = {"Retry-After": seconds}
    return response


def _type_of(error: type[exceptions.APIException]) -> str:
    is_invalid = issubclass(error, exceptions.ValidationError)
    return "invalid_request" if is_invalid else str(error.default_code)


@functools.cache
def document() -> dict[str, Any]:
    """The whole description; it changes only with the code."""
    described: dict[str, Any] = SchemaGenerator().get_schema(public=True)
    return described


@require_safe
@cache_control(public=True, max_age=300)
def schema(request: HttpRequest) -> JsonResponse:
    return JsonResponse(document())


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """The description as a page to read and try; all of it from our own address."""
    return render(request, "allegro/api_docs.html")
