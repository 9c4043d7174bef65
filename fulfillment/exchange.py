"""The member comes back: the return-page token for a purchase and a signed-in session."""

import hmac
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from fulfillment.catching_up import catch_up
from fulfillment.errors import InvalidToken, MemberDisabled, TokenExpired, TokenUsed
from fulfillment.models import Checkout
from purchases import access
from purchases.models import Purchase
from purchases.serializers import EntitlementSerializer, PurchaseSerializer
from tenants import tokens
from tenants.keys import sha256
from tenants.models import Tenant

# How long after the session at Stripe has ended the token is good.
TOKEN_LIFETIME = timedelta(hours=24)
# In which a repeat gets the same answer: the first one may have been lost on the way.
GRACE = timedelta(minutes=2)
# Seconds after which the browser should ask again: soon at first, then as a bank debit takes days.
SOONEST, LATEST = 2, 60


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: dict[str, Any]


def exchange_token(tenant: Tenant, *, token: str, verifier: str) -> Answer:
    """Fulfill the purchase if nobody has yet, and sign its buyer in.

    Whoever has the token may have read it in the tenant's Stripe account, so it proves nothing
    about who they are without the verifier that the browser made and kept. Raises `InvalidToken`,
    `TokenUsed`, `TokenExpired`, `MemberDisabled` or `StripeUnavailable`; the last two leave the
    token as it was.
    """
    checkout = (
        Checkout.objects.select_related("tenant", "purchase")
        .filter(tenant=tenant, token_sha256=sha256(token), package=None)
        .first()
    )
    if checkout is None:
        raise InvalidToken
    _check_usable(checkout)
    # Before the verifier: somebody paid, and gets it, in whichever browser they came back.
    if not checkout.is_fulfilled:
        catch_up(checkout, channel=Purchase.Channel.EXCHANGE)
    if checkout.verifier_sha256 and not hmac.compare_digest(
        checkout.verifier_sha256, sha256(verifier)
    ):
        raise InvalidToken
    if checkout.is_fulfilled:
        return _sign_in(checkout, token)
    if checkout.status not in Checkout.FINAL:
        return _processing(checkout)
    reason = "expired" if checkout.status == Checkout.Status.EXPIRED else "payment_failed"
    return Answer(200, {"status": "failed", "reason": reason})


def _check_usable(checkout: Checkout) -> None:
    now = timezone.now()
    if checkout.exchanged_at and now >= checkout.exchanged_at + GRACE:
        raise TokenUsed
    if now >= checkout.expires_at + TOKEN_LIFETIME:
        raise TokenExpired


def _processing(checkout: Checkout) -> Answer:
    since = checkout.purchase.created_at if checkout.purchase else timezone.now()
    waited = (timezone.now() - since).total_seconds()
    seconds = round(min(max(waited / 4, SOONEST), LATEST))
    return Answer(202, {"status": "processing", "retry_after": seconds})


def _sign_in(checkout: Checkout, token: str) -> Answer:
    purchase = checkout.purchase
    assert purchase is not None
    assert purchase.member is not None
    if purchase.member.disabled_at is not None:
        raise MemberDisabled
    with transaction.atomic():
        # Locked, so that of two tabs one opens the session and the other gets the same one.
        locked = Checkout.objects.select_for_update().get(pk=checkout.pk)
        _check_usable(locked)
        refresh_token = _refresh_token_for(token)
        if locked.member_session is None:
            locked.member_session = tokens.open_session(
                purchase.member,
                authenticated=_is_proven(locked, purchase),
                purchase_id=purchase.id,
                refresh_token=refresh_token,
            )
            locked.exchanged_at = timezone.now()
            locked.save(update_fields=["member_session", "exchanged_at"])
    return Answer(200, _completed(locked, purchase, refresh_token))


def _refresh_token_for(token: str) -> str:
    # Derived, so that a repeat gets the same one though only its hash is stored; keyed with
    # SECRET_KEY, so that the token alone leads nowhere.
    digest = salted_hmac("allegro.fulfillment.exchange", token, algorithm="sha512").digest()
    return tokens.new_refresh_token(uuid.UUID(bytes=digest[:16]), digest[16:48].hex())


def _is_proven(checkout: Checkout, purchase: Purchase) -> bool:
    """Whether the browser that came back is the member's.

    It is the one that started the checkout (it has the verifier), and either that was signed in
    or nobody had the e-mail before; an e-mail typed at Stripe proves nothing by itself.
    """
    is_same_browser = checkout.verifier_sha256 != ""
    return is_same_browser and (checkout.member_id is not None or purchase.member_is_new)


def _completed(checkout: Checkout, purchase: Purchase, refresh_token: str) -> dict[str, Any]:
    session = checkout.member_session
    assert session is not None
    entitlements = access.entitlements_after(session, purchase)
    member = session.member
    return {
        "status": "completed",
        **access.token_fields(session, refresh_token, issued_at=checkout.exchanged_at),
        "member": {
            "id": member.id,
            "email": member.email,
            # Somebody else's name, perhaps, while only an e-mail was typed.
            "name": member.name if session.authenticated else "",
        },
        "purchase": PurchaseSerializer(purchase).data,
        "entitlements": EntitlementSerializer(entitlements, many=True).data,
        "credits": access.credits_of(session),
    }
