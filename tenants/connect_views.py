"""The operators' way to Stripe and back, to connect a tenant's account, and the way out of it."""

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_GET, require_http_methods

from tenants import connect_errors, connecting
from tenants.connect_pages import (
    failure_page,
    for_operators,
    leaving_no_trace,
    result_page,
    show,
    to_login,
)
from tenants.models import PaymentAccount, Tenant


@require_GET
@leaving_no_trace
@for_operators
def start(request: HttpRequest, tenant: Tenant) -> HttpResponse:
    """Send the operator to Stripe. It changes nothing yet, so a link does."""
    if "after_login" in request.GET:
        # The login form's content policy binds its redirects too, and would stop this one.
        text = [f"You are about to connect a Stripe account to {tenant}."]
        title = "Continue to Stripe"
        return result_page(request, title, text, tenant=tenant, button=title)
    assert isinstance(request.user, User)
    return HttpResponseRedirect(
        connecting.start(tenant, user=request.user, session_key=_session_key(request))
    )


@require_GET
@leaving_no_trace
def callback(request: HttpRequest) -> HttpResponse:
    """Take the operator back from Stripe and say how it ended."""
    if not isinstance(request.user, User):
        # Without the code: who signs in anew has another session, where it is of no use.
        return to_login(request.path)
    try:
        account = _take_back(request, request.user)
    except connect_errors.ConnectFailed as failure:
        return failure_page(request, failure)
    return _connected_page(request, account)


def _take_back(request: HttpRequest, user: User) -> PaymentAccount:
    tenant = connecting.use_state(
        request.GET.get("state", ""), user=user, session_key=_session_key(request)
    )
    if not connecting.may_connect(user, tenant):
        raise connect_errors.NotAllowed
    if request.GET.get("error") == "access_denied":
        raise connect_errors.Denied(tenant)
    code = request.GET.get("code")
    if not code:
        raise connect_errors.CodeRefused(tenant)
    return connecting.connect(tenant, code)


def _connected_page(request: HttpRequest, account: PaymentAccount) -> HttpResponse:
    tenant, button = account.tenant, ""
    name = f"{account.display_name} {account.stripe_account_id}".strip()
    if account.facts_at is None:
        outlook = "Stripe could not say yet what the account may do. Ask again in a minute."
        button = "Ask again"
    elif account.charges_enabled:
        outlook = "It can take payments now."
    else:
        outlook = "Stripe lets it take no payments yet. The tenant's page says what is missing."
    text = [f"{tenant} sells on the Stripe account {name}.", outlook]
    return result_page(request, "Connected", text, tenant=tenant, button=button)


@require_http_methods(["GET", "POST"])
@cache_control(no_store=True)
@for_operators
def disconnect(request: HttpRequest, tenant: Tenant) -> HttpResponse:
    """Ask first; when confirmed, let go of the account that was shown."""
    account = tenant.active_account
    shown = request.POST.get("account")
    if account is None or shown not in (None, account.stripe_account_id):
        text = ["The account is not connected any more. Nothing was done."]
        return result_page(request, "Nothing to disconnect", text, tenant=tenant, status=409)
    if shown is None:
        context = {"title": "Disconnect Stripe?", "tenant": tenant, "account": account}
        return show(request, "tenants/disconnect.html", context)
    text = [f"{tenant} sells nothing more on {account.stripe_account_id}. Members keep access."]
    if not connecting.disconnect(account):
        text.append(
            "Stripe could not be told. The account's owner can remove the access in Stripe's "
            "Dashboard, among the installed apps."
        )
    return result_page(request, "Disconnected", text, tenant=tenant)


def _session_key(request: HttpRequest) -> str:
    return request.session.session_key or ""
