"""Credits: one append-only ledger for each member, and one for each tenant.

Whoever writes has locked the owner's row (`lock_owner`), so that lines follow one another.
"""

from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from purchases.errors import IdempotencyConflict, InsufficientCredits
from purchases.models import CreditEntry, Purchase, PurchaseEvent
from tenants.models import Member, Tenant


def lock_owner(tenant: Tenant, member: Member | None) -> None:
    """Make others wait who write the entitlements or credits of this member, or tenant.

    On SQLite a transaction is alone by its nature.
    """
    if connection.features.has_select_for_update:
        owners = (
            Member.objects.filter(pk=member.pk) if member else Tenant.objects.filter(pk=tenant.pk)
        )
        # NO KEY: rows that merely refer to the owner need not wait.
        owners.select_for_update(no_key=True).values_list("pk").get()


def entries_of(tenant: Tenant, member: Member | None) -> QuerySet[CreditEntry]:
    """The owner's lines, the latest first."""
    return CreditEntry.objects.filter(tenant=tenant, member=member).order_by("-id")


def balance_of(tenant: Tenant, member: Member | None) -> int:
    return entries_of(tenant, member).values_list("balance_after", flat=True).first() or 0


def post(
    tenant: Tenant,
    member: Member | None,
    *,
    kind: CreditEntry.Kind,
    amount: int,
    purchase: Purchase | None = None,
    idempotency_key: str | None = None,
) -> CreditEntry:
    """Append a line; the balance is read in the statement that writes it."""
    latest = Subquery(entries_of(tenant, member).values("balance_after")[:1])
    return CreditEntry.objects.create(
        tenant=tenant,
        member=member,
        purchase=purchase,
        kind=kind,
        amount=amount,
        balance_after=Coalesce(latest, Value(0)) + Value(amount),
        idempotency_key=idempotency_key,
    )


def spend(
    tenant: Tenant, member: Member | None, *, amount: int, idempotency_key: str
) -> CreditEntry:
    """Take credits, once for each key, and never more than there are.

    A repeat of the key returns the line that the first call wrote. Raises `InsufficientCredits`,
    or `IdempotencyConflict` where the key was used for something else.
    """
    try:
        return _spend(tenant, member, amount, idempotency_key)
    except IntegrityError as error:
        # Another owner's spending with the same key was under way.
        raise IdempotencyConflict from error


@transaction.atomic
def _spend(tenant: Tenant, member: Member | None, amount: int, key: str) -> CreditEntry:
    lock_owner(tenant, member)
    if earlier := CreditEntry.objects.filter(tenant=tenant, idempotency_key=key).first():
        if (earlier.member_id, earlier.amount) != (member.pk if member else None, -amount):
            raise IdempotencyConflict
        return earlier
    balance = balance_of(tenant, member)
    if balance < amount:
        raise InsufficientCredits(balance=balance, required=amount)
    kind = CreditEntry.Kind.SPEND
    entry = post(tenant, member, kind=kind, amount=-amount, idempotency_key=key)
    entry.refresh_from_db(fields=["balance_after"])
    PurchaseEvent.objects.create(
        tenant=tenant,
        member=member,
        type=PurchaseEvent.Type.CREDITS_SPENT,
        data={"credits": -amount, "entry": entry.pk},
    )
    return entry
