"""`manage.py simulate`: every scenario against the running server, and what it leaves behind."""

import json
import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from fulfillment.models import Checkout, StripeEvent
from purchases import ledger
from purchases.models import Entitlement, Purchase
from tenants.models import Member, PaymentAccount
from tests.server import post

EMAIL = "jenny@example.com"
OTHER_PLAN = "00000000-0000-4000-8000-000000000000"
COMPLETED = "checkout.session.completed"
PAID = [
    "charge.succeeded: answered 200, done: charge_recorded",
    "payment_intent.succeeded: answered 200, ignored: unhandled_type",
    f"{COMPLETED}: answered 200, done: fulfilled",
]
UNPAID = [f"{COMPLETED}: answered 200, done: pending"]
REFUNDED = [
    "refund.created: answered 200, done: refund_recorded",
    "charge.refunded: answered 200, done: charge_recorded",
    "refund.updated: answered 200, done: refund_recorded",
]
DISPUTED = [
    "charge.dispute.created: answered 200, done: dispute_recorded",
    "charge.dispute.funds_withdrawn: answered 200, done: dispute_recorded",
]
CLOSED = ["charge.dispute.closed: answered 200, done: dispute_recorded"]
DEBITED = [
    *UNPAID,
    "charge.succeeded: answered 200, done: charge_recorded",
    "payment_intent.succeeded: answered 200, ignored: unhandled_type",
    "checkout.session.async_payment_succeeded: answered 200, done: fulfilled",
]
RETURNED = [
    *UNPAID,
    "charge.failed: answered 200, done: charge_recorded",
    "payment_intent.payment_failed: answered 200, ignored: unhandled_type",
    "checkout.session.async_payment_failed: answered 200, done: payment_failed",
]
FOREIGN = [
    "charge.succeeded: answered 200, ignored: not_ours",
    "payment_intent.succeeded: answered 200, ignored: unhandled_type",
    f"{COMPLETED}: answered 200, held: tenant_mismatch",
]
LIVE = [
    "charge.succeeded: answered 200, ignored: other_mode",
    "payment_intent.succeeded: answered 200, ignored: other_mode",
    f"{COMPLETED}: answered 200, ignored: other_mode",
]
# The status of the purchase, the products of the member, the credits.
ALL, NONE = ["archive", "newsletter"], []
BOUGHT, NOTHING = ("paid", ALL, 10), (None, NONE, 0)


@pytest.fixture
def simulate(allegro):
    """Run the command against the server; returns what it prints."""

    def simulate(*arguments, url=f"{allegro.url}/api/webhooks/stripe"):
        output = StringIO()
        call_command("simulate", *arguments, "--email", EMAIL, "--url", url, stdout=output)
        return output.getvalue()

    return simulate


@pytest.fixture
def plan(plan, account):
    plan.credits = 10
    plan.save()
    return plan


def outcomes(printed):
    return re.findall(r"^evt_\w+ (.*)$", printed, re.MULTILINE)


def event_ids(printed):
    return re.findall(r"^(evt_\w+) ", printed, re.MULTILINE)


def state(tenant):
    """The status of the only purchase, and what the member can use now."""
    purchase = Purchase.objects.first()
    member = Member.objects.filter(email=EMAIL).first()
    products = Entitlement.objects.active().values_list("product__slug", flat=True)
    balance = ledger.balance_of(tenant, member) if member else 0
    return purchase and purchase.status, sorted(products), balance


