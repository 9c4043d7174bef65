"""What happens to the tenants' Stripe accounts themselves: their state, and their leaving us."""

from datetime import datetime, timedelta

from fulfillment.outcomes import Done, Ignored
from fulfillment.sales import Origin
from tenants.accounts import AccountFacts, store_facts
from tenants.models import PaymentAccount

# Stripe's times are whole seconds: what happened within one may be up to this much later.
GRAIN = timedelta(seconds=1)


def record_account(facts: AccountFacts, *, said_at: datetime, origin: Origin) -> Done:
    """Keep what Stripe said of the account at `said_at` (UTC), unless we know newer."""
    account = _account_of(origin)
    is_news = store_facts(account, facts, said_at=said_at)
    return Done(code="account_updated" if is_news else "superseded", tenant=account.tenant)


def record_revocation(*, said_at: datetime, origin: Origin) -> Done:
    """The owner or we revoked the connection: nothing more is sold on the account.

    An event from before the account was connected again changes nothing.
    """
    account = _account_of(origin)
    ended = PaymentAccount.objects.filter(
        pk=account.pk, disconnected_at=None, connected_at__lt=said_at + GRAIN
    ).update(disconnected_at=said_at)
    return Done(code="account_disconnected" if ended else "superseded", tenant=account.tenant)


def note_authorization(origin: Origin) -> Done:
    """We know already, from the answer to the operator who connected the account."""
    return Done(code="account_authorized", tenant=_account_of(origin).tenant)


def _account_of(origin: Origin) -> PaymentAccount:
    account = (
        PaymentAccount.objects.select_related("tenant")
        .filter(stripe_account_id=origin.account_id, livemode=origin.livemode)
        .first()
    )
    if account is None:
        raise Ignored("not_ours", "No tenant has connected this account.")
    return account
