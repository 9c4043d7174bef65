"""Credits: tenants buy them, plans carry them, servers spend them, and never one too many."""

import json
import uuid
from datetime import datetime
from urllib.parse import urlsplit

import pytest

from purchases.models import CreditEntry, CreditPackage, PurchaseEvent
from tenants import tokens
from tenants.keys import create_key
from tenants.models import ApiKey, Member
from tests.conftest import changed, stripe_event
from tests.sandbox_server import KEY, SECRET, running_sandbox
from tests.server import post, request, running_server
from tests.test_concurrency import at_once

PAID = stripe_event("checkout.session.completed.paid")
URLS = {"success_url": "https://acme.example/done", "cancel_url": "https://acme.example/"}


@pytest.fixture
def plan(plan):
    """The plan, with ten credits for the member."""
    plan.credits = 10
    plan.save()
    return plan


@pytest.fixture
def api(client, secret_key):
    """Call the API as the tenant's server; a body makes it a `POST`."""

    def api(path, body=None, *, key=secret_key, **headers):
        headers = {"Authorization": f"Bearer {key}", **headers}
        if body is None:
            return client.get(f"/api/v1/{path}", headers=headers)
        return client.post(
            f"/api/v1/{path}", body, content_type="application/json", headers=headers
        )

    return api


@pytest.fixture
def spend(api):
    def spend(amount, idempotency_key="order-1", **body):
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return api("credits/spend", {"amount": amount, **body}, **headers)

    return spend


@pytest.fixture
def balance(api):
    def balance(member=None):
        query = f"?member={member.id}" if member else ""
        return api(f"credits{query}").json()["balance"]

    return balance


@pytest.fixture
def buy_package(deliver, package):
    """The tenant pays the platform for ten credits."""

    def buy_package(number=1):
        deliver(of_the_platform(PAID, number, id=f"cs_test_{number}"))

    return buy_package


def of_the_platform(event, number, **fields):
    event = changed(
        event, event_id=f"{event['id']}_{number}", payment_intent=f"pi_{number}", **fields
    )
    del event["account"], event["context"]
    return event


@pytest.fixture
def member(deliver, checkout, paid_event):
    """A member who bought the plan, and with it ten credits."""
    deliver(paid_event)
    return Member.objects.get()


@pytest.fixture
def foreign_member(other_account):
    return Member.objects.create(tenant=other_account.tenant, email="other@example.com")


def error(answer):
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    return answer.status_code, error["type"]


# --- buying


def test_the_packages_on_sale_are_listed(api, package):
    CreditPackage.objects.create(key="1_credit", credits=1, amount=3000, currency="eur")
    CreditPackage.objects.create(key="old", credits=5, amount=1, currency="eur", is_active=False)

    assert api("credit-packages").json()["data"] == [
        {"key": "1_credit", "credits": 1, "amount": 3000, "currency": "eur"},
        {"key": "10_credits", "credits": 10, "amount": 25000, "currency": "eur"},
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"package": "11_credits"}, (404, "package_not_found")),
        ({"package": "old"}, (404, "package_not_found")),
        ({"package": ""}, (400, "invalid_request")),
        ({"success_url": "/done"}, (400, "invalid_return_url")),
        ({"success_url": "{CHECKOUT_SESSION_ID}"}, (400, "invalid_return_url")),
        ({"cancel_url": "javascript:alert(1)"}, (400, "invalid_return_url")),
    ],
)
def test_a_checkout_for_what_is_not_sold_is_refused(fields, expected, api, package):
    CreditPackage.objects.create(key="old", credits=5, amount=1, currency="eur", is_active=False)

    answer = api("credits/checkout", {"package": "10_credits", **URLS, **fields})

    assert error(answer) == expected


@pytest.mark.parametrize("path", ["credit-packages", "credits", "credits/entries"])
def test_only_the_tenants_server_is_let_in(path, api, publishable_key):
    assert error(api(path, key=publishable_key))[0] == 401


@pytest.mark.parametrize("number", [1, 3])
def test_bought_packages_are_the_tenants_balance(number, buy_package, balance):
    [buy_package(count) for count in range(number)]

    assert balance() == 10 * number


def test_a_package_told_of_twice_counts_once(buy_package, balance):
    buy_package()
    buy_package()

    assert balance() == 10


def test_tenant_and_member_have_balances_of_their_own(buy_package, member, balance, spend):
    buy_package(2)

    spend(3, member=str(member.id))

    assert (balance(), balance(member)) == (10, 7)


def test_nobody_has_credits_to_begin_with(balance, tenant):
    member = Member.objects.create(tenant=tenant, email="new@example.com")

    assert (balance(), balance(member)) == (0, 0)


