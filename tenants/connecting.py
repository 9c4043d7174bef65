"""A tenant's Stripe account is connected by OAuth, and let go of again.

The way to Stripe and back is protected against forged and mixed-up answers by `state`
(RFC 6749 §10.12, RFC 9700 §4.7): random, short-lived, used once, and bound to one tenant, one
operator and one browser session.
"""

import secrets
from datetime import timedelta

import structlog
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction
from django.utils.timezone import now

from tenants import connect_errors as errors
from tenants import gateway
from tenants.accounts import store_facts, whole_second
from tenants.admin_scope import tenants_of
from tenants.keys import sha256
from tenants.models import ConnectAttempt, PaymentAccount, Tenant, TenantUser

logger = structlog.get_logger(__name__)

LIFETIME = timedelta(minutes=10)


def may_connect(user: User | AnonymousUser, tenant: Tenant | None) -> bool:
    """Whether the user may connect and disconnect the tenant's account (None: anybody's)."""
    if user.is_superuser:
        return user.is_active
    if not user.is_staff:
        return False
    tenants = tenants_of(user)
    if tenants is not None and (tenant is None or tenant not in tenants):
        return False
    own = TenantUser.objects.filter(user_id=user.pk, tenant=tenant, role=TenantUser.Role.ADMIN)
    return user.has_perm("tenants.change_paymentaccount") or own.exists()


def start(tenant: Tenant, *, user: User, session_key: str) -> str:
    """The address at Stripe where the account's owner is asked; good once, for ten minutes."""
    state = secrets.token_urlsafe(32)
    ConnectAttempt.objects.create(
        state_sha256=sha256(state),
        session_sha256=sha256(session_key),
        tenant=tenant,
        user=user,
        expires_at=now() + LIFETIME,
    )
    return gateway.authorize_url(state)


def use_state(state: str, *, user: User, session_key: str) -> Tenant:
    """The tenant for whom the way to Stripe was started, or `LinkInvalid`.

    The state is of no use afterwards, whatever comes next. Not to be called in a transaction,
    whose rollback would revive it.
    """
    attempts = ConnectAttempt.objects.filter(state_sha256=sha256(state))
    usable = attempts.filter(
        user=user, session_sha256=sha256(session_key), used_at=None, expires_at__gt=now()
    )
    is_ours = usable.update(used_at=now())
    attempt = attempts.filter(user=user).select_related("tenant").first()
    tenant = attempt.tenant if attempt else None
    if not is_ours or tenant is None:
        logger.warning("security_connect_state", user=user.pk, tenant=tenant and str(tenant.pk))
        raise errors.LinkInvalid(tenant)
    return tenant


def connect(tenant: Tenant, code: str) -> PaymentAccount:
    """Connect the account that the code stands for, or raise one of `connect_errors`.

    Stripe's word on what the account may do is stored too, if it can be had now (`facts_at`).
    """
    try:
        connection = gateway.redeem(code)
    except gateway.CodeRefused as error:
        raise errors.CodeRefused(tenant) from error
    except gateway.StripeUnavailable as error:
        raise errors.StripeUnavailable(tenant) from error
    if connection.livemode != settings.STRIPE_LIVEMODE:
        raise errors.OtherMode(tenant)
    account = _bind(tenant, connection)
    logger.info("connect_finished", tenant=str(tenant.pk), account=connection.account_id)
    _ask_for_facts(account)
    return account


def _bind(tenant: Tenant, connection: gateway.Connection) -> PaymentAccount:
    """The tenant's row for the account, active; the table's constraints refuse all else."""
    account_id, livemode = connection.account_id, connection.livemode
    rows = PaymentAccount.objects.filter(stripe_account_id=account_id, livemode=livemode)
    try:
        with transaction.atomic():
            account, _ = PaymentAccount.objects.update_or_create(
                tenant=tenant,
                stripe_account_id=account_id,
                livemode=livemode,
                defaults={"connected_at": now(), "disconnected_at": None, "facts_at": None},
            )
    except IntegrityError as error:
        is_foreign = rows.exclude(tenant=tenant).exists()
        logger.warning("connect_refused", tenant=str(tenant.pk), account=account_id)
        raise (errors.OtherTenants if is_foreign else errors.AnotherActive)(tenant) from error
    return account


def _ask_for_facts(account: PaymentAccount) -> None:
    asked_at = whole_second()
    try:
        facts = gateway.retrieve_account(account.stripe_account_id)
    except gateway.StripeUnavailable:
        # The connection stands; `account.updated` tells later.
        return
    store_facts(account, facts, said_at=asked_at)
    account.refresh_from_db()


def disconnect(account: PaymentAccount) -> bool:
    """Sell nothing more on the account from now on, and tell Stripe; whether Stripe took it.

    What members have stays theirs. The row stays too: refunds and disputes still arrive.
    """
    PaymentAccount.objects.filter(pk=account.pk, disconnected_at=None).update(disconnected_at=now())
    logger.info("connect_ended", tenant=str(account.tenant_id), account=account.stripe_account_id)
    try:
        gateway.disconnect(account.stripe_account_id)
    except gateway.StripeUnavailable:
        return False
    return True
