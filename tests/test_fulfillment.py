"""A paid session becomes a purchase: seen from the webhook."""

from purchases.models import Entitlement, Purchase, PurchaseEvent


def test_a_paid_checkout_becomes_a_purchase(deliver, recorded, checkout, paid_event):
    response = deliver(paid_event)

    assert response.status_code == 200
    assert response.json() == {"received": True}
    assert recorded(paid_event) == ("done", "fulfilled")
    purchase = Purchase.objects.get()
    assert (purchase.status, purchase.fulfilled_by) == ("paid", "webhook")
    assert purchase.member.email == "member@example.com"


def test_a_paid_checkout_grants_each_product(deliver, checkout, paid_event):
    deliver(paid_event)

    assert sorted(Entitlement.objects.active().values_list("product__slug", flat=True)) == [
        "archive",
        "newsletter",
    ]
    assert sorted(PurchaseEvent.objects.values_list("type", flat=True)) == [
        "entitlement.granted",
        "entitlement.granted",
        "purchase.completed",
    ]


def test_second_delivery_changes_nothing(deliver, checkout, paid_event):
    deliver(paid_event)
    rows = [m.objects.count() for m in (Purchase, Entitlement, PurchaseEvent)]

    response = deliver(paid_event)

    assert response.status_code == 200
    assert [m.objects.count() for m in (Purchase, Entitlement, PurchaseEvent)] == rows
