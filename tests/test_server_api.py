"""What a tenant's server reads, grants and revokes."""

from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from purchases.models import Entitlement, Purchase, PurchaseEvent
from tenants.models import Member
from tests.conftest import changed

ABSENT = "00000000-0000-4000-8000-000000000000"
NOW = timezone.now()


@pytest.fixture
def api(client, secret_key):
    """Call the API as the tenant's server; a body makes it a `POST`."""

    def api(path, body=None, *, method="", key=secret_key, **query):
        call = getattr(client, method or ("get" if body is None else "post"))
        content = {} if body is None else {"data": body, "content_type": "application/json"}
        address = f"/api/v1/{path}{'?' if query else ''}{urlencode(query)}"
        return call(address, headers={"Authorization": f"Bearer {key}"}, **content)

    return api


@pytest.fixture
def ids(api):
    """The ids that a list shows."""

    def ids(path, **query):
        answer = api(path, **query)
        assert answer.status_code == 200
        return [item["id"] for item in answer.json()["data"]]

    return ids


@pytest.fixture
def member(deliver, checkout, paid_event):
    """Who bought the plan."""
    deliver(paid_event)
    return Purchase.objects.get().member


@pytest.fixture
def reader(tenant):
    """Who bought nothing."""
    return Member.objects.create(
        tenant=tenant, email="Reader@example.com", external_id="crm-7", name="Ada"
    )


@pytest.fixture
def grant(api, plan, reader):
    def grant(**fields):
        given = {"member": str(reader.id), "product": "archive", "reason": "press", **fields}
        return api("entitlements", {name: value for name, value in given.items() if value})

    return grant


def error(answer):
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    return answer.status_code, error["type"]


def shown(instant):
    return instant.isoformat().replace("+00:00", "Z")


def events():
    rows = PurchaseEvent.objects.filter(purchase=None).order_by("id")
    return [(row.type, row.data) for row in rows]


# --- members


def test_members_are_listed_with_the_latest_first(api, member, reader):
    first = api("audience-members").json()["data"][0]

    assert first == {
        "id": str(reader.id),
        "email": "Reader@example.com",
        "name": "Ada",
        "external_id": "crm-7",
        "created_at": shown(reader.created_at),
        "disabled_at": None,
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"email": "READER@example.COM"}, ["reader"]),
        ({"email": "ader@example.com"}, []),
        ({"external_id": "crm-7"}, ["reader"]),
        ({"product": "archive"}, ["member"]),
        ({"product": "archive", "email": "reader@example.com"}, []),
        ({"created_after": (NOW - timedelta(days=1)).isoformat()}, ["reader", "member"]),
        ({"created_before": (NOW - timedelta(days=1)).isoformat()}, []),
    ],
)
def test_members_are_found_by(query, found, ids, member, reader):
    people = {"member": str(member.id), "reader": str(reader.id)}

    assert ids("audience-members", **query) == [people[name] for name in found]


def test_an_instant_belongs_to_the_time_after_it(ids, reader):
    instant = shown(reader.created_at)

    assert ids("audience-members", created_after=instant) == [str(reader.id)]
    assert ids("audience-members", created_before=instant) == []


def test_a_member_comes_with_what_is_included(api, member):
    answer = api(f"audience-members/{member.id}", include="entitlements,purchases").json()

    assert [row["product"] for row in answer["entitlements"]] in (
        ["archive", "newsletter"],
        ["newsletter", "archive"],
    )
    assert {row["active"] for row in answer["entitlements"]} == {True}
    assert answer["purchases"][0]["products"] == ["archive", "newsletter"]
    assert answer["purchases"][0]["status"] == "paid"
    assert set(answer) - set(api(f"audience-members/{member.id}").json()) == {
        "entitlements",
        "purchases",
    }


