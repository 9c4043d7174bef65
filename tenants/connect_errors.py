"""Every way in which connecting an account fails: status, and what the operator is told.

None of them changes an account of the tenant.
"""

from tenants.models import Tenant


class ConnectFailed(Exception):
    status = 400
    title: str
    reason: str
    advice: str

    def __init__(self, tenant: Tenant | None = None) -> None:
        super().__init__(self.title)
        self.tenant = tenant


class NotAllowed(ConnectFailed):
    status = 403
    title = "Not allowed"
    reason = "Stripe accounts are connected and disconnected by administrators of the tenant."
    advice = "Ask one of them, or a superuser to make you one."


class LinkInvalid(ConnectFailed):
    title = "This link is no longer valid"
    reason = "It was used before, is older than ten minutes, or was opened in another browser."
    advice = "If you have just connected the account, its tenant's page says so. Else start again."


class Denied(ConnectFailed):
    status = 200
    title = "The account was not connected"
    reason = "Whoever was asked at Stripe did not allow it. Nothing has changed."
    advice = "Start again when the account's owner agrees."


class CodeRefused(ConnectFailed):
    title = "Stripe did not confirm the connection"
    reason = (
        "The code that Stripe sent along was unknown to it, too old or used before. Nothing has "
        "changed here."
    )
    advice = "Start again. If that repeats, compare STRIPE_CONNECT_CLIENT_ID and STRIPE_SECRET_KEY."


class OtherMode(ConnectFailed):
    status = 409
    title = "The account was connected in the other mode"
    reason = (
        "Stripe connected it in test mode while this server works in live mode, or the reverse. "
        "The tenant's accounts are unchanged."
    )
    advice = (
        "Set STRIPE_CONNECT_CLIENT_ID to the client id of the mode that STRIPE_SECRET_KEY is for, "
        "then start again."
    )


class OtherTenants(ConnectFailed):
    status = 409
    title = "The account belongs to another tenant"
    reason = (
        "It is or was connected to another tenant here, and one account can sell for one tenant "
        "only. Nothing has changed for either of them."
    )
    advice = (
        "Do not revoke the connection at Stripe: the other tenant may use it. Start again and "
        "choose an account of this tenant's own."
    )


class AnotherActive(ConnectFailed):
    status = 409
    title = "The tenant sells on another account"
    reason = "A tenant sells on one account at a time, and this one has another. It is unchanged."
    advice = "To change to the new account, disconnect the present one first, then start again."


class StripeUnavailable(ConnectFailed):
    status = 502
    title = "Stripe could not be reached"
    reason = "Stripe gave no usable answer, so nothing has changed here."
    advice = "Start again in a minute. Nothing needs to be undone."
