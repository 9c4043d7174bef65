"""What the ledger and the log say once stays said: the database itself refuses to change it."""

import sqlite3

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import Sum

from purchases import ledger
from purchases.models import CreditEntry, PurchaseEvent
from tenants.models import Member
from tests.conftest import changed, stripe_event

TABLES = {"purchases_creditentry": CreditEntry, "purchases_purchaseevent": PurchaseEvent}
CHANGES = [
    "UPDATE {table} SET created_at = created_at",
    "UPDATE {table} SET tenant_id = tenant_id WHERE id = (SELECT max(id) FROM {table})",
    "DELETE FROM {table}",
    "DELETE FROM {table} WHERE id = (SELECT max(id) FROM {table})",
]


@pytest.fixture
def plan(plan):
    """The plan, with ten credits."""
    plan.credits = 10
    plan.save()
    return plan


@pytest.fixture
def bought(deliver, checkout, paid_event):
    """A line in the ledger, and some in the log."""
    deliver(paid_event)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", CHANGES)
def test_the_database_refuses_to_change_a_line(change, table, bought):
    before = list(TABLES[table].objects.values())

    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(change.format(table=table))

    assert before
    assert list(TABLES[table].objects.values()) == before


@pytest.mark.parametrize("model", TABLES.values())
@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.update(created_at=None),
        lambda rows: rows.delete(),
        lambda rows: rows[0].delete(),
        lambda rows: rows[0].save(),
    ],
    ids=["update", "delete", "delete one", "save"],
)
def test_nor_can_the_product_change_one(change, model, bought):
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        change(model.objects.all())


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.django_db(transaction=True)
def test_nor_can_anybody_from_outside(change, table, bought, elsewhere):
    # SQLite's trigger asks a function that only our own connections have, and so fails too.
    refusal = "append-only|allegro_is_flushing"
    with pytest.raises((psycopg.Error, sqlite3.Error), match=refusal):
        elsewhere(change.format(table=table))

    assert TABLES[table].objects.exists()


@pytest.fixture
def elsewhere():
    """Run a statement in a connection that knows nothing of Django."""

    def elsewhere(statement):
        database = connection.get_new_connection(connection.get_connection_params())
        if connection.vendor == "sqlite":
            database.close()
            database = sqlite3.connect(connection.settings_dict["NAME"])
        try:
            database.execute(statement)
        finally:
            database.close()

    return elsewhere


# --- what the lines say


def test_every_line_has_the_balance_after_it(deliver, bought):
    for amount in (5000, 12500, 25000):
        deliver(so_far(amount))
    deliver(stripe_event("charge.dispute.closed.lost"))

    lines = CreditEntry.objects.order_by("id").values_list("kind", "amount", "balance_after")

    assert list(lines) == [
        ("purchase", 10, 10),
        ("refund", -2, 8),
        ("refund", -3, 5),
        ("refund", -5, 0),
    ]


def so_far(amount):
    event = stripe_event("charge.refunded.partial")
    return changed(event, event_id=f"evt_{amount}", amount_refunded=amount)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["charge.refunded.partial"],
        ["charge.refunded.partial_second", "refund.created", "refund.failed"],
        ["charge.dispute.created", "charge.dispute.closed.lost", "charge.refunded.full"],
    ],
    ids=lambda names: " ".join(names) or "nothing",
)
def test_the_lines_sum_to_the_balance(names, deliver, bought):
    [deliver(stripe_event(name)) for name in names]

    member = Member.objects.get()
    balance = ledger.balance_of(member.tenant, member)
    assert balance == member.credit_entries.aggregate(sum=Sum("amount"))["sum"]