def test_more_members_take_no_more_statements(api, deliver, open_checkout, paid_event):
    def buy(number):
        session = f"cs_test_{number}"
        open_checkout(session)
        event = changed(paid_event, event_id=f"evt_{number}", id=session, payment_intent=session)
        event["data"]["object"]["customer_details"]["email"] = f"member{number}@example.com"
        deliver(event)

    def statements():
        with CaptureQueriesContext(connection) as captured:
            answer = api("audience-members", include="entitlements,purchases")
        assert answer.json()["data"][-1]["purchases"]
        return len(captured)

    buy(1)
    api("products")
    one = statements()
    for number in range(2, 6):
        buy(number)

    assert statements() == one


# --- purchases


def test_a_purchase_is_shown(api, member, plan, paid_event):
    purchase = Purchase.objects.get()

    answer = api(f"purchases/{purchase.id}").json()

    about = paid_event["data"]["object"]
    assert answer["member"] == str(member.id)
    assert answer["plan"] == str(plan.id)
    assert (answer["name"], answer["credits"]) == ("Monthly", 0)
    assert (answer["amount_total"], answer["currency"]) == (25000, "eur")
    assert answer["checkout_session_id"] == about["id"]
    assert answer["payment_intent_id"] == about["payment_intent"]
    assert (answer["status"], answer["fulfilled_by"]) == ("paid", "webhook")


def test_a_purchase_of_which_only_the_payment_is_known_is_shown(api, ids, reader):
    purchase = Purchase.objects.create(
        tenant=reader.tenant,
        member=reader,
        livemode=False,
        amount_subtotal=1000,
        amount_total=1000,
        currency="eur",
        payment_status="unpaid",
        status="pending",
    )

    assert ids("purchases") == [str(purchase.id)]
    assert api(f"purchases/{purchase.id}").json()["products"] == []


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ({"member": "{member}"}, True),
        ({"plan": "{plan}"}, True),
        ({"status": "paid"}, True),
        ({"status": "refunded"}, False),
        ({"checkout_session": "{checkout_session_id}"}, True),
        ({"checkout_session": "cs_test_of_nobody"}, False),
        ({"payment_intent": "{payment_intent_id}"}, True),
        ({"created_before": "2020-01-01T00:00:00Z"}, False),
        ({"created_after": "2020-01-01T00:00:00Z"}, True),
    ],
)
def test_purchases_are_found_by(query, is_found, ids, member):
    purchase = Purchase.objects.get()
    values = {
        name: getattr(purchase, name) for name in ("checkout_session_id", "payment_intent_id")
    }
    values |= {"member": purchase.member_id, "plan": purchase.plan_id}
    asked = {name: value.format(**values) for name, value in query.items()}

    assert ids("purchases", **asked) == ([str(purchase.id)] if is_found else [])


# --- entitlements


def test_entitlements_are_found_by_member_product_and_state(api, ids, member, grant):
    granted = grant().json()["id"]
    ended = grant(starts_at="2020-01-01T00:00:00Z", ends_at="2021-01-01T00:00:00Z").json()["id"]

    assert len(ids("entitlements")) == 4
    assert ids("entitlements", active="false") == [ended]
    assert ended not in ids("entitlements", active="true")
    assert set(ids("entitlements", product="archive")) >= {granted, ended}
    assert len(ids("entitlements", member=member.id)) == 2
    assert len(ids("entitlements", member=member.id, product="archive", active="true")) == 1


def test_access_is_granted_by_hand(grant, reader):
    answer = grant(ends_at="2999-01-01T00:00:00Z")

    row = Entitlement.objects.get()
    assert answer.status_code == 201
    assert answer.json() == {
        "id": str(row.id),
        "member": str(reader.id),
        "product": "archive",
        "product_name": "Archive",
        "purchase": None,
        "active": True,
        "starts_at": shown(row.starts_at),
        "ends_at": "2999-01-01T00:00:00Z",
        "suspended_at": None,
        "revoked_at": None,
        "reason": "press",
    }
    data = {
        "product": "archive",
        "starts_at": row.starts_at.isoformat(),
        "ends_at": "2999-01-01T00:00:00+00:00",
        "reason": "press",
        "by": "api",
    }
    assert events() == [("entitlement.granted", data)]


