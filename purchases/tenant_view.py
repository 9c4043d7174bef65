"""What all calls of a tenant's server have in common."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from tenants.authentication import SecretKeyAuthentication
from tenants.models import Tenant
from tenants.throttling import ClientThrottle


class TenantView(APIView):
    """A call of a tenant's server; everything in it is the tenant's own."""

    authentication_classes = [SecretKeyAuthentication]
    throttle_scope = "server"

    throttle: ClientThrottle | None = None

    @property
    def tenant(self) -> Tenant:
        tenant = self.request.auth
        assert isinstance(tenant, Tenant)
        return tenant

    def asked(
        self, kind: type[serializers.Serializer[None]], data: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """What the query (or the body, if given) asks, checked; 404 for what isn't the tenant's."""
        # As a plain dict: in a form, a truth value that is absent counts as false.
        query = self.request.query_params.dict() if data is None else data
        asked = kind(data=query, context={"tenant": self.tenant})
        asked.is_valid(raise_exception=True)
        checked: dict[str, Any] = asked.validated_data
        return checked

    def get_throttles(self) -> list[BaseThrottle]:
        self.throttle = ClientThrottle()
        return [self.throttle]

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        """Say in each answer how many calls are left; also in the one that says none are."""
        response = super().finalize_response(request, response, *args, **kwargs)
        # None where the caller was turned away for its key: whose calls would be counted?
        for name, value in self.throttle.headers() if self.throttle else ():
            response[name] = value
        return response
