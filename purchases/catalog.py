"""What is sold now, as the snapshot that a sale keeps: later edits change nothing sold."""

from collections.abc import Sequence
from typing import Any

from purchases.models import CreditPackage, Plan

# One row for each product of the plan, so that a snapshot takes one statement.
PLAN_COLUMNS = (
    "id", "name", "amount", "currency", "duration", "credits", "products__id", "products__slug",
)  # fmt: skip


def snapshot_of_plan(plan: Plan) -> dict[str, Any]:
    return snapshot_of_rows(list(Plan.objects.filter(pk=plan.pk).values(*PLAN_COLUMNS)))


def snapshot_of_rows(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The snapshot of one plan from its `PLAN_COLUMNS`."""
    plan = rows[0]
    return {
        "plan": str(plan["id"]),
        "name": plan["name"],
        "products": [
            {"id": row["products__id"], "slug": row["products__slug"]}
            for row in rows
            if row["products__id"] is not None
        ],
        "amount": plan["amount"],
        "currency": plan["currency"],
        "duration": plan["duration"],
        "credits": plan["credits"],
    }


def snapshot_of_package(package: CreditPackage) -> dict[str, Any]:
    return {
        "package": package.key,
        "name": package.key,
        "products": [],
        "amount": package.amount,
        "currency": package.currency,
        "duration": "",
        "credits": package.credits,
    }
