"""What the facts of a payment call for: the pure part of settling, without a database."""

import enum
from dataclasses import dataclass

from purchases.models import Purchase

PaymentStatus = Purchase.PaymentStatus
Status = Purchase.Status

UNDONE_REFUND = ("failed", "canceled")
# Any other status, known or not, means that the dispute is still open
# (docs.stripe.com/api/disputes/object): better to wait for its end than to guess it.
DISPUTE_OVER = ("won", "lost", "warning_closed")


def is_inquiry(dispute_status: str) -> bool:
    """A question of the bank's: no money was taken, so no access is."""
    return dispute_status.startswith("warning_")


class Access(enum.Enum):
    NONE = enum.auto()
    GRANTED = enum.auto()
    SUSPENDED = enum.auto()
    REVOKED = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversals:
    """The facts about money going back, in minor units.

    `amount_refunded` is the highest sum that a charge ever showed as refunded, counting refunds
    that failed afterwards.
    """

    refunds: tuple[tuple[int, str], ...] = ()
    amount_refunded: int = 0
    disputes: tuple[str, ...] = ()

    @property
    def refunded(self) -> int:
        """What went back and stayed there, whichever of the two ways we heard of it."""
        undone = sum(amount for amount, status in self.refunds if status in UNDONE_REFUND)
        listed = sum(amount for amount, status in self.refunds if status not in UNDONE_REFUND)
        return max(listed, self.amount_refunded - undone, 0)

    @property
    def is_lost(self) -> bool:
        return "lost" in self.disputes

    @property
    def is_disputed(self) -> bool:
        return any(
            status not in DISPUTE_OVER and not is_inquiry(status) for status in self.disputes
        )


NO_REVERSALS = Reversals()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The state in which a purchase should be, however it came there."""

    status: Purchase.Status
    access: Access
    refunded: int = 0
    credits: int = 0


def target_of(
    payment_status: Purchase.PaymentStatus, *, total: int, bought: int, reversals: Reversals
) -> Target:
    """The one state that these facts call for.

    `total` is what was paid in minor units, `bought` the credits that came with it. Credits are
    taken back in proportion to the money, rounded in the member's favor, and as an
    absolute target, so that refunds in steps and in any order end at the same number.
    """
    if payment_status == PaymentStatus.UNPAID:
        return Target(status=Status.PENDING, access=Access.NONE)
    if payment_status == PaymentStatus.FAILED:
        return Target(status=Status.FAILED, access=Access.NONE)
    refunded = min(reversals.refunded, total)
    is_all_refunded = 0 < total <= refunded
    if reversals.is_lost or is_all_refunded:
        status = Status.LOST if reversals.is_lost else Status.REFUNDED
        return Target(status=status, access=Access.REVOKED, refunded=refunded)
    kept = bought - (bought * refunded // total if refunded else 0)
    if reversals.is_disputed:
        return Target(
            status=Status.DISPUTED, access=Access.SUSPENDED, refunded=refunded, credits=kept
        )
    status = Status.PARTIALLY_REFUNDED if refunded else Status.PAID
    return Target(status=status, access=Access.GRANTED, refunded=refunded, credits=kept)
