"""What the pages on the way to Stripe and back have in common: who sees them, how they look."""

import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from tenants import connect_errors
from tenants.connecting import may_connect
from tenants.models import Tenant

View = Callable[..., HttpResponse]
NO_ID = uuid.UUID(int=0)


def for_operators(view: View) -> View:
    """The view for who may connect the named tenant's account, given the tenant itself."""

    @wraps(view)
    def guarded(request: HttpRequest, name: str) -> HttpResponse:
        if not isinstance(request.user, User):
            return to_login(f"{request.path}?after_login")
        tenant = _find(name)
        if not may_connect(request.user, tenant):
            return failure_page(request, connect_errors.NotAllowed())
        if tenant is None:
            raise Http404
        return view(request, tenant)

    return guarded


def leaving_no_trace(view: View) -> View:
    """The view without copies of its address or page: they carry state and code."""

    @wraps(view)
    def sealed(request: HttpRequest, *arguments: Any, **named: Any) -> HttpResponse:
        response = view(request, *arguments, **named)
        response["Referrer-Policy"] = "no-referrer"
        response["Cache-Control"] = "no-store"
        return response

    return sealed


def to_login(after: str) -> HttpResponse:
    return redirect_to_login(after, login_url=reverse("admin:login"))


def failure_page(request: HttpRequest, failure: connect_errors.ConnectFailed) -> HttpResponse:
    return result_page(
        request,
        failure.title,
        [failure.reason, failure.advice],
        tenant=failure.tenant,
        status=failure.status,
        button="Start again",
    )


def result_page(
    request: HttpRequest,
    title: str,
    text: list[str],
    *,
    tenant: Tenant | None,
    status: int = 200,
    button: str = "",
) -> HttpResponse:
    """Say how it stands. The button, if named, leads to Stripe for the tenant."""
    context = {"title": title, "text": text, "tenant": tenant, "button": button}
    return show(request, "tenants/connect.html", context, status=status)


def show(
    request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    """A page in the admin's frame."""
    frame = admin.site.each_context(request)
    return render(request, template, {**frame, **context}, status=status)


def _find(name: str) -> Tenant | None:
    """The tenant with that slug or, if there is none, with that id."""
    try:
        tenant_id = uuid.UUID(name)
    except ValueError:
        tenant_id = NO_ID
    found = Tenant.objects.filter(Q(slug=name) | Q(id=tenant_id))
    return min(found, key=lambda tenant: tenant.slug != name, default=None)