@pytest.mark.parametrize(("email", "added"), [("READER@example.com", 0), ("new@example.com", 1)])
def test_an_email_finds_or_adds_the_member(email, added, grant, reader):
    answer = grant(member=None, email=email)

    assert answer.status_code == 201
    assert Member.objects.count() == 1 + added
    assert Entitlement.objects.get().member.email.lower() == email.lower()


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": ""},
        {"reason": "x" * 201},
        {"product": None},
        {"member": None},
        {"email": "reader@example.com"},
        {"starts_at": "2030-01-01T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z"},
        {"ends_at": "2020-01-01T00:00:00Z"},
        {"ends_at": "tomorrow"},
    ],
)
def test_a_grant_that_makes_no_sense_is_refused(fields, grant):
    assert error(grant(**fields)) == (400, "invalid_request")
    assert not Entitlement.objects.exists()
    assert events() == []


def test_a_grant_moves_no_period_that_was_bought(deliver, grant, member, open_checkout, paid_event):
    grant(member=str(member.id), ends_at="2999-01-01T00:00:00Z")
    first = Entitlement.objects.get(purchase__isnull=False, product__slug="archive")
    open_checkout("cs_test_2")

    deliver(changed(paid_event, event_id="evt_2", id="cs_test_2", payment_intent="pi_2"))

    bought = Entitlement.objects.filter(purchase__isnull=False, product__slug="archive")
    assert [row.starts_at for row in bought.order_by("starts_at")] == [
        first.starts_at,
        first.ends_at,
    ]


def test_a_grant_is_revoked_once(api, grant):
    granted = grant().json()["id"]

    answers = [
        api(f"entitlements/{granted}", method="delete", reason=reason)
        for reason in ("left", "again")
    ]

    assert [answer.status_code for answer in answers] == [204, 204]
    row = Entitlement.objects.get()
    assert row.revoked_at
    assert row.reason == "left"
    assert [kind for kind, _ in events()] == ["entitlement.granted", "entitlement.revoked"]
    assert events()[1][1]["reason"] == "left"


def test_the_reason_of_a_revocation_may_be_in_the_body(api, grant):
    granted = grant().json()["id"]

    answer = api(f"entitlements/{granted}", {"reason": "left"}, method="delete")

    assert answer.status_code == 204
    assert Entitlement.objects.get().reason == "left"


def test_what_was_bought_is_not_revoked_by_hand(api, member):
    row = Entitlement.objects.first()

    answer = api(f"entitlements/{row.id}", method="delete")

    assert error(answer) == (409, "granted_by_purchase")
    assert Entitlement.objects.active().count() == 2


# --- access


def test_a_member_who_bought_has_access(api, member):
    row = Entitlement.objects.get(product__slug="archive")

    answer = api("access", member=member.id, product="archive").json()

    assert (answer["access"], answer["ends_at"]) == (True, shown(row.ends_at))
    assert [item["id"] for item in answer["entitlements"]] == [str(row.id)]


@pytest.mark.parametrize("name", ["member", "email", "external_id"])
def test_a_member_is_named_in_three_ways(name, api, grant, reader):
    grant()
    names = {"member": reader.id, "email": "reader@EXAMPLE.com", "external_id": "crm-7"}

    answer = api("access", product="archive", **{name: names[name]}).json()

    assert answer["member"] == str(reader.id)
    assert answer["access"] is True