# --- reading


def test_the_lines_are_listed_latest_first(api, member, spend):
    spend(4, "order-1", member=str(member.id))

    lines = api(f"credits/entries?member={member.id}").json()["data"]

    kept = ("kind", "amount", "balance_after", "idempotency_key", "member")
    assert [tuple(line[name] for name in kept) for line in lines] == [
        ("spend", -4, 6, "order-1", str(member.id)),
        ("purchase", 10, 10, None, str(member.id)),
    ]
    assert lines[1]["purchase"] == str(member.purchases.get().id)
    assert datetime.fromisoformat(lines[0]["created_at"])


def test_the_lines_come_in_pages(api, buy_package):
    [buy_package(number) for number in range(3)]

    page = api("credits/entries?per_page=2&page=2").json()

    assert [line["balance_after"] for line in page["data"]] == [10]
    assert page["meta"]["pagination"]["total"] == 3


@pytest.fixture
def as_member(client, member):
    """Call the API from the member's browser."""

    def as_member(path, *, authenticated=True):
        session = tokens.open_session(
            member,
            authenticated=authenticated,
            purchase_id=member.purchases.get().id,
            refresh_token=tokens.new_refresh_token(),
        )
        token, _ = tokens.issue_jwt(session, products=[])
        return client.get(path, headers={"Authorization": f"Bearer {token}"}).json()

    return as_member


def test_a_member_sees_credits_and_purchases(as_member, member, spend):
    spend(4, member=str(member.id))

    purchases = as_member("/api/purchases")["data"]

    assert as_member("/api/credits") == {"balance": 6}
    assert [(row["name"], row["status"], row["amount_total"]) for row in purchases] == [
        ("Monthly", "paid", 25000)
    ]


def test_a_member_sees_a_refund_at_once(as_member, deliver):
    deliver(stripe_event("charge.refunded.full"))

    assert as_member("/api/credits") == {"balance": 0}
    assert as_member("/api/purchases")["data"][0]["status"] == "refunded"
    assert as_member("/api/entitlements")["data"] == []


def test_an_unproven_session_sees_no_balance(as_member):
    assert as_member("/api/credits", authenticated=False) == {"balance": 0}


# --- spending


def test_spending_answers_with_the_line(member, spend, balance):
    answer = spend(4, member=str(member.id))

    assert answer.status_code == 201
    line = answer.json()
    assert (line["kind"], line["amount"], line["balance_after"]) == ("spend", -4, 6)
    assert balance(member) == 6
    assert PurchaseEvent.objects.latest("id").type == "credits.spent"


def test_the_same_key_again_returns_the_same_line(buy_package, spend, balance):
    buy_package()

    answers = [spend(4).json() for _ in range(3)]

    assert answers == [answers[0]] * 3
    assert balance() == 6


def test_the_same_key_still_answers_when_nothing_is_left(buy_package, spend):
    buy_package()
    first = spend(10).json()

    assert spend(10).json() == first


@pytest.mark.parametrize("changes", [{"amount": 5}, {"to_member": True}], ids=str)
def test_the_same_key_for_something_else_is_a_conflict(
    changes, buy_package, member, spend, balance
):
    buy_package(2)
    spend(4)
    whose = {"member": str(member.id)} if "to_member" in changes else {}

    answer = spend(changes.get("amount", 4), **whose)

    assert error(answer) == (409, "idempotency_conflict")
    assert (balance(), balance(member)) == (6, 10)


def test_a_key_is_the_tenants_own(buy_package, spend, api, other_account):
    buy_package()
    rival = create_key(other_account.tenant, ApiKey.Kind.SECRET)
    spend(4, "order-1")

    answer = api("credits/spend", {"amount": 4}, key=rival, **{"Idempotency-Key": "order-1"})

    assert error(answer) == (422, "insufficient_credits")


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "größe"])
def test_spending_needs_a_key(key, buy_package, spend, balance):
    buy_package()

    answer = spend(4, key)

    assert error(answer) == (400, "invalid_request")
    assert balance() == 10


@pytest.mark.parametrize("amount", [0, -1, 1.5, "many", None, True, 10**10, [1]])
def test_only_whole_credits_are_spent(amount, buy_package, spend, balance):
    buy_package()

    answer = spend(amount)

    assert error(answer) == (400, "invalid_request")
    assert balance() == 10


def test_more_than_there_is_can_not_be_spent(buy_package, spend, balance):
    buy_package()

    answer = spend(11)

    assert error(answer) == (422, "insufficient_credits")
    assert answer.json()["error"]["details"] == {"balance": 10, "required": 11}
    assert balance() == 10


