"""A seller's account being connected to the platform, changed, and disconnected."""

from sandbox.objects import accounts
from sandbox.stand_in import StandIn
from sandbox.state import Account


def connect(sandbox: StandIn, account: Account) -> None:
    """The platform may act for the account from now on."""
    account.is_connected = True
    _tell(sandbox, account, "authorized")


def deauthorize(sandbox: StandIn, account: Account) -> None:
    """The platform may not act for the account any more; a second time changes nothing."""
    if account.is_connected:
        account.is_connected = False
        _tell(sandbox, account, "deauthorized")


def enable(sandbox: StandIn, account: Account, *, charges_enabled: bool) -> None:
    """Let Stripe allow or forbid the account to take payments."""
    requirements = {
        **account.details["requirements"],
        "disabled_reason": None if charges_enabled else "requirements.past_due",
        "past_due": [] if charges_enabled else ["business_profile.url"],
    }
    sandbox.change(
        account,
        "account.updated",
        account.details,
        charges_enabled=charges_enabled,
        payouts_enabled=charges_enabled,
        requirements=requirements,
    )


def _tell(sandbox: StandIn, account: Account, verb: str) -> None:
    application = accounts.application(sandbox.config.client_id)
    # Stripe names the platform in `context` here, not the account.
    context = sandbox.world.platform_id
    sandbox.emit(account, f"account.application.{verb}", application, context=context)