def test_access_is_asked_of_one_member(api, reader, plan):
    twice = api("access", product="archive", member=reader.id, external_id="crm-7")

    assert error(twice) == (400, "invalid_request")
    assert error(api("access", product="archive")) == (400, "invalid_request")
    assert error(api("access", member=reader.id)) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("grants", "access", "ends_at"),
    [
        ([], False, None),
        ([{}], True, None),
        ([{"ends_at": "2998-01-01T00:00:00Z"}], True, "2998-01-01T00:00:00Z"),
        (
            [{"ends_at": "2999-01-01T00:00:00Z"}, {"ends_at": "2998-01-01T00:00:00Z"}],
            True,
            "2999-01-01T00:00:00Z",
        ),
        ([{"ends_at": "2999-01-01T00:00:00Z"}, {}], True, None),
        ([{"starts_at": "2998-01-01T00:00:00Z"}], False, None),
        ([{"starts_at": "2020-01-01T00:00:00Z", "ends_at": "2021-01-01T00:00:00Z"}], False, None),
    ],
)
def test_access_lasts_to_the_latest_end(grants, access, ends_at, api, grant, reader):
    for fields in grants:
        grant(**fields)

    answer = api("access", member=reader.id, product="archive").json()

    assert (answer["access"], answer["ends_at"]) == (access, ends_at)


def test_a_disabled_member_has_no_access(api, ids, member):
    member.disabled_at = NOW
    member.save()

    answer = api("access", member=member.id, product="archive").json()

    assert (answer["access"], answer["entitlements"]) == (False, [])
    assert ids("audience-members", product="archive") == []
    assert api(f"audience-members/{member.id}").json()["disabled_at"] == shown(NOW)


# --- catalog


def test_products_and_plans_are_listed(api, plan):
    assert api("products").json()["data"] == [
        {"slug": "archive", "name": "Archive"},
        {"slug": "newsletter", "name": "Newsletter"},
    ]
    assert api("plans").json()["data"] == [
        {
            "id": str(plan.id),
            "name": "Monthly",
            "offer": "membership",
            "products": ["archive", "newsletter"],
            "amount": 25000,
            "currency": "eur",
            "duration": "P1M",
            "credits": 0,
            "is_active": True,
        }
    ]


# --- all of them


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("audience-members", {"product": "bygone"}),
        ("audience-members/no-uuid", {}),
        (f"audience-members/{ABSENT}", {}),
        ("purchases", {"member": ABSENT}),
        ("purchases", {"member": "no-uuid"}),
        ("purchases", {"plan": ABSENT}),
        ("purchases/no-uuid", {}),
        ("entitlements", {"member": ABSENT}),
        ("entitlements", {"product": "bygone"}),
        ("access", {"member": ABSENT, "product": "archive"}),
        ("access", {"email": "nobody@example.com", "product": "archive"}),
        ("access", {"external_id": "crm-7", "product": "bygone"}),
        ("credits", {"member": "no-uuid"}),
    ],
)
def test_what_the_tenant_does_not_have_is_not_found(path, query, api, reader, plan):
    assert error(api(path, **query)) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("audience-members", {"include": "secrets"}),
        ("audience-members", {"created_after": "yesterday"}),
        ("audience-members", {"created_after": "0001-01-01T00:00:00+23:59"}),
        ("audience-members", {"email": "no-address"}),
        ("audience-members", {"external_id": "\0"}),
        ("audience-members", {"product": "\0"}),
        ("purchases", {"status": "stolen"}),
        ("purchases", {"checkout_session": "cs\0"}),
        ("purchases", {"member": ""}),
        ("entitlements", {"active": "perhaps"}),
        ("access", {"email": "\0", "product": "archive"}),
        ("events", {"limit": 501}),
        ("events", {"limit": 0}),
        ("events", {"type": "purchase.stolen"}),
        ("events", {"after": "-1"}),
        ("events", {"after": "9" * 100}),
    ],
)
def test_what_makes_no_sense_is_refused(path, query, api, plan):
    assert error(api(path, **query)) == (400, "invalid_request")


@pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 5000, "2"])
def test_a_page_that_is_not_there_is_not_found(page, api):
    assert error(api("purchases", page=page)) == (404, "not_found")


def test_a_publishable_key_reads_nothing(api, publishable_key):
    assert error(api("purchases", key=publishable_key)) == (401, "authentication_failed")
