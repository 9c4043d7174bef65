"""A checkout of which no webhook has told us the end: ask Stripe."""

import structlog
from django.db import transaction

from fulfillment import gateway
from fulfillment.errors import StripeUnavailable
from fulfillment.facts import CheckoutSession, Malformed
from fulfillment.models import Checkout
from fulfillment.outcomes import Held, Ignored
from fulfillment.recording import record_checkout, record_expiry
from fulfillment.sales import Origin
from purchases.models import Purchase

logger = structlog.get_logger(__name__)


def catch_up(checkout: Checkout, *, channel: Purchase.Channel) -> None:
    """Ask Stripe how the session stands, and record it as a webhook would have.

    The checkout is then as the database has it. Raises `StripeUnavailable`.
    """
    if not checkout.stripe_session_id or checkout.status in Checkout.FINAL:
        return
    answer = gateway.retrieve_session(checkout.stripe_session_id, account_id=checkout.account_id)
    origin = Origin(account_id=checkout.account_id, livemode=checkout.livemode, channel=channel)
    try:
        session = CheckoutSession.parse(answer)
        with transaction.atomic():
            if session.status == "expired":
                record_expiry(session, origin=origin)
            elif session.status == "complete":
                record_checkout(session, origin=origin)
    except Malformed as error:
        raise StripeUnavailable from error
    except (Held, Ignored) as verdict:
        # For an operator to look at; to the buyer it is still under way.
        logger.warning(
            "checkout_held",
            checkout=str(checkout.id),
            channel=channel,
            outcome=verdict.code,
            reason=str(verdict),
        )
    checkout.refresh_from_db()