def test_a_key_that_was_refused_may_be_used_again(buy_package, spend):
    spend(4)
    buy_package()

    assert spend(4).status_code == 201


@pytest.mark.parametrize("who", ["foreign", "unknown", "no uuid"])
def test_anothers_member_is_like_one_that_does_not_exist(who, api, spend, foreign_member):
    member = {"foreign": foreign_member.id, "unknown": uuid.uuid4(), "no uuid": "nobody"}[who]

    answers = [
        api(f"credits?member={member}"),
        api(f"credits/entries?member={member}"),
        spend(1, member=str(member)),
    ]

    assert [error(answer) for answer in answers] == [(404, "not_found")] * 3
    assert len({answer.json()["error"]["message"] for answer in answers}) == 1


def test_nobody_sees_anothers_credits(api, buy_package, other_account):
    rival = create_key(other_account.tenant, ApiKey.Kind.SECRET)
    buy_package()

    assert api("credits", key=rival).json() == {"balance": 0}
    assert api("credits/entries", key=rival).json()["data"] == []


# --- debts


def test_refunded_credits_that_were_spent_are_a_debt(buy_package, spend, balance, deliver):
    buy_package(1)
    spend(8)

    deliver(of_the_platform(stripe_event("charge.refunded.full"), 1))
    answer = spend(1, "order-2")

    assert balance() == -8
    assert answer.json()["error"]["details"] == {"balance": -8, "required": 1}


def test_the_next_purchase_pays_the_debt_first(buy_package, spend, balance, deliver):
    buy_package(1)
    spend(8)
    deliver(of_the_platform(stripe_event("charge.refunded.full"), 1))

    buy_package(2)

    assert balance() == 2
    assert spend(3, "order-2").status_code == 422
    assert spend(2, "order-3").status_code == 201


# --- at once, and from end to end


@pytest.fixture(scope="module")
def market(django_db_setup):
    """The running server, and the sandbox that it takes for Stripe."""
    with running_sandbox() as sandbox:
        env = {
            "STRIPE_API_BASE": sandbox.url,
            "STRIPE_SECRET_KEY": KEY,
            "STRIPE_WEBHOOK_SECRET": SECRET,
        }
        with running_server(threads=8, env=env) as server:
            webhook = f"{server.url}/api/webhooks/stripe"
            sandbox.set_endpoints({"url": webhook, "secret": SECRET})
            yield server, sandbox


@pytest.fixture
def remote(market, transactional_db, secret_key):
    """A call of the running server's API, as the tenant's server."""

    def remote(path, body=None, **headers):
        headers = {"Authorization": f"Bearer {secret_key}", **headers}
        url = f"{market[0].url}/api/v1/{path}"
        if body is None:
            return lambda: request("GET", url, headers=headers)
        headers["Content-Type"] = "application/json"
        return lambda: post(url, json.dumps(body).encode(), headers)

    return remote


def test_a_package_is_paid_for_and_then_on_the_balance(market, remote, package):
    opened = remote("credits/checkout", {"package": package.key, **URLS})()
    page = json.loads(opened.body)["checkout_url"]
    session = urlsplit(page).path.rpartition("/")[2]

    market[1].pay(session)

    assert opened.status == 201
    assert json.loads(remote("credits")().body) == {"balance": 10}
    assert json.loads(remote("credits/entries")().body)["data"][0]["kind"] == "purchase"


def test_a_refund_at_stripe_takes_the_credits_back(market, remote, package, tenant):
    opened = remote("credits/checkout", {"package": package.key, **URLS})()
    session = urlsplit(json.loads(opened.body)["checkout_url"]).path.rpartition("/")[2]
    market[1].pay(session)

    market[1].refund(tenant.purchases.get().payment_intent_id, 5000)

    assert json.loads(remote("credits")().body) == {"balance": 8}


def test_twenty_at_once_never_oversell(remote, buy_package, tenant):
    buy_package()

    answers = at_once(
        [
            remote("credits/spend", {"amount": 1}, **{"Idempotency-Key": f"order-{number}"})
            for number in range(20)
        ]
    )

    assert sorted(answer.status for answer in answers) == [201] * 10 + [422] * 10
    assert sorted(balances()) == list(range(11))


def balances():
    return CreditEntry.objects.values_list("balance_after", flat=True)


def test_twenty_repeats_at_once_spend_once(remote, buy_package):
    buy_package()

    answers = at_once(
        [remote("credits/spend", {"amount": 4}, **{"Idempotency-Key": "order-1"})] * 20
    )

    assert {answer.status for answer in answers} == {201}
    assert len({answer.body for answer in answers}) == 1
    assert sorted(balances()) == [6, 10]
