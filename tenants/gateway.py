"""The border to Stripe for connecting accounts: OAuth for Standard accounts (RFC 6749 §4.1).

Nothing of stripe-python leaves this file. Another way to connect, such as Account Links, would
replace `authorize_url` and `redeem` alone.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import stripe
import stripe.oauth_error
import structlog
from django.conf import settings

from tenants.accounts import AccountFacts

logger = structlog.get_logger(__name__)

CALLBACK_PATH = "/connect/stripe/callback"


class CodeRefused(Exception):
    """Stripe does not know the code, or it is older than five minutes, or was used."""


class StripeUnavailable(Exception):
    """Stripe gave no usable answer; whether it did what we asked is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An account that its owner has connected to the platform, in one mode."""

    account_id: str
    livemode: bool


def authorize_url(state: str) -> str:
    """Where an account's owner lets the platform in, and comes back from with the state."""
    url: str = _client(retries=0).oauth.authorize_url(
        {
            "scope": "read_write",
            "state": state,
            "redirect_uri": settings.ALLEGRO_URL + CALLBACK_PATH,
        }
    )
    return url


def redeem(code: str) -> Connection:
    """Trade the code for a connection; `CodeRefused` or `StripeUnavailable`.

    Asked once and never again: to use a code twice revokes the connection. The keys in the answer
    are dropped, as we act for the account with our own.
    """
    with _errors_as_ours("redeem"):
        answer = _client(retries=0).oauth.token({"grant_type": "authorization_code", "code": code})
        account_id, livemode = answer["stripe_user_id"], answer["livemode"]
        if not isinstance(account_id, str) or not isinstance(livemode, bool):
            raise TypeError("The answer names no account.")
        return Connection(account_id=account_id, livemode=livemode)


def retrieve_account(account_id: str) -> AccountFacts:
    """What Stripe says of the account now, or `StripeUnavailable`."""
    with _errors_as_ours("retrieve", account=account_id):
        account = _client(retries=2).v1.accounts.retrieve(account_id)
        return AccountFacts.parse(account.to_dict())


def disconnect(account_id: str) -> None:
    """Let go of the account, unless that has happened; `StripeUnavailable`."""
    with _errors_as_ours("disconnect", account=account_id):
        try:
            _client(retries=0).oauth.deauthorize({"stripe_user_id": account_id})
        except stripe.oauth_error.InvalidClientError:
            logger.info("connect_was_revoked_before", account=account_id)


@contextmanager
def _errors_as_ours(call: str, **context: str) -> Iterator[None]:
    try:
        yield
    # The library hands on whatever JSON a 200 brings, and breaks on OAuth errors new to it.
    except Exception as error:
        kind = type(error).__name__
        logger.warning("connect_call_failed", call=call, error=kind, **context)
        is_refusal = isinstance(error, stripe.oauth_error.InvalidGrantError)
        raise (CodeRefused if is_refusal else StripeUnavailable) from error


def _client(*, retries: int) -> Any:
    return _client_for(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE, retries)


@functools.cache
def _client_for(key: str, base: str, retries: int) -> stripe.StripeClient:
    stripe.enable_telemetry = False
    return stripe.StripeClient(
        key,
        client_id=settings.STRIPE_CONNECT_CLIENT_ID,
        stripe_version=settings.STRIPE_API_VERSION,
        max_network_retries=retries,
        http_client=stripe.RequestsClient(timeout=(3.05, 10)),
        base_addresses={"api": base, "connect": base} if base else {},
    )