@pytest.mark.parametrize(
    ("arguments", "printed", "left"),
    [
        ("checkout", PAID, BOUGHT),
        ("checkout --unpaid", UNPAID, ("pending", NONE, 0)),
        ("checkout --async-success", DEBITED, BOUGHT),
        ("checkout --async-failure", RETURNED, ("failed", NONE, 0)),
        ("checkout --duplicate", [line for line in PAID for _ in range(2)], BOUGHT),
        ("checkout --wrong-account", FOREIGN, NOTHING),
        ("bank-debit", UNPAID, ("pending", NONE, 0)),
        ("bank-debit-ok", DEBITED, BOUGHT),
        ("bank-debit-fail", RETURNED, ("failed", NONE, 0)),
        ("duplicate", [line for line in PAID for _ in range(2)], BOUGHT),
        ("wrong-account", FOREIGN, NOTHING),
        ("test-mode", LIVE, NOTHING),
        ("refund", [*PAID, *REFUNDED], ("refunded", NONE, 0)),
        ("partial-refund", [*PAID, *REFUNDED], ("partially_refunded", ALL, 5)),
        (
            "refund-failed",
            [
                *PAID,
                *REFUNDED,
                "refund.failed: answered 200, done: refund_recorded",
                "charge.refund.updated: answered 200, done: refund_recorded",
            ],
            BOUGHT,
        ),
        ("dispute", [*PAID, *DISPUTED], ("disputed", NONE, 10)),
        (
            "dispute-won",
            [
                *PAID,
                *DISPUTED,
                *CLOSED,
                "charge.dispute.funds_reinstated: answered 200, done: dispute_recorded",
            ],
            BOUGHT,
        ),
        ("dispute-lost", [*PAID, *DISPUTED, *CLOSED], ("lost", NONE, 0)),
    ],
)
def test_a_scenario_prints_each_outcome_and_leaves_its_state(
    simulate, tenant, plan, arguments, printed, left
):
    output = simulate(*arguments.split())

    assert outcomes(output) == printed
    assert state(tenant) == left


def test_a_shuffled_purchase_with_its_refund_ends_as_in_order(simulate, tenant, plan):
    printed = simulate("shuffle")

    assert len(event_ids(printed)) == 9
    assert len(set(event_ids(printed))) == 6
    assert state(tenant) == ("refunded", NONE, 0)


def test_a_duplicate_is_one_event_and_one_purchase(simulate, plan):
    printed = simulate("duplicate")

    assert len(event_ids(printed)) == 6
    assert StripeEvent.objects.count() == 3
    assert Purchase.objects.count() == 1


def test_what_another_secret_signed_is_not_recorded(simulate, plan):
    printed = simulate("checkout", "--wrong-secret")

    assert outcomes(printed)[2] == f"{COMPLETED}: answered 200, not recorded"
    assert not StripeEvent.objects.exists()


def test_a_live_event_says_so_in_its_envelope_and_its_object(simulate, plan):
    simulate("test-mode")

    event = json.loads(bytes(StripeEvent.objects.get(type=COMPLETED).payload))
    assert event["livemode"] is True
    assert event["data"]["object"]["livemode"] is True


def test_the_session_is_the_checkouts(simulate, tenant, account, plan):
    simulate("checkout")

    checkout, purchase = Checkout.objects.get(), Purchase.objects.get()
    assert checkout.purchase == purchase
    assert checkout.stripe_session_id == purchase.checkout_session_id
    assert purchase.plan == plan
    event = json.loads(bytes(StripeEvent.objects.get(type=COMPLETED).payload))
    assert event["account"] == account.stripe_account_id
    assert event["data"]["object"]["expires_at"] == checkout.expires_at.timestamp()
    assert event["data"]["object"]["metadata"] == {
        "tenant_id": str(tenant.id),
        "checkout_id": str(checkout.id),
        "plan_id": str(plan.id),
    }


# --- credit packages


def test_a_package_is_bought_on_the_platforms_account(simulate, tenant, package):
    printed = simulate("checkout", "--package", "10_credits")

    assert outcomes(printed) == PAID
    assert "Acme Weekly has 10 credits." in printed
    assert Purchase.objects.get().package == package
    events = [json.loads(bytes(record.payload)) for record in StripeEvent.objects.all()]
    assert not any("account" in event for event in events)


def test_a_refunded_package_takes_its_credits_back(simulate, tenant, package):
    printed = simulate("refund", "--package", "10_credits")

    assert "Acme Weekly has 0 credits." in printed
    assert ledger.balance_of(tenant, None) == 0


# --- what is printed at the end


