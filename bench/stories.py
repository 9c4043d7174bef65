"""What may happen to a payment, played at the stand-in for Stripe, and how its purchase has to end.

The end is told from the story alone, by the rules that need no database (`target_of`).
"""

import http.client
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.world import PRICE, buy
from purchases.models import CreditEntry, Entitlement, Plan, Purchase
from purchases.targets import Access, Reversals, Target, target_of
from tenants.keys import create_key
from tenants.models import ApiKey
from tests.sandbox_server import SandboxServer
from tests.server import Server, post

CREDITS = 10
PaymentStatus = Purchase.PaymentStatus


@dataclass
class Story:
    """What happened to one payment, as far as it decides how the purchase ends."""

    session_id: str
    payment: str
    status: PaymentStatus = PaymentStatus.PAID
    refunds: list[tuple[int, str]] = field(default_factory=list)
    disputes: list[str] = field(default_factory=list)

    def target(self) -> Target:
        reversals = Reversals(refunds=tuple(self.refunds), disputes=tuple(self.disputes))
        return target_of(self.status, total=PRICE, bought=CREDITS, reversals=reversals)


class Market:
    """The running processes, and the stories that are played on them."""

    def __init__(self, plan: Plan, sandbox: SandboxServer, servers: list[Server]) -> None:
        self.plan, self.sandbox, self.servers = plan, sandbox, servers
        self.stories: list[Story] = []
        self._key = create_key(plan.offer.tenant, ApiKey.Kind.PUBLISHABLE)

    def play(self, number: int, chance: random.Random) -> None:
        story = chance.choice(STORIES)
        self.stories.append(story(self, number, chance))

    def pay(self, number: int, method: str = "card") -> Story:
        # Some buy several times, so that purchases share a member, periods and a ledger.
        email = f"buyer{number // 3}@example.com"
        paid = buy(self.plan, self.sandbox, email=email, method=method)
        return Story(paid["id"], paid["payment_intent"])

    def happens(self, path: str, **fields: object) -> dict[str, str]:
        """Let it happen at Stripe, without waiting for its events to be answered."""
        answer: dict[str, str] = self.sandbox.control(path, **fields, wait=False)
        return answer

    def come_back(self, session_id: str, chance: random.Random) -> None:
        """Exchange the token of the return page once, whether or not somebody answers."""
        server = chance.choice(self.servers)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            post(
                f"{server.url}/api/purchases/exchange",
                json.dumps({"token": session_id}).encode(),
                headers,
            )
        except (OSError, http.client.HTTPException):
            return


# --- each of them


def paid(market: Market, number: int, chance: random.Random) -> Story:
    return market.pay(number)


def paid_and_come_back(market: Market, number: int, chance: random.Random) -> Story:
    story = market.pay(number)
    market.come_back(story.session_id, chance)
    return story


def debited(market: Market, number: int, chance: random.Random) -> Story:
    story = market.pay(number, "bank_ok")
    market.come_back(story.session_id, chance)
    market.happens(f"payments/{story.payment}/settle", ok=True)
    return story


def returned_debit(market: Market, number: int, chance: random.Random) -> Story:
    story = market.pay(number, "bank_fail")
    market.happens(f"payments/{story.payment}/settle", ok=False)
    story.status = PaymentStatus.FAILED
    return story


def refunded_in_parts(market: Market, number: int, chance: random.Random) -> Story:
    story = market.pay(number)
    for amount in chance.choice([[5000], [5000, 7500], [5000, 7500, 12500]]):
        market.happens(f"payments/{story.payment}/refund", amount=amount)
        story.refunds.append((amount, "succeeded"))
    return story


def refund_failed(market: Market, number: int, chance: random.Random) -> Story:
    story = market.pay(number)
    made = market.happens(f"payments/{story.payment}/refund", amount=10000)
    market.happens(f"refunds/{made['id']}/fail")
    story.refunds.append((10000, "failed"))
    return story


def disputed(market: Market, number: int, chance: random.Random) -> Story:
    story = market.pay(number)
    opened = market.happens(f"payments/{story.payment}/dispute")
    end = chance.choice(["needs_response", "won", "lost"])
    if end != "needs_response":
        market.happens(f"disputes/{opened['id']}/close", won=end == "won")
    story.disputes.append(end)
    return story


STORIES: list[Callable[[Market, int, random.Random], Story]] = [
    paid,
    paid_and_come_back,
    debited,
    returned_debit,
    refunded_in_parts,
    refund_failed,
    disputed,
]


# --- how they end


def ended_as_told(story: Story) -> bool:
    """Whether there is one purchase, and exactly that is granted which its facts call for."""
    purchases = list(Purchase.objects.filter(checkout_session_id=story.session_id))
    if len(purchases) != 1:
        return False
    purchase, target = purchases[0], story.target()
    is_fulfilled = target.access is not Access.NONE
    entries = CreditEntry.objects.filter(purchase=purchase).values_list("amount", flat=True)
    completed = purchase.events.filter(type="purchase.completed").count()
    return (
        (purchase.status, purchase.refunded_amount) == (target.status, target.refunded)
        and access_of(purchase) == ([target.access] * 2 if is_fulfilled else [])
        and sum(entries) == target.credits
        and completed == int(is_fulfilled)
    )


def access_of(purchase: Purchase) -> list[Access]:
    def access(entitlement: Entitlement) -> Access:
        if entitlement.revoked_at:
            return Access.REVOKED
        return Access.SUSPENDED if entitlement.suspended_at else Access.GRANTED

    return [access(entitlement) for entitlement in purchase.entitlements.all()]