def test_the_end_says_what_the_member_has_and_until_when(simulate, tenant, plan):
    tenant.timezone = "Asia/Tokyo"
    tenant.save()

    printed = simulate("checkout")

    end = Entitlement.objects.first().ends_at.astimezone(tenant.zone)
    until = f"until {end:%Y-%m-%d %H:%M} JST"
    assert f"{EMAIL} has archive {until}, newsletter {until}; 10 credits." in printed


def test_the_last_of_periods_that_follow_one_another_is_named(simulate, plan):
    simulate("checkout")

    printed = simulate("checkout")

    end = max(Entitlement.objects.values_list("ends_at", flat=True))
    assert f"archive until {end:%Y-%m-%d %H:%M} UTC, " in printed


def test_a_plan_without_an_end_is_for_good(simulate, plan):
    plan.duration = ""
    plan.save()

    printed = simulate("checkout")

    assert "archive for good, newsletter for good; 10 credits." in printed


@pytest.mark.parametrize(
    ("scenario", "ending"),
    [
        ("dispute", f"{EMAIL} has no product; 10 credits."),
        ("wrong-account", f"{EMAIL} is no member of Acme Weekly."),
    ],
)
def test_the_end_says_who_has_nothing(simulate, plan, scenario, ending):
    assert ending in simulate(scenario).splitlines()


def test_the_printed_token_is_the_buyers(simulate, allegro, plan, publishable_key):
    token = simulate("checkout").split()[-1]

    answer = post(
        f"{allegro.url}/api/purchases/exchange",
        json.dumps({"token": token}),
        {"Authorization": f"Bearer {publishable_key}", "Content-Type": "application/json"},
    )

    assert json.loads(answer.body)["member"]["email"] == EMAIL


# --- what is refused


def test_a_live_key_is_refused_before_anything_is_written(simulate, plan, settings):
    settings.STRIPE_LIVEMODE = True

    with pytest.raises(CommandError, match="is a live key"):
        simulate("checkout")

    assert not Checkout.objects.exists()


def test_without_a_secret_nothing_can_be_signed(simulate, plan, settings):
    settings.STRIPE_WEBHOOK_SECRET = ""

    with pytest.raises(CommandError, match="Set STRIPE_WEBHOOK_SECRET"):
        simulate("checkout")


def test_a_server_that_does_not_answer_is_named(simulate, plan):
    with pytest.raises(CommandError, match=r"No server answers at http://127\.0\.0\.1:1/ \("):
        simulate("checkout", url="http://127.0.0.1:1/")


def test_any_other_answer_than_200_is_an_error(simulate, allegro, plan):
    with pytest.raises(CommandError, match="3 of 3 deliveries were not answered 200"):
        simulate("checkout", url=f"{allegro.url}/api/elsewhere")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("checkout --tenant nobody", r"--tenant SLUG\. There are: acme\."),
        (f"checkout --plan {OTHER_PLAN}", r"--plan ID\. There are:\n  \S+  Monthly"),
        ("checkout --plan nonsense", r"--plan ID\. There are:\n  \S+  Monthly"),
        ("checkout --package 7_credits", r"--package KEY\. There are: 10_credits\."),
        ("refund --unpaid", "goes with checkout, not with refund"),
        ("unheard-of", "invalid choice"),
        ("checkout --unpaid --async-success", "not allowed with argument"),
    ],
)
def test_what_is_unknown_is_answered_with_what_there_is(simulate, plan, package, arguments, reason):
    with pytest.raises(CommandError, match=reason):
        simulate(*arguments.split())

    assert not Checkout.objects.exists()


def test_a_tenant_without_an_account_is_told_so(simulate, plan):
    PaymentAccount.objects.update(disconnected_at=timezone.now())

    with pytest.raises(CommandError, match="no Stripe account in test mode"):
        simulate("checkout")


def test_of_two_tenants_one_must_be_named(simulate, plan, other_account):
    with pytest.raises(CommandError, match="There are: acme, rival"):
        simulate("checkout")

    assert outcomes(simulate("checkout", "--tenant", "acme")) == PAID
